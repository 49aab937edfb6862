"""Golden checks of the ensemble in service, and the notices about it.

Notices are kept in order even while the database does not answer.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from server.domain.announcements import Notice, Noticed
from server.domain.ensemble_protocol import Answering
from server.domain.errors import RetryLater, Unapproved
from server.serving.loading import Loaded
from server.store.events.outbox import Notices

log = logging.getLogger(__name__)

_LOOKED_BACK = 100
_MOST_PENDING = 100


class NoticeQueue:
    """Notices of a replica on their way into the store. Safe to use from several threads."""

    def __init__(self, notices: Notices, instance: str) -> None:
        self._notices = notices
        self._instance = instance
        self._pending: deque[tuple[Noticed, str, Sequence[str], str]] = deque(maxlen=_MOST_PENDING)
        self._lock = threading.Lock()

    def add(self, what: Noticed, loaded: Loaded[Answering], detail: str) -> None:
        """Store a notice about an ensemble, or keep it for the next `flush`."""
        self._pending.append((what, loaded.ensemble.ensemble_info.ensemble, loaded.models, detail))
        self.flush()

    def flush(self) -> bool:
        """Store the pending notices in order; True when none is left."""
        with self._lock:
            while self._pending:
                try:
                    self._notices.add(*self._pending[0], self._instance)
                except RetryLater as error:
                    log.warning("notice not kept yet", extra={"cause": error.detail})
                    return False
                except Exception:
                    log.exception("notice not kept yet")
                    return False
                self._pending.popleft()
        return True

    def last_served(self) -> Notice | None:
        """The notice of the ensemble that this replica served last; None when there is none, or the database does not
        answer.
        """
        mine = (None, self._instance)  # none: from before replicas had names
        try:
            newest = reversed(self._notices.all(limit=_LOOKED_BACK))
            return next((n for n in newest if n.what == "serves" and n.instance in mine), None)
        except RetryLater:
            return None


class GoldenCheck:
    """Asks the golden set. `counted` is called with `passed` or `failed` after each check."""

    def __init__(self, notices: NoticeQueue, counted: Callable[[str], None]) -> None:
        self._notices = notices
        self._counted = counted

    def fault(self, loaded: Loaded[Answering], answering: Answering | None = None) -> str | None:
        """How the answers differ from the approved ones; None when they do not.

        `answering` is the ensemble in the engine; None asks the ensemble alone. Raises RetryLater when the engine has
        no room.
        """
        try:
            loaded.check(answering or loaded.ensemble)
        except Unapproved as error:
            self._counted("failed")
            return error.detail
        self._counted("passed")
        return None

    def require(self, loaded: Loaded[Answering]) -> None:
        """Raises Unapproved, with a notice, for an ensemble that does not answer as approved."""
        fault = self.fault(loaded)
        if fault is not None:
            self._notices.add("refused", loaded, fault)
            raise Unapproved(fault)

    def announce(self, loaded: Loaded[Answering], fault: str | None) -> None:
        """Log and note that the ensemble in service stops, or starts again, answering as approved."""
        if fault is None:
            log.warning("ensemble approved again", extra={"ensemble": loaded.ensemble.ensemble_info.ensemble})
            self._notices.add("approved", loaded, "answers as approved again")
        else:
            log.error("ensemble not approved", extra={"detail": fault})
            self._notices.add("unapproved", loaded, fault)
