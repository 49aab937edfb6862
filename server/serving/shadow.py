"""A candidate in the shadow of the ensemble in service: asked about the same live frames, its labels compared.

Only a sample of the requests is asked about, one at a time and on capacity that nobody else wants, so nobody waits
for it: while one is being compared the others pass by.
"""

from __future__ import annotations

import queue
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from policies.observation import Box, EnsembleInfo, Prediction
from server.domain.errors import RetryLater
from server.pipeline.response import top_label

Answers = Sequence[Mapping[str, tuple[Prediction, ...] | None]]
Early = Callable[[Answers], None]


class Changed(msgspec.Struct, frozen=True):
    """So many frames to which a model gave the label `was` now have the label `now`."""

    model: str
    was: str
    now: str
    frames: int


class Comparison(msgspec.Struct, frozen=True):
    """What came of the shadow: of `frames` frames of `requests` requests, where the labels differ; most often first.

    A label is the one that FlexServe's endpoints give: empty where the model did not answer.
    """

    requests: int
    frames: int
    changed: tuple[Changed, ...]


class Candidate(Protocol):
    @property
    def ensemble_info(self) -> EnsembleInfo: ...

    def answer_spare(self, images: Sequence[bytes], crops: Mapping[str, Box] | None, *, within_s: float) -> Answers:
        """Raises RetryLater when nothing was to spare for so long."""
        ...


class Ensemble(Protocol):
    @property
    def ensemble_info(self) -> EnsembleInfo: ...

    def only(self, model: str | None, within_s: float | None = ...) -> Ensemble: ...

    def answer(
        self, images: Sequence[bytes], crops: Mapping[str, Box] | None = ..., early: Early | None = ...
    ) -> Answers: ...


class _Sample(NamedTuple):
    images: Sequence[bytes]
    crops: Mapping[str, Box] | None
    answers: Answers


class Shadow:
    """Compares a candidate with what is served, for at most `seconds` and until `frames` frames (0: no bound)."""

    def __init__(self, candidate: Candidate, *, seconds: float, frames: int = 0) -> None:
        self._candidate = candidate
        self._until = time.monotonic() + seconds
        self._frames = frames
        self._next: queue.Queue[_Sample] = queue.Queue(maxsize=1)
        self._compared = Counter[str]()
        self._changed = Counter[tuple[str, str, str]]()

    def offer(self, images: Sequence[bytes], crops: Mapping[str, Box] | None, answers: Answers) -> None:
        """A live request was answered so. Returns at once, whether it is taken or not."""
        try:
            self._next.put_nowait(_Sample(images, crops, answers))
        except queue.Full:
            return

    def run(self) -> Comparison:
        """Compare until time is up or there were frames enough. Raises what the candidate raises besides RetryLater."""
        while not self._frames or self._compared["frames"] < self._frames:
            try:
                sample = self._next.get(timeout=max(0.0, self._left_s()))
                said = self._candidate.answer_spare(sample.images, sample.crops, within_s=max(0.001, self._left_s()))
            except (queue.Empty, RetryLater):
                if self._left_s() <= 0:
                    break
            else:
                self._compare(sample.answers, said)
        changed = (Changed(*pair, frames) for pair, frames in self._changed.most_common())
        return Comparison(self._compared["requests"], self._compared["frames"], tuple(changed))

    def _compare(self, was: Answers, now: Answers) -> None:
        self._compared["requests"] += 1
        self._compared["frames"] += len(was)
        for model_info in self._candidate.ensemble_info.models:
            for before, after in zip(was, now, strict=True):
                if model_info.model in before:  # one that is new has nothing to be compared with
                    labels = top_label(before[model_info.model]), top_label(after.get(model_info.model))
                    self._changed[model_info.model, *labels] += labels[0] != labels[1]
        self._changed += Counter()  # without those that never differed

    def _left_s(self) -> float:
        return self._until - time.monotonic()


class Watched:
    """The ensemble in service, with a shadow that may be there or not."""

    def __init__(self, ensemble: Ensemble) -> None:
        self._ensemble = ensemble
        self.shadow: Shadow | None = None

    @property
    def ensemble_info(self) -> EnsembleInfo:
        return self._ensemble.ensemble_info

    def only(self, model: str | None, within_s: float | None = None) -> Ensemble:
        """As the ensemble's own; the shadow hears nothing of it."""
        return self._ensemble.only(model, within_s)

    def answer(
        self, images: Sequence[bytes], crops: Mapping[str, Box] | None = None, early: Early | None = None
    ) -> Answers:
        """As the ensemble's own."""
        answers = self._ensemble.answer(images, crops, early)
        shadow = self.shadow
        if shadow is not None:
            shadow.offer(images, crops, answers)
        return answers
