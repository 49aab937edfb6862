"""Admission control: how many uploads, and how many bytes, are in work at once.

Every check happens before the body is read: uploads in work, room in the engine (which counts images, and checks again
once their number is known), the client's quota (so that one camera cannot starve the others), and the declared bytes of
all uploads together. Uploads and engine are checked first, before the client's token is looked up, so that a full
server refuses cheaply. Refused clients get 503 with `Retry-After` instead of waiting in a queue that nobody sees.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from server.domain.errors import OverQuota, RetryLater

_MINUTE_S = 60.0
_MAX_CLIENTS = 10_000
_ALL_OTHERS = ""
"""Clients beyond that many share one bucket."""


class Quota:
    """`images_per_minute` for each client; 0: no limit. `on_refused` is called with each client that is refused.

    A token bucket that may go into debt. A request is checked before its body is read, when its number of images is not
    yet known; it is admitted while anything is left, and its images are charged afterwards. Over time a client gets
    exactly its rate; at once it gets at most a minute's worth and one request.

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

    def charge(self, client: str, images: int) -> None:
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


class Admission:
    """At most `limit` uploads and `total_bytes` declared bytes in work at once. Safe to use from any thread.

    `body_bytes` is the largest body there may be, and what an upload without a declared length counts. `refuse_if_full`
    raises RetryLater when the engine has no room; `retry_after_s` estimates when it will have some. `in_work` is how
    many uploads are in work now.
    """

    def __init__(
        self,
        limit: int,
        *,
        body_bytes: int,
        total_bytes: int,
        refuse_if_full: Callable[[], None] = lambda: None,
        retry_after_s: Callable[[], int] = lambda: 1,
        quota: Quota | None = None,
    ) -> None:
        self._limit = limit
        self._body_bytes = body_bytes
        self._total_bytes = max(total_bytes, body_bytes)
        self._refuse_if_full = refuse_if_full
        self._retry_after_s = retry_after_s
        self._quota = quota or Quota(0)
        self.in_work = 0
        self.closed = False
        self._bytes = 0
        self._lock = threading.Lock()

    def check_capacity(self) -> None:
        """Raises RetryLater when there is no room for any client."""
        if self.closed:
            raise RetryLater("this server is stopping", retry_after_s=10)
        if self.in_work >= self._limit:
            raise self._no_room()
        self._refuse_if_full()

    @contextmanager
    def admitted(self, client: str, declared_bytes: int | None = None) -> Iterator[Callable[[int], None]]:
        """Holds a place and the body's bytes during the `with` block. Raises RetryLater when there is no room.

        Yields a function to call with the number of images once it is known. It charges them to the client's quota;
        they are given back when the block raises RetryLater.
        """
        counted_bytes = self._body_bytes if declared_bytes is None else min(declared_bytes, self._body_bytes)
        self.check_capacity()
        self._quota.check(client)
        with self._lock:
            has_room = self.in_work < self._limit and self._bytes + counted_bytes <= self._total_bytes
            if has_room:
                self.in_work += 1
                self._bytes += counted_bytes
        if not has_room:
            raise self._no_room()
        charged = 0

        def charge(images: int) -> None:
            nonlocal charged
            charged += images
            self._quota.charge(client, images)

        try:
            yield charge
        except RetryLater:
            self._quota.charge(client, -charged)
            raise
        finally:
            with self._lock:
                self.in_work -= 1
                self._bytes -= counted_bytes

    def close(self) -> None:
        """Refuse everything from now on; admitted uploads finish. Takes no lock: a signal handler may call it."""
        self.closed = True

    def _no_room(self) -> RetryLater:
        return RetryLater(f"{self.in_work} uploads are in work already", retry_after_s=self._retry_after_s())
