"""Who works on which images next: a work-conserving, first-in-first-out micro-batcher that counts images.

Requests wait in one line. A worker that is free takes from its head: a full batch while one waits for every worker,
else an equal share of what is left to do. A big request is split, its rest stays at the head, small ones are merged.
Nothing is padded, and nothing waits for company unless a window is asked for; it then counts from the moment the oldest
request came.

Each request brings the ensemble that is to answer it. A batch ends where another ensemble's images begin, so no
call mixes two, all slices of a request run on one, and what is served may change between any two batches.

Beside the line lies spare work, which a worker takes one image at a time and only where it would be idle: a request
that comes waits for one such image at most.

No threads here and no torch: `take` and `done` can be driven by hand, and the tests do so. `server.engine.worker_pool`
drives them with threads, which wait in `wait`.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from server.domain.errors import RetryLater, TooLarge
from server.engine.job import Batch, Failure, Item, Job
from server.engine.pace import Pace
from server.engine.stages import WorkerStages

STOPPING_RETRY_S = 10

_ALMOST = 0.2
"""Of an image: what a batch that is almost done still lacks makes nobody's share larger."""


@dataclass(frozen=True, slots=True)
class Load:
    """The engine at one instant. `busy_s`: how long the longest running batch has been at it."""

    queued_images: int
    running_images: int
    images_per_s: float | None
    busy_s: float

    @property
    def wait_s(self) -> float:
        """How long what is here will take, as far as is known: 0 before anything was measured."""
        return (self.queued_images + self.running_images) / self.images_per_s if self.images_per_s else 0.0

    @property
    def retry_after_s(self) -> int:
        return max(1, math.ceil(self.wait_s))


class MicroBatcher:
    """The line of requests, safe to use from any number of threads.

    At most `max_queued_images` wait, at most the ensemble's `batch_images` are in one batch. Where the ensemble
    `needs_postprocessing`, a request has a second round, on its whole self, before which none of its answers is final.
    """

    def __init__(
        self,
        *,
        workers: int,
        max_queued_images: int,
        window_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workers = workers
        self._max_queued_images = max_queued_images
        self._window_s = window_s
        self._clock = clock
        self._changed = threading.Condition()
        self._asking: deque[Job] = deque()
        self._postprocessing: deque[Job] = deque()
        self._spare: deque[Job] = deque()
        self._running: dict[Batch, float] = {}
        self._pace = Pace(workers)
        self._closed = False

    def submit(
        self, payloads: Sequence[Any], within_s: float, stages: WorkerStages, early: SimpleQueue[Any] | None = None
    ) -> Job:
        """Put a request at the end of the line; its `answer` is then a result, an error, or cancelled, once.

        Raises TooLarge for more images than can ever wait; RetryLater, with an honest time to come back, when there is
        no room now, when the answer could not be had within `within_s`, or after `close`.
        """
        with self._changed:
            now = self._clock()
            self._drop_unwanted(now)
            self._refuse(len(payloads), within_s)
            return self._lined_up(self._asking, Job(tuple(payloads), stages, now, now + within_s, early=early))

    def submit_spare(self, payloads: Sequence[Any], within_s: float, stages: WorkerStages) -> Job:
        """As `submit`, for work that may as well be left undone: begun only by a worker that has nothing else to do.

        It counts nowhere in `load`. Raises RetryLater after `close`.
        """
        with self._changed:
            self._refuse_if_closed()
            now = self._clock()
            return self._lined_up(self._spare, Job(tuple(payloads), stages, now, now + within_s, spare=True))

    def left_s(self, job: Job) -> float:
        """How long its client is still to wait for it."""
        return max(0.0, job.deadline_at - self._clock())

    def refuse_if_full(self, within_s: float) -> None:
        """Raises RetryLater when a request of one image would be refused now."""
        with self._changed:
            self._drop_unwanted(self._clock())
            self._refuse(1, within_s)

    def take(self) -> Batch | None:
        """What a free worker shall do now; None: nothing. Whoever takes a batch calls `done` with it."""
        with self._changed:
            return self._next()

    def wait(self) -> Batch | None:
        """As `take`, but waits for something to do; None: there never will be, since all is done after `close`."""
        with self._changed:
            while True:
                batch = self._next()
                if batch is not None:
                    return batch
                if self._closed and not self._running and not self._asking:
                    return None
                self._changed.wait(self._ripe_in_s())

    def done(self, batch: Batch, outcomes: Sequence[Any]) -> None:
        """Hand in what became of each item of a batch; a Failure ends its own request and no other."""
        with self._changed:
            del self._running[batch]
            if not batch.spare:
                self._pace.note(0 if batch.postprocessing else len(batch.items), self._clock() - batch.started_at)
            for (job, index), outcome in zip(batch.items, outcomes, strict=True):
                self._settle(job, index, outcome)
            self._changed.notify_all()

    def close(self) -> None:
        """Take no more requests; what is in the line is still worked on, spare work is left."""
        with self._changed:
            self._closed = True
            for job in self._spare:
                job.fail(_stopping())
            self._changed.notify_all()

    def abandon(self, error: Exception) -> None:
        """Take no more requests, and answer all that are here with `error`."""
        with self._changed:
            self._closed = True
            for job in [*self._asking, *self._postprocessing, *self._spare, *(job for job, _ in self._running_items())]:
                job.fail(error)
            self._drop_unwanted(self._clock())
            self._changed.notify_all()

    def load(self) -> Load:
        """How much there is to do, now."""
        with self._changed:
            return self._load()

    def _next(self) -> Batch | None:
        now = self._clock()
        self._drop_unwanted(now)
        if self._postprocessing:  # older than whatever is still to be asked: it was taken first
            return self._started(self._cut(self._postprocessing, self._span()), now, postprocessing=True)
        if self._asking and not self._ripe_in_s():
            return self._started(self._cut(self._asking, self._share()), now, postprocessing=False)
        if self._spare:
            postprocessing = self._spare[0].postprocessing
            return self._started(self._cut(self._spare, 1), now, postprocessing=postprocessing)
        return None

    def _lined_up(self, line: deque[Job], job: Job) -> Job:
        if job.inputs:
            line.append(job)
            self._changed.notify_all()
        else:
            job.complete()
        return job

    def _cut(self, line: deque[Job], images: int) -> tuple[Item, ...]:
        """So many images from the head of a line, or fewer where another ensemble's begin; the rest stays there."""
        items: list[Item] = []
        stages = line[0].stages
        while line and line[0].stages is stages and len(items) < images:
            job = line[0]
            until = min(len(job.inputs), job.taken + images - len(items))
            items += [Item(job, index) for index in range(job.taken, until)]
            job.taken = until
            if not job.left:
                line.popleft()
        return tuple(items)

    def _started(self, items: tuple[Item, ...], now: float, *, postprocessing: bool) -> Batch:
        batch = Batch(items, postprocessing, now)
        self._running[batch] = now
        return batch

    def _share(self) -> int:
        """A full batch while one waits for every worker; else an equal share of all that is left, in equal batches.

        What runs counts with what is left of it: of two workers that become free together the second takes as much as
        the first, and of two that become free in turn neither takes less for what the other has as good as done.
        """
        full = self._asking[0].stages.batch_images
        queued = self._queued()
        if queued >= full * self._workers:
            return full
        share = max(1, math.ceil((queued + self._left_in_hand()) / self._workers - _ALMOST))
        return math.ceil(share / math.ceil(share / full))

    def _span(self) -> int:
        """An equal part of the request at the head, and no image of another."""
        job = self._postprocessing[0]
        return min(job.left, math.ceil(len(job.inputs) / self._workers))

    def _ripe_in_s(self) -> float | None:
        """How long the oldest request still waits for company, at most; None: not at all, or there is none."""
        if not self._window_s or not self._asking or self._closed:
            return None
        if self._queued() >= self._asking[0].stages.batch_images:
            return None
        left = self._asking[0].enqueued_at + self._window_s - self._clock()
        return left if left > 0 else None

    def _settle(self, job: Job, index: int, outcome: Any) -> None:
        if job.answer.done():
            return  # expired, failed or cancelled while its images were in work
        if isinstance(outcome, Failure):
            job.fail(outcome.error)
        elif job.settle(index, outcome):
            if job.stages.needs_postprocessing and not job.postprocessing:
                job.begin_postprocessing()
                (self._spare if job.spare else self._postprocessing).append(job)
            else:
                job.complete()

    def _drop_unwanted(self, now: float) -> None:
        """Take out of the lines who has gone, failed or come too late: none of their images is begun any more."""
        for line in (self._asking, self._postprocessing, self._spare):
            for job in tuple(line):
                if now >= job.deadline_at:
                    job.fail(
                        RetryLater("not judged in time: the server is overloaded", retry_after_s=self._retry_after_s())
                    )
                if job.answer.done():
                    line.remove(job)

    def _refuse(self, images: int, within_s: float) -> None:
        self._refuse_if_closed()
        if images > self._max_queued_images:
            raise TooLarge(f"{images} frames came; at most {self._max_queued_images} may wait at once")
        load = self._load()
        if load.queued_images + images > self._max_queued_images:
            raise RetryLater(f"{load.queued_images} frames are waiting already", retry_after_s=load.retry_after_s)
        if load.wait_s > within_s:
            raise RetryLater(f"an answer would take {load.wait_s:.0f} s", retry_after_s=load.retry_after_s)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise _stopping()

    def _load(self) -> Load:
        began = min(self._running.values(), default=None)
        busy_s = 0.0 if began is None else self._clock() - began
        return Load(self._queued(), self._in_hand(), self._pace.images_per_s, busy_s)

    def _retry_after_s(self) -> int:
        return self._load().retry_after_s

    def _queued(self) -> int:
        return sum(job.left for job in self._asking)

    def _in_hand(self) -> int:
        return sum(len(batch.items) for batch in self._inferring())

    def _left_in_hand(self) -> float:
        """How many images of those in hand are still to be done, by the recent pace: all, before that is known."""
        now, each_per_s = self._clock(), (self._pace.images_per_s or 0.0) / self._workers
        return sum(max(0.0, len(batch.items) - each_per_s * (now - batch.started_at)) for batch in self._inferring())

    def _inferring(self) -> Iterator[Batch]:
        return (batch for batch in self._running if not (batch.postprocessing or batch.spare))

    def _running_items(self) -> Iterator[Item]:
        return (item for batch in self._running for item in batch.items)


def _stopping() -> RetryLater:
    return RetryLater("this server is stopping", retry_after_s=STOPPING_RETRY_S)
