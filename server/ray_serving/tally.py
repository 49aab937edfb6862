"""What waits and works on the cluster, as far as this server knows: its own requests, and its replicas' reports.

Own requests count at once. Reports come about every second and count those of other servers too.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from server.domain.errors import RetryLater
from server.engine import Load
from server.ray_serving.wire import Report

_FRESH_S = 10.0


class Tally:
    """Counts images by client and application; each replica takes `max_queued_images`. Safe to use from all threads."""

    def __init__(self, *, max_queued_images: int, within_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_queued_images = max_queued_images
        self._within_s = within_s
        self._clock = clock
        self._sent = Counter[str]()
        self._reports: dict[str, tuple[float, Sequence[Report]]] = {}
        self._asked = ""
        self._lock = threading.Lock()

    @contextmanager
    def sending(self, application: str, client: str, images: int) -> Iterator[None]:
        """Within the block, `images` of `client` wait for an answer of `application`."""
        with self._lock:
            self._sent[client] += images
            self._asked = application
        try:
            yield
        finally:
            with self._lock:
                self._sent[client] -= images
                self._sent += Counter()  # drops the clients that have none

    def note(self, application: str, reports: Sequence[Report]) -> None:
        """The reports of all replicas of an application."""
        with self._lock:
            self._reports[application] = self._clock(), reports

    def load(self) -> Load:
        """All replicas as one engine."""
        with self._lock:
            return self._load()

    def refuse_if_full(self, client: str) -> None:
        """Raises RetryLater when another image of `client` would wait for too long, or finds no room.

        A client that has fewer images waiting than another finds room: a replica lets the other's give way.
        """
        with self._lock:
            load = self._load()
            if load.wait_s > self._within_s:
                raise RetryLater(f"an answer would take {load.wait_s:.0f} s", retry_after_s=load.retry_after_s)
            most = max((count for name, count in self._sent.items() if name != client), default=0)
            if load.queued_images >= self._room() and most <= self._sent[client] + 1:
                raise RetryLater(f"{load.queued_images} frames are waiting already", retry_after_s=load.retry_after_s)

    def _load(self) -> Load:
        loads = [report.load for reports in self._fresh().values() for report in reports]
        running = sum(load.running_images for load in loads)
        queued = max(sum(load.queued_images for load in loads), self._sent.total() - running)
        speed = sum(load.images_per_s or 0.0 for load in loads)
        busy_s = max((load.busy_s for load in loads), default=0.0)
        return Load(queued, running, speed or None, busy_s)

    def _room(self) -> int:
        """Images that may wait in the replicas of the application that was asked last."""
        return self._max_queued_images * max(1, len(self._fresh().get(self._asked, ())))

    def _fresh(self) -> dict[str, Sequence[Report]]:
        since = self._clock() - _FRESH_S
        return {name: reports for name, (at, reports) in self._reports.items() if at >= since}
