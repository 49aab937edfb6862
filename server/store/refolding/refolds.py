"""The refolds of a server: those of all cameras in turn, a slice each, and most of the time at rest."""

from __future__ import annotations

import logging
from collections.abc import Callable, Set
from contextlib import suppress

from sqlalchemy import Connection, Engine

from server.domain.errors import RetryLater, SectorwatchError
from server.domain.times.clock import Clock
from server.store.engine import busy_s, leave_to_others, reading
from server.store.refolding.marks import Name, cameras_to_refold, waiting_of
from server.store.refolding.refold import Outdated, PastChange, Refold
from server.store.rows import Versions

log = logging.getLogger(__name__)

_SHARE = 0.3
"""Of the time: so long does it fold, and leaves processor and database to others for the rest."""

Wait = Callable[[float], object]


class Refolds:
    """Folds in the late bursts that wait. One thread at a time; several processes may do so on one database."""

    def __init__(self, engine: Engine, versions: Versions, clock: Clock) -> None:
        self._engine = engine
        self._versions = versions
        self._clock = clock
        self._failing: set[Name] = set()

    def run(self, is_stopped: Callable[[], bool] = lambda: False, wait: Wait = lambda _seconds: None) -> int:
        """Fold until nothing waits, or `is_stopped`; how many refolds were committed.

        A camera whose past cannot be folded waits for the next call, and is logged once. Raises RetryLater.
        """
        begun: dict[Name, Refold] = {}
        failed: set[Name] = set()
        count = 0
        while not is_stopped() and self._begin(begun, failed):
            for name, refold in list(begun.items()):
                began_s = busy_s()
                try:
                    if refold.advance():
                        del begun[name]
                        count += 1
                        self._is_done(name)
                except Outdated:
                    del begun[name]
                except RetryLater:
                    raise
                except Exception as error:  # noqa: BLE001  one camera's fault must not keep the others waiting
                    del begun[name]
                    failed.add(name)
                    self._fails(name, error)
                leave_to_others(wait, began_s, _SHARE)
        return count

    def _begin(self, begun: dict[Name, Refold], failed: Set[Name]) -> bool:
        """Begin a refold of each camera that waits for one; whether there is any."""
        with reading(self._engine) as connection:
            for name in cameras_to_refold(connection):
                if name not in begun and name not in failed:
                    change = PastChange(*name, added=waiting_of(connection, *name))
                    begun[name] = Refold(self._engine, self._versions, self._clock, change)
        return bool(begun)

    def _is_done(self, name: Name) -> None:
        self._failing.discard(name)
        log.info("late bursts folded in", extra={"site": name[0], "camera": name[1]})

    def _fails(self, name: Name, error: Exception) -> None:
        if name not in self._failing:
            self._failing.add(name)
            cause = error.detail if isinstance(error, SectorwatchError) else repr(error)
            log.error("late bursts not folded in", extra={"site": name[0], "camera": name[1], "cause": cause})


def change_past(engine: Engine, versions: Versions, clock: Clock, change_of: Callable[[Connection], PastChange]) -> int:
    """Make one change at once; of how many bursts. Chooses them anew when somebody changes the same past meanwhile."""
    while True:
        with reading(engine) as connection:
            change = change_of(connection)
        count = len(change.added) + len(change.removed)
        with suppress(Outdated):
            refold = Refold(engine, versions, clock, change)
            while count and not refold.advance():
                pass
            return count
