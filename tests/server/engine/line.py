"""A line of requests driven by hand: a clock that stands still until told, workers that act when told, no torch.

`played` runs a script of moves and keeps a history that the properties in `test_properties` are about. Two ensembles
take turns in service: the move `swap` puts the other one in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hypothesis import strategies as st

from server.domain.errors import RetryLater, TooMuchWork
from server.engine.batcher import Load, MicroBatcher
from server.engine.job import Batch, Job
from server.engine.work import outcomes


class Image(NamedTuple):
    """What is asked about: image `place` of request `request`; `fault` is where it brings the work down."""

    request: int
    place: int
    fault: str = ""


class EchoStages:
    """Says of each image which it is, and, concluding, which images were its neighbours in time; always signed."""

    on_accelerator = False

    def __init__(self, name: str = "A", *, batch_images: int = 4, needs_postprocessing: bool = False) -> None:
        self.name = name
        self.batch_images = batch_images
        self.needs_postprocessing = needs_postprocessing
        self.asked_about: list[Image] = []

    def prepare(self, payload: Image) -> Image:
        if payload.fault == "undecodable":
            raise ValueError(payload)
        return payload

    def infer(self, rows: Sequence[Image]) -> list[str]:
        self.asked_about += rows
        if any(row.fault == "poison" for row in rows):
            raise RuntimeError("the network fell over")
        return [self.said_of(row) for row in rows]

    def postprocess(self, inferred: Sequence[str], start: int, stop: int) -> list[str]:
        return [self.name + " ".join(inferred[max(0, place - 1) : place + 2]) for place in range(start, stop)]

    def said_of(self, image: Image) -> str:
        return f"{self.name}{image.request}/{image.place}"

    def alone(self, images: Sequence[Image]) -> list[str]:
        """The answer of a request that travels alone."""
        said = [self.said_of(image) for image in images]
        return self.postprocess(said, 0, len(said)) if self.needs_postprocessing else said


class HandClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Setup(NamedTuple):
    workers: int = 2
    batch_images: int = 4
    max_queued_images: int = 64
    needs_postprocessing: bool = False
    unlike: bool = False
    """Whether the second ensemble concludes where the first does not, or the other way round."""


@dataclass
class Request:
    images: tuple[Image, ...]
    job: Job
    submitted_at: float
    deadline_at: float
    stages: EchoStages
    cancelled: bool = False

    @property
    def expected(self) -> list[str]:
        """What the ensemble that was in service when it came says of it alone."""
        return self.stages.alone(self.images)

    @property
    def faulty(self) -> bool:
        return any(image.fault for image in self.images)


class Begun(NamedTuple):
    """A batch as it was taken. `images` is empty when it concludes; `waiting`: images of requests that were left."""

    at: float
    batch: Batch
    images: tuple[Image, ...]
    waiting: int


@dataclass
class History:
    setup: Setup
    ensembles: list[EchoStages]
    requests: list[Request] = field(default_factory=list)
    spare: list[Request] = field(default_factory=list)
    refused: list[tuple[int, Load]] = field(default_factory=list)
    impossible: list[tuple[int, float]] = field(default_factory=list)
    """Requests refused for ever: how many images, and in which time they were to be answered."""
    begun: list[Begun] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    """When a worker was free and got nothing while images waited."""
    most_queued: int = 0
    most_at_once: int = 0


class Line:
    """A batcher with hand-driven workers, and the history of what they did."""

    def __init__(self, setup: Setup) -> None:
        self.clock = HandClock()
        self.batcher = MicroBatcher(
            workers=setup.workers,
            max_queued_images=setup.max_queued_images,
            clock=self.clock,
        )
        first = EchoStages("A", batch_images=setup.batch_images, needs_postprocessing=setup.needs_postprocessing)
        second = EchoStages(
            "B", batch_images=setup.batch_images, needs_postprocessing=setup.needs_postprocessing != setup.unlike
        )
        self.history = History(setup, [first, second])
        self.outstanding: list[Batch] = []

    @property
    def in_service(self) -> EchoStages:
        return self.history.ensembles[0]

    def swap(self) -> None:
        self.history.ensembles.reverse()

    def submit(
        self,
        count: int,
        within_s: float,
        faults: Sequence[tuple[int, str]] = (),
        client: str = "",
        images_each: int = 1,
    ) -> Request | None:
        number = len(self.history.requests)
        images = tuple(Image(number, place, dict(faults).get(place, "")) for place in range(count))
        load = self.batcher.load()
        try:
            job = self.batcher.submit(images, within_s, self.in_service, client=client, images_each=images_each)
        except RetryLater:
            self.history.refused.append((count, load))
            return None
        except TooMuchWork:
            self.history.impossible.append((count, within_s))
            return None
        request = Request(images, job, self.clock.now_s, self.clock.now_s + within_s, self.in_service)
        self.history.requests.append(request)
        return request

    def shadow(self, count: int) -> Request:
        """Spare work for the ensemble that is not in service."""
        images = tuple(Image(-1 - len(self.history.spare), place) for place in range(count))
        other = self.history.ensembles[1]
        job = self.batcher.submit(images, 1000.0, other, spare=True)
        request = Request(images, job, self.clock.now_s, self.clock.now_s + 1000.0, other)
        self.history.spare.append(request)
        return request

    def take(self) -> Batch | None:
        if len(self.outstanding) == self.history.setup.workers:
            return None
        batch = self.batcher.take(waits=False)
        if batch is None:
            self._note_gap()
            return None
        images = () if batch.postprocessing else tuple(item.job.inputs[item.place] for item in batch.items)
        self.history.begun.append(Begun(self.clock.now_s, batch, images, self.batcher.load().queued_images))
        self.outstanding.append(batch)
        self.history.most_at_once = max(self.history.most_at_once, len(self.outstanding))
        return batch

    def done(self, which: int = 0) -> None:
        if self.outstanding:
            batch = self.outstanding.pop(which % len(self.outstanding))
            self.batcher.done(batch, outcomes(batch))

    def cancel(self, which: int) -> None:
        if self.history.requests:
            request = self.history.requests[which % len(self.history.requests)]
            request.cancelled = request.job.answer.cancel() or request.cancelled

    def finish(self) -> None:
        """Workers go on until there is nothing left to do."""
        while self.take() is not None or self.outstanding:
            self.done()

    def move(self, name: str, *given: Any) -> None:
        if name == "wait":
            self.clock.now_s += given[0]
        else:
            getattr(self, name)(*given)
        self.history.most_queued = max(self.history.most_queued, self.batcher.load().queued_images)

    def _note_gap(self) -> None:
        waiting = [
            r for r in self.history.requests if not r.job.answer.done() and r.job.left and not r.job.postprocessing
        ]
        if waiting:
            self.history.gaps.append(self.clock.now_s)


def played(setup: Setup, script: Sequence[tuple[Any, ...]]) -> History:
    """What happens when the moves of `script` are made, and then all that is left is worked off."""
    line = Line(setup)
    for move in script:
        line.move(*move)
    line.finish()
    return line.history


setups = st.builds(
    Setup,
    workers=st.integers(1, 3),
    batch_images=st.integers(1, 5),
    max_queued_images=st.integers(9, 24),
    needs_postprocessing=st.booleans(),
    unlike=st.booleans(),
)

_faults = st.lists(st.tuples(st.integers(0, 8), st.sampled_from(["poison", "undecodable"])), max_size=2)

scripts = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(1, 9), st.sampled_from([1.0, 3.0, 1000.0])),
        st.tuples(st.just("submit"), st.integers(1, 9), st.just(1000.0), _faults),
        st.tuples(st.just("submit"), st.integers(1, 9), st.just(1000.0), st.just(()), st.sampled_from("ab")),
        st.tuples(st.just("take")),
        st.tuples(st.just("take")),
        st.tuples(st.just("done"), st.integers(0, 2)),
        st.tuples(st.just("swap")),
        st.tuples(st.just("shadow"), st.integers(1, 4)),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.tuples(st.just("wait"), st.sampled_from([1.0, 4.0])),
    ),
    min_size=8,
    max_size=40,
)
