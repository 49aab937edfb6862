"""The engine's threads: workers that take batches, and a watchdog that notices a batch that never ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from server.engine.batcher import MicroBatcher
from server.engine.work import outcomes

log = logging.getLogger(__name__)

_STOP_WITHIN_S = 5.0


class WorkerPool:
    """`workers` threads on one batcher, and a watchdog. Each worker calls `enter` once, before its first batch.

    A batch that runs for longer than `silence_s` never ends. Gunicorn's own timeout cannot notice this: it watches the
    thread that accepts connections.
    """

    def __init__(self, batcher: MicroBatcher, *, workers: int, enter: Callable[[], None], silence_s: float) -> None:
        self._batcher = batcher
        self._enter = enter
        self._silence_s = silence_s
        self._stopping = threading.Event()
        # Daemons, so that a thread that hangs in a network does not keep the process alive.
        self._threads = [
            threading.Thread(target=self._work, name=f"sectorwatch-engine-{number}", daemon=True)
            for number in range(workers)
        ]

    def start(self, on_stall: Callable[[float], None]) -> None:
        """Start the threads. `on_stall` is called once, with the age of the oldest batch (s), when a batch never ends
        or a worker has died.
        """
        for thread in self._threads:
            thread.start()
        threading.Thread(target=self._watch, args=(on_stall,), name="sectorwatch-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Refuse new requests, finish the queued ones, and end the workers."""
        self._stopping.set()
        self._batcher.close()
        for thread in self._threads:
            thread.join(_STOP_WITHIN_S)

    def _work(self) -> None:
        try:
            self._enter()
            while (batch := self._batcher.take()) is not None:
                self._batcher.done(batch, outcomes(batch))
        except BaseException:
            log.critical("engine worker died", exc_info=True)

    def _watch(self, on_stall: Callable[[float], None]) -> None:
        while not self._stopping.wait(min(1.0, self._silence_s / 4)):
            busy_s = self._batcher.load().busy_s
            is_stalled = busy_s > self._silence_s or not all(thread.is_alive() for thread in self._threads)
            if is_stalled and not self._stopping.is_set():
                log.critical("engine silent", extra={"seconds": round(busy_s, 1)})
                on_stall(busy_s)
                return
