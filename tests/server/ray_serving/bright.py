"""An ensemble that answers at once. Replicas load it without the rest of the server."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

from policies.observation import EnsembleInfo, ModelInfo, Prediction
from server.domain.ensemble_protocol import Payload
from server.engine.stages import Answer
from server.serving.loading import Loaded

_BRIGHT = 200


class Bright:
    """Boxes the bright part of each picture as a person."""

    on_accelerator = False
    needs_postprocessing = False
    batch_images = 4

    def __init__(self) -> None:
        self.ensemble_info = EnsembleInfo("b" * 64, (ModelInfo("bright", frozenset({"person"}), boxes=True),))

    def only(self, model: str) -> Bright:
        return self

    def enter(self) -> None:
        pass

    def prepare(self, payload: Payload) -> tuple[Prediction, ...]:
        with Image.open(io.BytesIO(payload[0])) as picture:
            width, height = picture.size
            found = picture.convert("L").point(lambda level: 255 * (level >= _BRIGHT)).getbbox()
        if found is None:
            return ()
        left, top, right, bottom = found
        return (Prediction("person", 0.9, (left / width, top / height, right / width, bottom / height)),)

    def infer(self, rows: Sequence[tuple[Prediction, ...]]) -> list[Answer]:
        return [{"bright": row} for row in rows]

    def postprocess(self, inferred: Sequence[Answer], start: int, stop: int) -> list[Answer]:
        return list(inferred[start:stop])

    def answer(self, images: Sequence[bytes]) -> list[Answer]:
        return self.infer([self.prepare((image, index, {}, ())) for index, image in enumerate(images)])


def load(models: Sequence[str], /) -> Loaded[Any]:
    """What `create_app` takes as `loading`."""
    return Loaded(tuple(models), Bright(), lambda _answering: None)
