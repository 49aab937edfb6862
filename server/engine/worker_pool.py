"""The engine's threads: workers that take batches, and a watchdog that notices a batch that never ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from server.engine.batcher import MicroBatcher
from server.engine.work import outcomes

log = logging.getLogger(__name__)


class WorkerPool:
    """`workers` threads on one batcher. Each calls `enter` once, before its first batch."""

    def __init__(self, batcher: MicroBatcher, *, workers: int, enter: Callable[[], None]) -> None:
        self._batcher = batcher
        self._enter = enter
        # Daemons, so that a thread that hangs in a network does not keep the process alive.
        self._threads = [
            threading.Thread(target=self._work, name=f"sectorwatch-engine-{number}", daemon=True)
            for number in range(workers)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self, within_s: float) -> None:
        """Wait for the workers to end, after the batcher is closed."""
        for thread in self._threads:
            thread.join(within_s)

    @property
    def is_whole(self) -> bool:
        """Whether every worker is alive, between `start` and the batcher's `close`."""
        return all(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        try:
            self._enter()
            while (batch := self._batcher.wait()) is not None:
                self._batcher.done(batch, outcomes(batch))
        except BaseException:
            log.critical("engine worker died", exc_info=True)


class Watchdog:
    """Calls `on_stall` once when a batch runs for longer than `silence_s`, or a worker of `pool` has died.

    Gunicorn's own timeout cannot notice this: it watches the thread that accepts connections.
    """

    def __init__(
        self, batcher: MicroBatcher, pool: WorkerPool, on_stall: Callable[[float], None], *, silence_s: float
    ) -> None:
        self._batcher = batcher
        self._pool = pool
        self._on_stall = on_stall
        self._silence_s = silence_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="sectorwatch-watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Call it before the workers end."""
        self._stopping.set()

    def _watch(self) -> None:
        while not self._stopping.wait(min(1.0, self._silence_s / 4)):
            busy_s = self._batcher.load().busy_s
            is_stalled = busy_s > self._silence_s or not self._pool.is_whole
            if is_stalled and not self._stopping.is_set():
                log.critical("engine silent", extra={"seconds": round(busy_s, 1)})
                self._on_stall(busy_s)
                return
