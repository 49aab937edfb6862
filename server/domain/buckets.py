"""Token buckets by client: so much at once, then so much a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_MAX_CLIENTS = 10_000
_ALL_OTHERS = ""
"""Clients beyond that many share one bucket."""


class Buckets:
    """A bucket of `capacity` for each client, filled at `per_s`. It may go into debt.

    Safe to use from any thread; `clock` in seconds, monotonic.
    """

    def __init__(self, capacity: float, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._per_s = per_s
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        """Client -> what is left (below 0: debt), and at which instant."""
        self._lock = threading.Lock()

    def wait_s(self, client: str, least: float = 1.0) -> float:
        """How long until the client has at least so much; 0: it has."""
        with self._lock:
            left = self._left_of(self._bucket_of(client), self._clock())
        return max(0.0, (least - left) / self._per_s)

    def take(self, client: str, amount: float) -> None:
        """Take so much off the client's bucket; a negative number gives it back."""
        with self._lock:
            bucket, now = self._bucket_of(client), self._clock()
            self._buckets[bucket] = self._left_of(bucket, now) - amount, now

    def _left_of(self, bucket: str, now: float) -> float:
        left, at = self._buckets.get(bucket, (self._capacity, now))
        return min(self._capacity, left + max(0.0, now - at) * self._per_s)

    def _bucket_of(self, client: str) -> str:
        if client in self._buckets or len(self._buckets) < _MAX_CLIENTS:
            return client
        now = self._clock()
        self._buckets = {
            name: kept for name, kept in self._buckets.items() if self._left_of(name, now) < self._capacity
        }
        return client if len(self._buckets) < _MAX_CLIENTS else _ALL_OTHERS
