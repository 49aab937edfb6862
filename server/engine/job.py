"""A request in the engine, and the batches of work cut from requests."""

from __future__ import annotations

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
    Where the ensemble needs postprocessing, the outputs of inference are the inputs of a second round.
    `taken` counts the inputs given to workers, `settled` the outputs that are back.
    Only the batcher changes a job. The exception is `answer`, which the client may cancel at any time.
    """

    inputs: Sequence[Any]
    stages: Stages
    deadline_at: float
    spare: bool = False
    postprocessing: bool = False
    taken: int = 0
    settled: int = 0
    outputs: list[Any] = field(init=False)
    answer: Future[list[Any]] = field(default_factory=Future, init=False)

    def __post_init__(self) -> None:
        self.outputs = [None] * len(self.inputs)

    @property
    def left(self) -> int:
        """Inputs of this round that no worker has taken."""
        return len(self.inputs) - self.taken

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
    """What one worker does in one go: images of jobs of one ensemble, or a span of one job to postprocess."""

    items: tuple[Item, ...]
    postprocessing: bool
    started_at: float

    @property
    def stages(self) -> Stages:
        return self.items[0].job.stages

    @property
    def spare(self) -> bool:
        return self.items[0].job.spare


@dataclass(frozen=True, slots=True)
class Failure:
    """The outcome of an item that raised."""

    error: Exception
