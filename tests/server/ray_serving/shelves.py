"""Ensembles without torch that several processes can load: what they say, and when, is in files of a folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from policies.observation import Box, EnsembleInfo, ModelInfo, Prediction
from server.domain.ensemble_protocol import Answering, Payload
from server.domain.errors import ConfigurationError, TooLarge, Unapproved, Unprocessable
from server.engine.stages import Answer
from server.serving.loading import Loaded

BROKEN = b"broken"
TOO_LARGE = b"too large"
FATAL = b"fatal"
SILENTLY = "silently"
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)

_GOLDEN = b"golden"


class FolderShelf:
    """Loads ensembles whose state is in `folder`: `edition`, `fault` and `drifted` are files that a test writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("asking", "gate"):
            if not (folder / name).exists():
                os.mkfifo(folder / name)

    def write(self, **files: str) -> None:
        """Write these files; one without text goes."""
        for name, text in files.items():
            path = self.folder / name
            path.write_text(text) if text else path.unlink(missing_ok=True)

    def digest(self, *models: str, edition: str = "0") -> str:
        """The name of the ensemble of these models in this folder."""
        return hashlib.sha256(f"{self.folder} {models} {edition}".encode()).hexdigest()

    def load(self, models: Sequence[str], /) -> Loaded[Any]:
        """What `create_app` takes as `loading`."""
        if fault := self.read("fault"):
            raise ConfigurationError(fault)
        signing = FolderSigning(self, models, self.digest(*models, edition=self.read("edition") or "0"))
        return Loaded(tuple(models), signing, self._check)

    def read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def wait_until_asked(self) -> None:
        """Return when an ensemble has begun to answer while `closed` is there and not SILENTLY."""
        (self.folder / "asking").read_text()

    def open_gate(self) -> None:
        """Let an ensemble that was asked go on."""
        (self.folder / "gate").write_text("go")

    def let_all_go_on(self) -> None:
        """The same for all that wait now, if any do."""
        with suppress(OSError):  # none does
            os.close(os.open(self.folder / "gate", os.O_WRONLY | os.O_NONBLOCK))

    def _check(self, answering: Answering) -> None:
        answering.answer([_GOLDEN])
        if answering.ensemble_info.ensemble in self.read("drifted"):
            raise Unapproved("they say `cat` instead of `person`")


class FolderSigning:
    """Each model labels each frame with its own name and the frame's bytes, and names crops and enlarged parts."""

    batch_images = 2
    needs_postprocessing = True
    on_accelerator = False

    def __init__(self, shelf: FolderShelf, models: Sequence[str], digest: str) -> None:
        self._shelf = shelf
        self._models = tuple(models)
        self.ensemble_info = EnsembleInfo(
            digest, tuple(ModelInfo(model, frozenset({"a", "b"}), boxes=False) for model in models)
        )

    def enter(self) -> None:
        return

    def only(self, model: str) -> FolderSigning:
        return FolderSigning(self._shelf, (model,), self.ensemble_info.ensemble)

    def prepare(self, payload: Payload) -> str:
        image, index, crops, enlarged = payload
        if image == BROKEN:
            raise Unprocessable("no picture", frame=index)
        if image == TOO_LARGE:
            raise TooLarge("too many pixels", frame=index)
        if image == FATAL:
            raise RuntimeError("the network fell over")
        return f"{_digest(image)} {sorted(crops)} {[list(box) for box in enlarged]}"

    def infer(self, rows: Sequence[str]) -> list[Answer]:
        closed = self._shelf.read("closed")
        if closed and not all(row.startswith(_digest(_GOLDEN)) for row in rows):
            if closed != SILENTLY:
                (self._shelf.folder / "asking").write_text("asked")
            (self._shelf.folder / "gate").read_text()
        return [{model: (Prediction(f"{model} {row}", 1.0, WHOLE),) for model in self._models} for row in rows]

    def postprocess(self, inferred: Sequence[Answer], start: int, stop: int) -> Sequence[Answer]:
        return inferred[start:stop]

    def answer(self, images: Sequence[bytes]) -> Sequence[Answer]:
        return self.infer([self.prepare((image, index, {}, ())) for index, image in enumerate(images)])


def said(model: str, image: bytes, crops: Sequence[str] = (), enlarged: Sequence[Box] = ()) -> str:
    """The label that a model of FolderSigning gives."""
    return f"{model} {_digest(image)} {sorted(crops)} {[list(box) for box in enlarged]}"


def _digest(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()[:8]
