"""When channels that remember have to look for what is no longer kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from server.domain.keeping import Erasure
from server.domain.times.clock import SECOND_US

_EVERY_US = 3600 * SECOND_US
"""Retention deletes beside erasures: a channel looks so often in any case."""


class Gone:
    """Notices that more may be gone than at the last look. `read` gives the notes of all erasures."""

    def __init__(self, read: Callable[[], Sequence[Erasure]]) -> None:
        self._read = read
        self._seen: Sequence[Erasure] | None = None
        self._looked_us = 0

    def again(self) -> None:
        """Another memory is taken up: it has to be looked through."""
        self._seen = None

    def look(self, now_us: int) -> Sequence[Erasure] | None:
        """All erasures, where the memory has to be looked through for what is gone; else None.

        The note of an erasure changes with every slice that it deletes, so an announcement that was read just before
        its event went is found by the next look.
        """
        erasures = self._read()
        if erasures == self._seen and 0 <= now_us - self._looked_us < _EVERY_US:
            return None
        self._seen, self._looked_us = erasures, now_us
        return erasures
