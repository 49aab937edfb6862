"""Reads the day that somebody is likely to ask for next, before he does.

The first look at a full day reads every burst of it; the store then remembers what it found. Whoever looks at a day of
a site goes on to the day before.
"""

from __future__ import annotations

import threading

from server.analysis.day import Store, site_day
from server.domain.times.clock import SECOND_US, Clock

_MOST = 32
"""Stretches that are remembered as read."""
_READ_AGAIN_US = 3600 * SECOND_US
"""The store forgets what others have asked for since."""

Stretch = tuple[str, int, int]
"""A site, and from when (us) to before when."""


class DaysAhead:
    """What is wanted, until it is read. Safe to use from several threads."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._wanted: list[Stretch] = []
        self._read_us: dict[Stretch, int] = {}
        self._lock = threading.Lock()

    def want(self, site: str, since_us: int, until_us: int) -> None:
        """Somebody is likely to ask for this stretch next. It is not read again within an hour."""
        stretch = (site, since_us, until_us)
        with self._lock:
            read_us = self._read_us.get(stretch)
            is_known = read_us is not None and self._clock() < read_us + _READ_AGAIN_US
            if not is_known and stretch not in self._wanted:
                self._wanted = [*self._wanted, stretch][-_MOST:]

    def read(self) -> int:
        """Read what is wanted, each stretch once, in the caller's thread; how many there were.

        Raises RetryLater and DatabaseUnavailable; that stretch is read when somebody wants it again.
        """
        count = 0
        while (stretch := self._next()) is not None:
            site_day(self._store, *stretch, self._clock())
            with self._lock:
                self._read_us.pop(stretch, None)
                self._read_us[stretch] = self._clock()
                while len(self._read_us) > _MOST:
                    del self._read_us[next(iter(self._read_us))]
            count += 1
        return count

    def _next(self) -> Stretch | None:
        with self._lock:
            return self._wanted.pop(0) if self._wanted else None
