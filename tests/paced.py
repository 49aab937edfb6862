"""An ensemble without weights whose images take a given time, so that queueing can be seen on any machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from policies.observation import EnsembleInfo, ModelInfo, Prediction
from server.domain.ensemble_protocol import Payload
from server.engine.stages import Answer
from server.serving.loading import Loaded


class PacedStages:
    """Each image takes `image_s` of a worker's time, in which the worker sleeps. It sees nothing in any image."""

    on_accelerator = False
    needs_postprocessing = False

    def __init__(self, image_s: float, batch_images: int = 4) -> None:
        self.image_s = image_s
        self.batch_images = batch_images
        self.ensemble_info = EnsembleInfo("d" * 64, (ModelInfo("paced", frozenset({"person"}), boxes=True),))

    def only(self, model: str) -> PacedStages:
        return self

    def enter(self) -> None:
        pass

    def prepare(self, payload: Payload) -> bytes:
        return payload[0]

    def infer(self, rows: Sequence[bytes]) -> list[Answer]:
        time.sleep(self.image_s * len(rows))
        nothing: tuple[Prediction, ...] = ()
        return [{"paced": nothing} for _ in rows]

    def postprocess(self, inferred: Sequence[Answer], start: int, stop: int) -> list[Answer]:
        return list(inferred[start:stop])

    def answer(self, images: Sequence[bytes]) -> list[Answer]:
        return self.infer(images)


def paced(image_s: float, models: Sequence[str]) -> Loaded[Any]:
    """What `create_app` takes as `loading`, with `image_s` bound."""
    return Loaded(tuple(models), PacedStages(image_s), lambda _answering: None)
