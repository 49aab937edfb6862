"""One request on its way through the engine, and the batches of work that are cut from requests."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from queue import SimpleQueue
from typing import Any, NamedTuple

from server.engine.stages import WorkerStages


@dataclass(eq=False, slots=True)
class Job:
    """One request: `inputs`, one per image, become `outputs` in the same order, whoever works on them.

    All of it is asked of one ensemble, `stages`, whatever else is served meanwhile; `spare` work has no claim to the
    workers while others wait. First the images are asked about; then, where the ensemble concludes, those outcomes
    are the inputs of a second round. `taken` inputs have been given to workers, `settled` outputs have come back.
    Only the batcher that owns the job changes it, except for `answer`, which the client may cancel at any time.
    `early` is for a client that listens: it gets the outcomes of the first images whenever there are more of them,
    and None when the job is over.
    """

    inputs: Sequence[Any]
    stages: WorkerStages
    enqueued_at: float
    deadline_at: float
    spare: bool = False
    early: SimpleQueue[list[Any] | None] | None = None
    postprocessing: bool = False
    taken: int = 0
    settled: int = 0
    outputs: list[Any] = field(init=False)
    answer: Future[list[Any]] = field(default_factory=Future, init=False)

    def __post_init__(self) -> None:
        self.outputs = [None] * len(self.inputs)
        if self.early is not None:
            tell = self.early.put
            self.answer.add_done_callback(lambda _: tell(None))

    @property
    def left(self) -> int:
        """Inputs of this round that no worker has been given."""
        return len(self.inputs) - self.taken

    def settle(self, index: int, output: Any) -> bool:
        """Keep one output; whether it was the last of this round."""
        self.outputs[index] = output
        self.settled += 1
        if self.early is not None and not self.postprocessing:
            self.early.put(list(takewhile(lambda one: one is not None, self.outputs)))
        return self.settled == len(self.inputs)

    def begin_postprocessing(self) -> None:
        self.inputs, self.outputs = self.outputs, [None] * len(self.inputs)
        self.postprocessing, self.taken, self.settled = True, 0, 0

    def complete(self) -> None:
        with suppress(InvalidStateError):  # the client has gone: nobody is there to be told
            self.answer.set_result(self.outputs)

    def fail(self, error: BaseException) -> None:
        with suppress(InvalidStateError):
            self.answer.set_exception(error)


class Item(NamedTuple):
    """One image of one job: the one at `place` in the request."""

    job: Job
    place: int


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """What one worker does at once: images of jobs of one ensemble; when concluding, a span of one job."""

    items: tuple[Item, ...]
    postprocessing: bool
    started_at: float

    @property
    def stages(self) -> WorkerStages:
        return self.items[0].job.stages

    @property
    def spare(self) -> bool:
        return self.items[0].job.spare


@dataclass(frozen=True, slots=True)
class Failure:
    """What became of an item instead of an output."""

    error: Exception
