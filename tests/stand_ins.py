"""Stand-ins that do the real thing with less: no torch, no wall clock, no network. They remember what they did."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence

from policies.observation import Box, EnsembleInfo, ModelInfo, Prediction
from server.domain.announcements import Announcement, Notice, NoticeGiven, Outgoing
from server.domain.errors import Unprocessable

Answers = Mapping[str, tuple[Prediction, ...] | None]


class ScriptedEnsemble:
    """Answers from a table: SHA-256 of an image -> what each model says of it.

    An image that is not in the table shows nothing; one that was `break_`-ed cannot be decoded. `asked` holds the
    images of every call. With a `gate`, each call waits there until every party has come.
    """

    def __init__(self, models: Sequence[ModelInfo], ensemble: str = "ensemble-1") -> None:
        self.ensemble_info = EnsembleInfo(ensemble, tuple(models))
        self.asked: list[tuple[bytes, ...]] = []
        self.crops: list[dict[str, Box]] = []
        self.enlarged: list[tuple[Box, ...]] = []
        self.gate: threading.Barrier | None = None
        self._table: dict[str, Answers] = {}
        self._broken: set[str] = set()

    def teach(self, image: bytes, answers: Answers) -> bytes:
        """From now on this image gets these answers. Gives the image back."""
        self._table[_sha256(image)] = answers
        return image

    def break_(self, image: bytes) -> bytes:
        """From now on this image cannot be decoded. Gives the image back."""
        self._broken.add(_sha256(image))
        return image

    def only(self, model: str | None, within_s: float | None = None) -> ScriptedEnsemble:
        return self

    def answer(
        self, images: Sequence[bytes], crops: Mapping[str, Box] | None = None, enlarged: Sequence[Box] = ()
    ) -> list[Answers]:
        self.asked.append(tuple(images))
        self.crops.append(dict(crops or {}))
        self.enlarged.append(tuple(enlarged))
        said: list[Answers] = []
        for index, image in enumerate(images):
            if _sha256(image) in self._broken:
                raise Unprocessable("the image cannot be decoded", frame=index)
            said.append(self._said(image))
        if self.gate is not None:
            self.gate.wait(timeout=10)
        return said

    def _said(self, image: bytes) -> Answers:
        said = self._table.get(_sha256(image), {})
        return {model_info.model: said.get(model_info.model, ()) for model_info in self.ensemble_info.models}


class ManualClock:
    """A clock that stands still until it is told otherwise; call it for microseconds of Unix time."""

    def __init__(self, now_us: int) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        return self.now_us

    def advance(self, seconds: float) -> None:
        self.now_us += round(seconds * 1_000_000)


class RecordingChannel:
    """Keeps what it was sent. `fail_next` makes so many sends raise; `arrived` is notified of the others."""

    def __init__(self, name: str = "recording") -> None:
        self.name = name
        self.sent: list[Announcement] = []
        self.notices: list[Notice] = []
        self.fail_next = 0
        self.arrived = threading.Condition()

    def send(self, outgoing: Outgoing) -> None:
        if self.fail_next:
            self.fail_next -= 1
            raise ConnectionError("the channel is down")
        with self.arrived:
            if isinstance(outgoing, NoticeGiven):
                self.notices.append(outgoing.notice)
            else:
                self.sent.append(outgoing)
            self.arrived.notify_all()

    def wait_for(self, count: int, timeout_s: float = 10.0) -> None:
        """Wait until so many were sent. Raises TimeoutError."""
        with self.arrived:
            if not self.arrived.wait_for(lambda: len(self.sent) + len(self.notices) >= count, timeout_s):
                raise TimeoutError(f"{len(self.sent) + len(self.notices)} of {count} announcements came")


def _sha256(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()
