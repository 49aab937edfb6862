"""The upkeep: work in the database that one server does for all on it, while it has the lease (`server.store.fleet`).

Each step is safe to be done by two at once: a server that was paused may learn late that another has taken over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from server.domain.keeping import Keep
from server.store import Store

_TIDY_FIRST_S, _TIDY_S = 3600.0, 86_400.0
"""Not at once: who put the wrong backup in place can still put the right one."""


class Upkeep:
    """Deletes what is not to be kept, folds in late bursts, admits held ones, and converts what is of older versions.

    Every method returns at once while another server has the lease, and early once `stopping` is set or the lease is
    lost; whoever has it then goes on. All raise what the store raises. `is_mine` says whether this server has the
    lease; `release_held` admits held bursts; `committed` is called when there may be something to deliver.
    """

    def __init__(
        self,
        store: Store,
        *,
        is_mine: Callable[[], bool],
        keep_of: Callable[[str], Keep],
        keep_days: float,
        release_held: Callable[[], object],
        committed: Callable[[], None],
    ) -> None:
        self.is_mine = is_mine
        self._store = store
        self._keep_of = keep_of
        self._keep_days = keep_days
        self._release_held = release_held
        self._committed = committed
        self._tidy_at_s = time.monotonic() + _TIDY_FIRST_S

    def release(self) -> None:
        """Admit held bursts, which were ahead of the clock, once it has caught up."""
        if self.is_mine():
            self._release_held()

    def refold(self, stopping: threading.Event) -> None:
        """Fold in the late bursts that wait, in slices."""
        if self.is_mine() and self._store.refolds.run(self._is_over(stopping), stopping.wait):
            self._committed()

    def convert(self, stopping: threading.Event) -> bool:
        """Convert what an earlier version stored; whether nothing is left to do."""
        if self.is_mine():
            self._store.convert(self._is_over(stopping), stopping.wait)
        return self.is_mine()

    def retain(self, stopping: threading.Event) -> bool:
        """Delete what is not to be kept: of cameras, then of users, audit and letters. Whether it was this server's."""
        if not self.is_mine():
            return False
        self._store.retention.sweep(self._keep_of, self._is_over(stopping), stopping.wait)
        self._store.users.sweep()
        self._store.audit.sweep(self._keep_days)
        self._store.letters.sweep(self._keep_days)
        return True

    def sweep_frames(self, stopping: threading.Event) -> None:
        """Delete the pictures that are not to be kept; now and then, those that nothing names."""
        if not self.is_mine():
            return
        is_over = self._is_over(stopping)
        self._store.retention.sweep_frames(self._keep_of, is_over, stopping.wait)
        if time.monotonic() >= self._tidy_at_s:
            self._tidy_at_s = time.monotonic() + _TIDY_S
            self._store.frames.tidy(is_over)

    def _is_over(self, stopping: threading.Event) -> Callable[[], bool]:
        return lambda: stopping.is_set() or not self.is_mine()
