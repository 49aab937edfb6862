"""A client's own share: so many images a minute, whatever the others do, so that one camera cannot starve the rest.

A token bucket that may go into debt: a request is refused before its body is read, when it is not yet known how many
images it holds, so it is let in as long as anything is left, and what it held is taken off afterwards. Over time a
client gets its rate exactly; at once it gets at most a minute's worth and one request.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from server.domain.errors import OverQuota

_MINUTE_S = 60.0
_MOST_CLIENTS = 10_000
_ALL_OTHERS = ""
"""Clients beyond that many share one bucket."""


class Quota:
    """`images_per_minute` for each client; 0: no bound. `refused` hears of each client that is turned away.

    Safe to use from any thread; `clock` in seconds, monotonic.
    """

    def __init__(
        self,
        images_per_minute: int,
        *,
        refused: Callable[[str], None] = lambda _client: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = float(images_per_minute)
        self._per_s = images_per_minute / _MINUTE_S
        self._refused = refused
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}
        """Client -> images left (below 0: owed), and when that was so."""
        self._lock = threading.Lock()

    def demand(self, client: str) -> None:
        """Raises OverQuota, with the time until it has an image again, when `client` has none left."""
        if not self._most:
            return
        with self._lock:
            left = self._left_of(self._known_as(client), self._clock())
        if left < 1:
            self._refused(client)
            raise OverQuota(
                f"more than {self._most:.0f} images a minute came from here (`client_images_per_minute`)",
                retry_after_s=max(1, math.ceil((1 - left) / self._per_s)),
            )

    def spend(self, client: str, images: int) -> None:
        """Take so many off the client's share; a negative number gives them back."""
        if not self._most:
            return
        with self._lock:
            name, now = self._known_as(client), self._clock()
            self._left[name] = self._left_of(name, now) - images, now

    def _left_of(self, name: str, now: float) -> float:
        left, at = self._left.get(name, (self._most, now))
        return min(self._most, left + (now - at) * self._per_s)

    def _known_as(self, client: str) -> str:
        if client in self._left or len(self._left) < _MOST_CLIENTS:
            return client
        now = self._clock()
        self._left = {name: kept for name, kept in self._left.items() if self._left_of(name, now) < self._most}
        return client if len(self._left) < _MOST_CLIENTS else _ALL_OTHERS
