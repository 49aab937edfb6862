"""Things of which there are few, shared out by client: places, and bytes of bodies.

Each client that asked lately may hold an equal share, and one more share is left for whoever comes next. So a client
alone holds half, and with twenty others a twenty-second. A client that holds nothing may take whatever is free.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

_LATELY_S = 60.0
"""Cameras send at least once in this time while anything moves; a client counts as present for so long."""


class Shares:
    """`total` units in all. Not safe from several threads: its user holds a lock. `clock` in seconds, monotonic."""

    def __init__(self, total: int, clock: Callable[[], float]) -> None:
        self._total = total
        self._clock = clock
        self._held: Counter[str] = Counter()
        self._asked_at: dict[str, float] = {}
        """Client -> when it last asked, the longest silent first."""
        self.held = 0

    def ask(self, client: str) -> None:
        """Count `client` as present from now on."""
        now = self._clock()
        self._asked_at.pop(client, None)
        self._asked_at[client] = now
        while (oldest := next(iter(self._asked_at))) != client and now - self._asked_at[oldest] > _LATELY_S:
            del self._asked_at[oldest]

    def has_room(self, client: str, units: int = 1) -> bool:
        """Whether `client` may take so many units now."""
        if self.held + units > self._total:
            return False
        held = self._held.get(client, 0)
        return held == 0 or held + units <= self._total // (len(self._asked_at) + 1)

    def take(self, client: str, units: int = 1) -> None:
        self._held[client] += units
        self.held += units

    def give_back(self, client: str, units: int = 1) -> None:
        self.held -= units
        self._held[client] -= units
        if not self._held[client]:
            del self._held[client]

    def held_by(self, client: str) -> int:
        return self._held.get(client, 0)
