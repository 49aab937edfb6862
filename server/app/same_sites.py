"""Servers on one database should judge by the same site policies: each says by which it does, and warns of others."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from server.domain.fleet import ROLLED_OUT_S, SAME_SITES, SitesSource, Standing, sites_differ

log = logging.getLogger(__name__)


class SameSites:
    """Compares the site policies of the live servers on the database.

    `source` gives those of this server, `say` is told them, and `standing` gives what all servers say.
    """

    def __init__(
        self,
        source: Callable[[], SitesSource],
        say: Callable[[SitesSource], None],
        standing: Callable[[], Standing],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.differ = False
        """Whether they have differed for so long that it is no rollout."""
        self._source = source
        self._say = say
        self._standing = standing
        self._clock_s = clock_s
        self._since_s: float | None = None

    def look(self) -> None:
        """To be called again and again. It logs once that they differ, and once that they no longer do.

        It goes by how long they have differed at each look: files that change every minute are no excuse for ever.
        Raises what `standing` raises.
        """
        self._say(self._source())
        found = sites_differ(self._standing())
        if found is None:
            if self.differ:
                log.info("all servers judge by the same site policies again")
            self.differ, self._since_s = False, None
            return
        now_s = self._clock_s()
        self._since_s = now_s if self._since_s is None else self._since_s
        if not self.differ and now_s - self._since_s >= ROLLED_OUT_S:
            self.differ = True
            log.error("servers judge by different site policies", extra={"what": found.what, "todo": SAME_SITES})
