"""How much is taken in at once: beyond it, senders are told to come back rather than left waiting unseen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from server.errors import Later


class Admission:
    """At most `limit` uploads in work at once. Safe to use from any number of threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside = 0
        self._closed = False
        self._lock = threading.Lock()

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Holds one place for the length of the `with` block. Raises Later when there is none."""
        with self._lock:
            if self._closed:
                raise Later("this server is stopping", retry_after_s=10)
            if self._inside >= self._limit:
                raise Later(f"{self._inside} uploads are in work already", retry_after_s=1)
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1

    def close(self) -> None:
        """Refuse everything from now on; who is in may finish."""
        with self._lock:
            self._closed = True
