"""A request in the engine, and the batches of work cut from requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from server.engine.stages import Stages


@dataclass(eq=False, slots=True)
class Job:
    """One request: `inputs`, one per image, become `outputs` in the same order.

    All images go through one ensemble, `stages`. A `spare` job gets a worker only while no other job waits.
    Its answer must come at `deadline_at`, `within_s` after it came.
    `client` is for whom it works; clients share the workers.
    `least_s` is the shortest time that one of its images took, in `batches` batches.
    Where the ensemble needs postprocessing, the outputs of inference are the inputs of a second round.
    An input counts as `images_each` images, because detectors see so many: the frame, and enlarged parts of it.
    `taken` counts the inputs given to workers, `settled` the outputs that are back.
    Only the batcher changes a job. The exception is `answer`, which the client may cancel at any time.
    """

    inputs: Sequence[Any]
    stages: Stages
    deadline_at: float
    within_s: float
    client: str = ""
    spare: bool = False
    images_each: int = 1
    postprocessing: bool = False
    taken: int = 0
    settled: int = 0
    least_s: float = math.inf
    batches: int = 0
    outputs: list[Any] = field(init=False)
    answer: Future[list[Any]] = field(default_factory=Future, init=False)

    def __post_init__(self) -> None:
        self.outputs = [None] * len(self.inputs)

    @property
    def left(self) -> int:
        """Inputs of this round that no worker has taken."""
        return len(self.inputs) - self.taken

    @property
    def images_left(self) -> int:
        """The same in images."""
        return self.left * self.images_each

    def settle(self, index: int, output: Any) -> bool:
        """Keep one output; True for the last one of this round."""
        self.outputs[index] = output
        self.settled += 1
        return self.settled == len(self.inputs)

    def begin_postprocessing(self) -> None:
        self.inputs, self.outputs = self.outputs, [None] * len(self.inputs)
        self.postprocessing, self.taken, self.settled = True, 0, 0

    def complete(self) -> None:
        with suppress(InvalidStateError):  # the client has cancelled
            self.answer.set_result(self.outputs)

    def fail(self, error: BaseException) -> None:
        with suppress(InvalidStateError):
            self.answer.set_exception(error)


class Item(NamedTuple):
    """One image of a job; `place` is its index in the request."""

    job: Job
    place: int


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """What one worker does in one go: images of jobs of one ensemble, or a span of one job to postprocess.

    Each image is expected to take `expected_s`. The worker notes in `prepare_s` how long it prepared each.
    """

    items: tuple[Item, ...]
    postprocessing: bool
    started_at: float
    expected_s: float = 0.0
    prepare_s: list[float] = field(default_factory=list)

    @property
    def stages(self) -> Stages:
        return self.items[0].job.stages

    @property
    def spare(self) -> bool:
        return self.items[0].job.spare

    @property
    def images(self) -> int:
        return sum(item.job.images_each for item in self.items)

    def took_s(self, seconds: float) -> list[float]:
        """The time of each item, of `seconds` in all: its own preparation, and of the rest its share of the images."""
        image_s = max(0.0, seconds - sum(self.prepare_s)) / self.images
        prepared_s = self.prepare_s or [0.0] * len(self.items)
        return [image_s * item.job.images_each + own_s for item, own_s in zip(self.items, prepared_s, strict=True)]


@dataclass(frozen=True, slots=True)
class Failure:
    """The outcome of an item that raised."""

    error: Exception
