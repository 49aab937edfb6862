"""Whether ensembles answer as approved: the golden set, asked, counted and logged."""

from __future__ import annotations

import logging
from collections.abc import Callable

from server.domain.errors import Unapproved
from server.serving.loading import Answering, Loaded
from server.serving.notices import NoticeQueue

log = logging.getLogger(__name__)


class GoldenCheck:
    """Asks the golden set. `counted` is called with `passed` or `failed` after each check."""

    def __init__(self, notices: NoticeQueue, counted: Callable[[str], None]) -> None:
        self._notices = notices
        self._counted = counted

    def fault(self, loaded: Loaded, answering: Answering | None = None) -> str | None:
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

    def require(self, loaded: Loaded) -> None:
        """Raises Unapproved, with a notice, for an ensemble that does not answer as approved."""
        fault = self.fault(loaded)
        if fault is not None:
            self._notices.add("refused", loaded, fault)
            raise Unapproved(fault)

    def announce(self, loaded: Loaded, fault: str | None) -> None:
        """Log and note that the ensemble in service stops, or starts again, answering as approved."""
        if fault is None:
            log.warning("ensemble approved again", extra={"ensemble": loaded.ensemble.ensemble_info.ensemble})
            self._notices.add("approved", loaded, "answers as approved again")
        else:
            log.error("ensemble not approved", extra={"detail": fault})
            self._notices.add("unapproved", loaded, fault)
