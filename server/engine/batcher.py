"""A micro-batcher that counts images: which worker gets which images next.

Requests wait in one queue, in which clients take turns (`fair_queue`). A free worker takes from its head: a full batch
while there is one for every worker, else an equal share of the images that are left. A large request is split, and
small requests are merged. Images are never padded, and a free worker never waits for more of them. When the queue is
full, the newest request of the client that has the most in it makes room for one that has less.

Each request brings its ensemble. A batch never mixes two ensembles, so the served ensemble may change between any
two batches.

Spare work waits in a queue of its own. A worker takes one spare image at a time, and only when nothing else waits,
so a request waits for at most one spare image.

This module has no threads and no torch. The threads of `server.engine.worker_pool` call `take` and `done`.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from server.domain.errors import RetryLater, TooLarge, TooMuchWork
from server.engine.fair_queue import FairQueue
from server.engine.job import Batch, Failure, Item, Job
from server.engine.pace import Pace
from server.engine.stages import Stages

STOPPING_RETRY_S = 10

_ALMOST = 0.2
"""In images: a running batch with less than this left does not enlarge another worker's share."""


@dataclass(frozen=True, slots=True)
class Load:
    """The engine at one instant. `busy_s` is the age of the oldest running batch."""

    queued_images: int
    running_images: int
    images_per_s: float | None
    busy_s: float

    @property
    def wait_s(self) -> float:
        """How long the present work takes; 0 before the speed is measured."""
        return (self.queued_images + self.running_images) / self.images_per_s if self.images_per_s else 0.0

    @property
    def retry_after_s(self) -> int:
        return max(1, math.ceil(self.wait_s))


class MicroBatcher:
    """The queue of requests, safe to use from several threads.

    At most `max_queued_images` wait, and a batch has at most the ensemble's `batch_images`. Where the ensemble
    `needs_postprocessing`, a request goes through a second round as a whole.
    """

    def __init__(self, *, workers: int, max_queued_images: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._workers = workers
        self._max_queued_images = max_queued_images
        self._clock = clock
        self._changed = threading.Condition()
        self._inference = FairQueue()
        self._postprocessing: deque[Job] = deque()
        self._spare: deque[Job] = deque()
        self._running: set[Batch] = set()
        self._pace = Pace(workers)
        self._closed = False

    def submit(
        self,
        payloads: Sequence[Any],
        within_s: float,
        stages: Stages,
        *,
        client: str = "",
        spare: bool = False,
        images_each: int = 1,
    ) -> Job:
        """Queue a request of `client`; its `answer` becomes a result, an error, or cancelled, once.

        Each of `payloads` counts as `images_each` images. Raises TooLarge for more payloads than may ever wait, and
        TooMuchWork for more than can ever be answered within `within_s`. Raises RetryLater, with a measured time to
        come back, when the queue is full, when the answer would take longer than `within_s`, or after `close`. Idle
        workers alone do `spare` work: `load` does not count it, and it is refused after `close` only.
        """
        with self._changed:
            now = self._clock()
            frames = 0 if spare else len(payloads)
            self._refuse(client, frames, math.inf if spare else within_s, now, images_each=images_each)
            job = Job(tuple(payloads), stages, now + within_s, within_s, client, spare, images_each)
            if job.inputs:
                self._queue_of(job).append(job)
                self._changed.notify_all()
            else:
                job.complete()
            return job

    def left_s(self, job: Job) -> float:
        """Seconds until the job's deadline, at least 0."""
        return max(0.0, job.deadline_at - self._clock())

    def late(self, job: Job) -> RetryLater | TooMuchWork:
        """Why a job was not answered by its deadline."""
        with self._changed:
            return self._late(job)

    def refuse_if_full(self, client: str, within_s: float) -> None:
        """Raises RetryLater when a request of one image of `client` would be refused now."""
        with self._changed:
            self._refuse(client, 1, within_s, self._clock(), evicting=False)

    def take(self, *, waits: bool = True) -> Batch | None:
        """The next batch for a free worker, which calls `done` with it.

        It waits for work, and is None once all work is done after `close`; without `waits`, also when nothing waits.
        """
        with self._changed:
            while (batch := self._next()) is None and waits and not self._is_finished():
                self._changed.wait()
            return batch

    def done(self, batch: Batch, outcomes: Sequence[Any]) -> None:
        """Hand in the outcome of each item of a batch. A Failure ends its own request only."""
        with self._changed:
            self._running.remove(batch)
            seconds = self._clock() - batch.started_at
            if not batch.spare:
                self._pace.note(0 if batch.postprocessing else batch.images, seconds, self._clock())
            if not (batch.spare or batch.postprocessing):
                self._account(batch, seconds)
            for (job, index), outcome in zip(batch.items, outcomes, strict=True):
                self._settle(job, index, outcome)
            self._changed.notify_all()

    def close(self) -> None:
        """Refuse new requests and fail spare work; queued requests are still answered."""
        with self._changed:
            self._closed = True
            for job in self._spare:
                job.fail(_stopping())
            self._changed.notify_all()

    def abandon(self, error: Exception) -> None:
        """Refuse new requests, and fail all present ones with `error`."""
        with self._changed:
            self._closed = True
            running = (item.job for batch in self._running for item in batch.items)
            for job in [*self._inference, *self._postprocessing, *self._spare, *running]:
                job.fail(error)
            self._drop_finished(self._clock())
            self._changed.notify_all()

    def load(self) -> Load:
        with self._changed:
            return self._load()

    def _next(self) -> Batch | None:
        now = self._clock()
        self._drop_finished(now)
        batch: Batch | None = None
        if self._postprocessing:  # such a request is older than any whose images are not inferred yet
            batch = _cut(self._postprocessing, self._span(), now)
        elif (head := self._inference.next()) is not None:
            batch = self._batch(head.stages, now)
        elif self._spare:
            batch = _cut(self._spare, 1, now)
        if batch is not None:
            self._running.add(batch)
        return batch

    def _batch(self, stages: Stages, now: float) -> Batch:
        """Images of one ensemble, of each client that waits in turn."""
        images, expected_s = self._share(stages), self._pace.image_s
        items: list[Item] = []
        while images > 0 and (job := self._inference.next(stages)) is not None:
            items.append(Item(job, job.taken))
            self._inference.take(job, expected_s * job.images_each)
            images -= job.images_each
        return Batch(tuple(items), postprocessing=False, started_at=now, expected_s=expected_s)

    def _account(self, batch: Batch, seconds: float) -> None:
        """Charge each client the time that its images took."""
        for (job, _index), took_s in zip(batch.items, batch.took_s(seconds), strict=True):
            self._inference.correct(job, took_s - batch.expected_s * job.images_each)
            job.least_s = min(job.least_s, took_s)
        for job in {item.job for item in batch.items}:
            job.batches += 1

    def _is_finished(self) -> bool:
        return self._closed and not self._running and not self._inference

    def _queue_of(self, job: Job) -> deque[Job] | FairQueue:
        if job.spare:
            return self._spare
        return self._postprocessing if job.postprocessing else self._inference

    def _share(self, stages: Stages) -> int:
        """A full batch while there is one for every worker; else an equal share of the rest, in equal batches.

        A running batch counts with its estimated rest. So two workers that become free together take equal shares,
        and nearly finished batches make nobody's share smaller.
        """
        full = stages.batch_images
        queued = self._queued()
        if queued >= full * self._workers:
            return full
        share = max(1, math.ceil((queued + self._running_rest()) / self._workers - _ALMOST))
        return math.ceil(share / math.ceil(share / full))

    def _span(self) -> int:
        """An equal part of the request at the head."""
        job = self._postprocessing[0]
        return min(job.left, math.ceil(len(job.inputs) / self._workers))

    def _settle(self, job: Job, index: int, outcome: Any) -> None:
        if job.answer.done():
            return  # expired, failed or cancelled while its images were running
        if isinstance(outcome, Failure):
            job.fail(outcome.error)
        elif job.settle(index, outcome):
            if job.stages.needs_postprocessing and not job.postprocessing:
                job.begin_postprocessing()
                self._queue_of(job).append(job)
            else:
                job.complete()

    def _drop_finished(self, now: float) -> None:
        """Remove jobs that are cancelled, failed or past their deadline, so that no more of their images start."""
        for queue in (self._inference, self._postprocessing, self._spare):
            for job in tuple(queue):
                if now >= job.deadline_at and not job.answer.done():
                    job.fail(self._late(job))
                if job.answer.done():
                    queue.remove(job)

    def _late(self, job: Job) -> RetryLater | TooMuchWork:
        """Too much work if not even the time of its fastest image, for all of them, would have been enough."""
        at_best_s = len(job.inputs) * job.least_s / self._workers if job.batches > self._workers else 0.0
        if at_best_s > job.within_s:
            return _too_much_work(len(job.inputs), job.images_each, at_best_s, job.within_s, begun=True)
        return RetryLater(
            "not judged in time: the server is overloaded",
            retry_after_s=self._load().retry_after_s,
            begun=job.taken > 0 or job.postprocessing,
        )

    def _refuse(
        self, client: str, frames: int, within_s: float, now: float, *, evicting: bool = True, images_each: int = 1
    ) -> None:
        if self._closed:
            raise _stopping()
        images = frames * images_each
        if frames > self._max_queued_images:
            raise TooLarge(f"{frames} frames came; at most {self._max_queued_images} may wait at once", begun=False)
        self._drop_finished(now)
        load, at_best_s = self._load(), self._pace.at_best_s(images, now)
        if at_best_s > within_s:
            raise _too_much_work(frames, images_each, at_best_s, within_s, begun=False)
        before = self._inference.images_before(client, images) + load.running_images
        wait_s = before / load.images_per_s if load.images_per_s else 0.0
        if wait_s > within_s:
            raise RetryLater(f"an answer would take {wait_s:.0f} s", retry_after_s=max(1, math.ceil(wait_s)))
        if not self._has_room(client, frames, evicting=evicting):
            waiting = self._inference.frames().total()
            raise RetryLater(f"{waiting} frames are waiting already", retry_after_s=load.retry_after_s)

    def _has_room(self, client: str, frames: int, *, evicting: bool) -> bool:
        """Whether so many more frames of `client` may wait, if need be in the place of others' (when `evicting`).

        Enlarged sectors take time, not room: what waits is frames.
        """
        counts = self._inference.frames()
        missing, own = counts.total() + frames - self._max_queued_images, counts[client] + frames
        giving_way: list[Job] = []
        while missing > 0:
            greediest = max(counts, key=counts.__getitem__)
            newest = self._inference.newest_unbegun_of(greediest, giving_way)
            if greediest == client or counts[greediest] <= own or newest is None:
                return False
            giving_way.append(newest)
            counts[greediest] -= newest.left
            missing -= newest.left
        for job in giving_way if evicting else ():
            self._inference.remove(job)
            job.fail(RetryLater("other clients need the room", retry_after_s=self._load().retry_after_s))
        return True

    def _load(self) -> Load:
        now = self._clock()
        busy_s = now - min((batch.started_at for batch in self._running), default=now)
        running = sum(batch.images for batch in self._inferring())
        return Load(self._queued(), running, self._pace.images_per_s, busy_s)

    def _queued(self) -> int:
        return self._inference.images()

    def _running_rest(self) -> float:
        """The images of running batches that are not done, estimated by the recent speed; all before it is known."""
        now, each_per_s = self._clock(), (self._pace.images_per_s or 0.0) / self._workers
        return sum(max(0.0, batch.images - each_per_s * (now - batch.started_at)) for batch in self._inferring())

    def _inferring(self) -> Iterator[Batch]:
        return (batch for batch in self._running if not (batch.postprocessing or batch.spare))


def _stopping() -> RetryLater:
    return RetryLater("this server is stopping", retry_after_s=STOPPING_RETRY_S)


def _too_much_work(frames: int, images_each: int, takes_s: float, within_s: float, *, begun: bool) -> TooMuchWork:
    fewer = ", enlarge fewer sectors" if images_each > 1 else ""
    return TooMuchWork(
        f"{_frames(frames, images_each)} take {takes_s:.0f} s here, with nothing else to do, and an answer may take "
        f"{within_s:g} s (`answer_within_s`): send fewer frames at once{fewer}, or serve fewer or faster models",
        begun=begun,
    )


def _frames(frames: int, images_each: int) -> str:
    if images_each == 1:
        return f"{frames} frames"
    return f"{frames} frames, which count as {images_each} images each with the sectors that are enlarged,"


def _cut(queue: deque[Job], images: int, now: float) -> Batch:
    """Up to `images` from the head of a queue, all of one ensemble; the rest stays there."""
    items: list[Item] = []
    stages, postprocessing = queue[0].stages, queue[0].postprocessing
    while queue and queue[0].stages is stages and len(items) < images:
        job = queue[0]
        until = min(len(job.inputs), job.taken + images - len(items))
        items += [Item(job, index) for index in range(job.taken, until)]
        job.taken = until
        if not job.left:
            queue.popleft()
    return Batch(tuple(items), postprocessing, now)
