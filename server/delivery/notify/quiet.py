"""Hours in which nobody is disturbed, on a site's clock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import time
from typing import NamedTuple

from policies.site.schedule import DAYS
from server.domain.times.local_time import LocalTime


class Hours(NamedTuple):
    """From `start` to before `end`, over midnight if `end` is not the later one. `days` (0: Monday) on which they
    begin; empty: every day.
    """

    start: time
    end: time
    days: frozenset[int]

    def hold(self, local: LocalTime, at_us: int) -> bool:
        """Whether the instant lies in these hours."""
        at = local.at(at_us)
        now, day = at.time(), at.weekday()
        if self.start < self.end:
            return self.start <= now < self.end and self._begin_on(day)
        is_evening = now >= self.start and self._begin_on(day)
        return is_evening or (now < self.end and self._begin_on((day - 1) % 7))

    def _begin_on(self, day: int) -> bool:
        return not self.days or day in self.days


def read_hours(text: str) -> Hours:
    """`22:00-06:00` or `sat,sun 00:00-09:30`, as the settings allow it."""
    days, _, clocks = text.rpartition(" ")
    start, _, end = clocks.partition("-")
    named: list[str] = list(DAYS)
    return Hours(
        time.fromisoformat(start),
        time.fromisoformat(end),
        frozenset(named.index(day) for day in days.split(",") if day),
    )


def is_quiet(hours: Sequence[Hours], local: LocalTime, at_us: int) -> bool:
    """Whether the instant lies in any of these hours."""
    return any(each.hold(local, at_us) for each in hours)
