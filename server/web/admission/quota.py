"""How many images a minute each client may have judged."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from server.domain.errors import OverQuota

_MINUTE_S = 60.0
_MAX_CLIENTS = 10_000
_ALL_OTHERS = ""
"""Clients beyond that many share one bucket."""


class Quota:
    """`images_per_minute` for each client; 0: no limit. `on_refused` is called with each client that is refused.

    A token bucket that may go into debt. A request is checked before its body is read, when its pictures are not yet
    known; it is admitted while anything is left. Its pictures are charged before any is decoded, by
    `server.domain.picture_header.PictureHeader.cost`. Over time a client gets exactly its rate; at once it gets at most
    a minute's worth and one request.

    Safe to use from any thread; `clock` in seconds, monotonic.
    """

    def __init__(
        self,
        images_per_minute: int,
        *,
        on_refused: Callable[[str], None] = lambda _client: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capacity = float(images_per_minute)
        self._per_s = images_per_minute / _MINUTE_S
        self._on_refused = on_refused
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        """Client -> images left (below 0: debt), and at which instant."""
        self._lock = threading.Lock()

    def check(self, client: str) -> None:
        """Raises OverQuota, with the time until it has an image again, when `client` has none left."""
        if not self._capacity:
            return
        with self._lock:
            left = self._left_of(self._bucket_of(client), self._clock())
        if left < 1:
            self._on_refused(client)
            raise OverQuota(
                f"this client sent more than {self._capacity:.0f} images a minute (`client_images_per_minute`)",
                retry_after_s=max(1, math.ceil((1 - left) / self._per_s)),
            )

    def charge(self, client: str, images: float) -> None:
        """Take so many images off the client's quota; a negative number gives them back."""
        if not self._capacity:
            return
        with self._lock:
            bucket, now = self._bucket_of(client), self._clock()
            self._buckets[bucket] = self._left_of(bucket, now) - images, now

    def _left_of(self, bucket: str, now: float) -> float:
        left, at = self._buckets.get(bucket, (self._capacity, now))
        return min(self._capacity, left + (now - at) * self._per_s)

    def _bucket_of(self, client: str) -> str:
        if client in self._buckets or len(self._buckets) < _MAX_CLIENTS:
            return client
        now = self._clock()
        self._buckets = {
            name: kept for name, kept in self._buckets.items() if self._left_of(name, now) < self._capacity
        }
        return client if len(self._buckets) < _MAX_CLIENTS else _ALL_OTHERS
