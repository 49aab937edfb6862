"""The day of a camera on which a change is tried: yesterday, else the newest day that is stored."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import NamedTuple

from server.console.context import Context
from server.domain.times.clock import SECOND_US
from server.domain.times.local_time import LocalTime

_MINUTE_US = 60 * SECOND_US


class Day(NamedTuple):
    """A day of a site's clock: `Saturday 28 November 2026`, and its begin and end (us)."""

    name: str
    since_us: int
    until_us: int


def day_to_try(context: Context, site: str, camera: str, local: LocalTime) -> Day | None:
    """The last day before today on which the camera sent anything, else today up to the last minute; None: no day."""
    now_us = context.clock()
    today_us = _midnight(local, now_us)
    before = context.store.past.before(site, camera, today_us, 1)
    if before:
        since_us = _midnight(local, before[0].last_at_us)
        return Day(_name(local, since_us), since_us, _midnight(local, since_us, days=1))
    if context.store.past.after(site, camera, today_us, 1):
        return Day(_name(local, today_us), today_us, max(today_us + 1, now_us // _MINUTE_US * _MINUTE_US))
    return None


def _midnight(local: LocalTime, at_us: int, days: int = 0) -> int:
    """The instant (us) at which the local day of `at_us` begins, or a later one."""
    day = local.at(at_us).date() + timedelta(days=days)
    return local.us(datetime.combine(day, time()))


def _name(local: LocalTime, at_us: int) -> str:
    return local.heading(at_us).partition(",")[0]
