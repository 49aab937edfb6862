"""Notices about the ensemble in service, kept in order even while the database does not answer."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from server.domain.errors import RetryLater
from server.domain.records import Notice, Noticed
from server.serving.loading import Loaded

log = logging.getLogger(__name__)

_LOOKED_BACK = 100
_MOST_PENDING = 100


class Notices(Protocol):
    """The notices in the store; see `server.store.notices`."""

    def add(self, what: Noticed, ensemble: str, models: Sequence[str], detail: str) -> object: ...
    def all(self, limit: int | None = None) -> Sequence[Notice]: ...


class NoticeQueue:
    """Notices on their way into the store. Safe to use from several threads."""

    def __init__(self, notices: Notices) -> None:
        self._notices = notices
        self._pending: deque[tuple[Noticed, str, Sequence[str], str]] = deque(maxlen=_MOST_PENDING)
        self._lock = threading.Lock()

    def add(self, what: Noticed, loaded: Loaded, detail: str) -> None:
        """Store a notice about an ensemble, or keep it for the next `flush`."""
        self._pending.append((what, loaded.ensemble.ensemble_info.ensemble, loaded.models, detail))
        self.flush()

    def flush(self) -> bool:
        """Store the pending notices in order; True when none is left."""
        with self._lock:
            while self._pending:
                try:
                    self._notices.add(*self._pending[0])
                except Exception:
                    log.exception("notice not kept yet")
                    return False
                self._pending.popleft()
        return True

    def last_served(self) -> Notice | None:
        """The notice of the ensemble that served last; None when there is none, or the database does not answer."""
        try:
            return next((n for n in reversed(self._notices.all(limit=_LOOKED_BACK)) if n.what == "serves"), None)
        except RetryLater:
            return None
