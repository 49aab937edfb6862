"""The engine: the workers, the line in front of them, and the ensembles that answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from server.domain.errors import RetryLater
from server.engine.batcher import Load, MicroBatcher
from server.engine.ensemble_handle import EnsembleHandle
from server.engine.stages import Stages
from server.engine.worker_pool import Watchdog, WorkerPool

SILENCE_S = 120.0
"""A batch is a few images: one that runs for longer than this will not end."""

_STOP_WITHIN_S = 5.0


class Engine:
    """Answers as an ensemble would alone, for any number of requests at once. Constructing starts nothing.

    On a CPU there are `workers` workers, one per core, each on one torch thread: they decode too, so at most
    `workers` decoded images exist, and a burst's decoding is shared out like the rest. An accelerator has one
    worker, which only asks; the request threads then prepare, `workers` of them at a time.

    `stages` is the first ensemble. Others are given their `generation` beside it, on the same kind of device, and
    answer those who hold that; who is given which is the caller's affair.
    """

    def __init__(
        self,
        stages: Stages,
        *,
        workers: int,
        max_queued_images: int,
        answer_within_s: float,
        silence_s: float = SILENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._within_s = answer_within_s
        self._at_once = threading.Semaphore(workers)
        pool_size = 1 if stages.on_accelerator else workers
        self._batcher = MicroBatcher(workers=pool_size, max_queued_images=max_queued_images, clock=clock)
        self._pool = WorkerPool(self._batcher, workers=pool_size, enter=stages.enter)
        self._watchdog: Watchdog | None = None
        self._silence_s = silence_s
        self.first = self.handle(stages)

    def handle(self, stages: Stages) -> EnsembleHandle:
        """Another ensemble in the same line, for whoever is given it."""
        return EnsembleHandle(stages, self._batcher, within_s=self._within_s, at_once=self._at_once)

    def start(self, on_stuck: Callable[[], None]) -> None:
        """Begin to answer. `on_stuck` is called, once and in a thread of its own, when a worker dies or never comes
        back: all requests have then been answered with RetryLater, and nothing but a new process helps."""

        def on_stall(busy_s: float) -> None:
            self._batcher.abandon(RetryLater(f"the engine has been silent for {busy_s:.0f} s and is started anew"))
            on_stuck()

        self._pool.start()
        self._watchdog = Watchdog(self._batcher, self._pool, on_stall, silence_s=self._silence_s)
        self._watchdog.start()

    def stop(self) -> None:
        """Take nothing more, finish what was taken, end the workers."""
        if self._watchdog is not None:
            self._watchdog.stop()
        self._batcher.close()
        self._pool.join(_STOP_WITHIN_S)

    def load(self) -> Load:
        return self._batcher.load()

    def refuse_if_full(self) -> None:
        """Raises RetryLater when a request of one image would be refused now."""
        self._batcher.refuse_if_full(self._within_s)
