"""The engine: workers, their queue, and the ensembles that answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from server.domain.errors import RetryLater
from server.engine.batcher import Load, MicroBatcher
from server.engine.ensemble_handle import EnsembleHandle
from server.engine.stages import Stages
from server.engine.worker_pool import WorkerPool

SILENCE_S = 120.0
"""A batch is a few images. One that runs longer than this never ends."""


class Engine:
    """Answers any number of requests at once, with the answers an ensemble gives alone. Constructing starts nothing.

    On a CPU there are `workers` workers, one per core, each with one torch thread. They decode too, so at most
    `workers` decoded images exist. An accelerator has one worker, which only infers; request threads prepare, at
    most `workers` at a time.

    `first` is the handle of `stages`. `handle` adds other ensembles on the same device; the caller decides which
    request gets which handle.
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
        self._pool = WorkerPool(self._batcher, workers=pool_size, enter=stages.enter, silence_s=silence_s)
        self.first = self.handle(stages)

    def handle(self, stages: Stages) -> EnsembleHandle:
        """A handle of another ensemble, in the same queue."""
        return EnsembleHandle(stages, self._batcher, within_s=self._within_s, at_once=self._at_once)

    def start(self, on_stuck: Callable[[], None]) -> None:
        """Start the workers.

        `on_stuck` is called once, in its own thread, when a worker dies or a batch never ends. All requests have then
        failed with RetryLater, and only a new process helps.
        """

        def on_stall(busy_s: float) -> None:
            why = f"the engine has been silent for {busy_s:.0f} s and is started anew"
            self._batcher.abandon(RetryLater(why, begun=True))
            on_stuck()

        self._pool.start(on_stall)

    def stop(self) -> None:
        """Refuse new requests, finish the queued ones, and end the workers."""
        self._pool.stop()

    def load(self) -> Load:
        return self._batcher.load()

    def refuse_if_full(self, client: str = "") -> None:
        """Raises RetryLater when a request of one image of `client` would be refused now."""
        self._batcher.refuse_if_full(client, self._within_s)
