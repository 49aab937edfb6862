"""How much is taken in at once: beyond it, senders are told to come back rather than left waiting unseen.

Everything here is judged before a body is read: how many uploads are in work, whether the engine has room
(`server.engine` counts images, and judges again once their number is known), whether the client has had its share
(`server.web.quota`), and how many bytes all declared. Places and engine come first, before the client's token is
looked up: a server that is full must not spend on its refusals what its answers need.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from server.domain.errors import RetryLater
from server.web.quota import Quota


class Admission:
    """At most `limit` uploads and `total_bytes` declared bytes in work at once. Safe to use from any thread.

    `body_bytes` is the largest body there may be, and what one counts that declares no length. `refuse_if_full`
    raises RetryLater where the engine has no room; `retry_after_s` says when there will be some. `quota` holds each
    client's share.
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
        self._inside = 0
        self._bytes = 0
        self._closed = False
        self._lock = threading.Lock()

    def knock(self) -> None:
        """Raises RetryLater at once where there is no room for anybody, whoever asks."""
        if self._closed:
            raise RetryLater("this server is stopping", retry_after_s=10)
        if self._inside >= self._limit:
            raise self._no_place()
        self._refuse_if_full()

    @contextmanager
    def admitted(self, client: str, declared_bytes: int | None = None) -> Iterator[Callable[[int], None]]:
        """Holds a place, and room for the body, for the length of the `with` block. Raises RetryLater when there is
        none.

        Gives what is to be called with the number of images once it is known: they are taken off the client's share,
        and given back when the block raises RetryLater.
        """
        counted_bytes = self._body_bytes if declared_bytes is None else min(declared_bytes, self._body_bytes)
        self.knock()
        self._quota.demand(client)
        if not self._enter(counted_bytes):
            raise self._no_place()
        spent = 0

        def spend(images: int) -> None:
            nonlocal spent
            spent += images
            self._quota.spend(client, images)

        try:
            yield spend
        except RetryLater:
            self._quota.spend(client, -spent)
            raise
        finally:
            self._leave(counted_bytes)

    @property
    def inside(self) -> int:
        """How many are in work now."""
        return self._inside

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Refuse everything from now on; who is in may finish. Takes no lock: a signal handler may call it."""
        self._closed = True

    def _no_place(self) -> RetryLater:
        return RetryLater(f"{self._inside} uploads are in work already", retry_after_s=self._retry_after_s())

    def _enter(self, counted_bytes: int) -> bool:
        with self._lock:
            if self._inside >= self._limit or self._bytes + counted_bytes > self._total_bytes:
                return False
            self._inside += 1
            self._bytes += counted_bytes
            return True

    def _leave(self, counted_bytes: int) -> None:
        with self._lock:
            self._inside -= 1
            self._bytes -= counted_bytes
