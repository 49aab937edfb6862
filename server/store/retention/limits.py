"""From where on a camera's bursts and events are kept: by age, and by the bytes that its site may take.

Ages count by the camera's own frames, so that a recording of old footage is as old as its newest frame makes it. While
no newer frame comes, the server's clock counts on, at most a day from sweep to sweep: a clock that is set years ahead,
or a server that was off for months, deletes nothing at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, func, insert, select, update

from server.domain.keeping import DAY_US, Keep
from server.domain.times.clock import SECOND_US
from server.store.bursts import has_old_bursts, newest_instants
from server.store.schema import burst_records, cameras, events, keeping

Name = tuple[str, str]
"""Site and camera."""

HOUR_US = 3600 * SECOND_US
BURST_BYTES = 95
"""What a burst takes besides its record: the row's other columns and two indices (measured with dbstat)."""
EVENT_BYTES = 145
"""What an event takes besides its body: other columns and the indices (measured with dbstat)."""


class Border(NamedTuple):
    """Bursts that end, and events that were confirmed, before these instants (us) go; None: none go."""

    bursts_us: int | None = None
    events_us: int | None = None


NOTHING = Border()


def clocks(connection: Connection, now_us: int) -> dict[Name, int]:
    """The instant from which each camera's ages count, by site and camera; what the next sweep needs is written."""
    swept = {(row.site, row.camera): row for row in connection.execute(select(keeping))}
    found: dict[Name, int] = {}
    first: list[dict[str, Any]] = []
    again: list[dict[str, Any]] = []
    for name, newest in newest_instants(connection).items():
        before, idle_us = swept.get(name), 0
        if before is not None and newest <= before.newest_us:
            idle_us = before.idle_us + min(max(now_us - before.swept_at_us, 0), DAY_US)
        values = {"newest_us": newest, "idle_us": idle_us, "swept_at_us": now_us}
        if before is None:
            first.append({"site": name[0], "camera": name[1], **values})
        else:
            again.append({"of_site": name[0], "of_camera": name[1], **values})
        found[name] = newest + idle_us
    if first:
        connection.execute(insert(keeping), first)
    if again:
        mine = (keeping.c.site == bindparam("of_site"), keeping.c.camera == bindparam("of_camera"))
        connection.execute(update(keeping).where(*mine), again)
    return dict(sorted(found.items()))


def border(keep: Keep, clock_us: int, by_size: Border = NOTHING) -> Border:
    """What goes of a camera whose ages count from `clock_us`, by age or by size."""
    return Border(
        _later(_by_age(keep.observations_days, clock_us), by_size.bursts_us),
        _later(_by_age(keep.events_days, clock_us), by_size.events_us),
    )


def with_older(connection: Connection, borders: Mapping[Name, Border]) -> set[Name]:
    """Those of these cameras of one site that may have a burst or an event before their border: a statement for all,
    where a sweep otherwise takes several for each camera. All of them while bursts of an earlier version are stored.
    """
    if has_old_bursts(connection):
        return {*borders}
    burst = select(burst_records.c.first_at_us).where(
        burst_records.c.camera == cameras.c.number, burst_records.c.is_held == 0
    )
    event = select(events.c.confirmed_at_us).where(events.c.camera == cameras.c.number)
    oldest = (
        each.correlate(cameras).order_by(at_us).limit(1).scalar_subquery()
        for each, at_us in ((burst, burst_records.c.first_at_us), (event, events.c.confirmed_at_us))
    )
    query = select(cameras.c.site, cameras.c.camera, *oldest)
    query = query.where(cameras.c.site.in_({site for site, _ in borders}))
    found = {(site, camera): firsts for site, camera, *firsts in connection.execute(query)}
    return {
        name
        for name, until in borders.items()
        if any(
            first is not None and border_us is not None and first < border_us
            for first, border_us in zip(found.get(name, ()), until, strict=False)
        )
    }


def borders_by_size(
    connection: Connection, site: str, max_bytes: int, clock_us: Mapping[Name, int]
) -> dict[Name, Border]:
    """What goes of a site's cameras so that it takes at most `max_bytes`: the oldest bursts, hour by hour, then the
    oldest events. The hour under way stays.
    """
    bursts = _aged(_burst_hours(connection, site), clock_us)
    logged = _aged(_event_hours(connection, site), clock_us)
    over = sum(bursts.values()) + sum(logged.values()) - max_bytes
    age_of_bursts, over = _dropped(bursts, over)
    age_of_events, over = _dropped(logged, over)
    return {
        name: Border(_instant(at_us, age_of_bursts), _instant(at_us, age_of_events))
        for name, at_us in clock_us.items()
        if name[0] == site
    }


def _by_age(days: float, clock_us: int) -> int | None:
    return clock_us - round(days * DAY_US) if days else None


def _later(one: int | None, other: int | None) -> int | None:
    return max((each for each in (one, other) if each is not None), default=None)


def _burst_hours(connection: Connection, site: str) -> Sequence[tuple[str, int, int]]:
    """Camera, hour and bytes of a site's bursts."""
    hour = burst_records.c.first_at_us // HOUR_US
    query = (
        select(cameras.c.camera, hour, func.sum(func.length(burst_records.c.record) + BURST_BYTES))
        .join(cameras, cameras.c.number == burst_records.c.camera)
        .where(cameras.c.site == site)
        .group_by(cameras.c.camera, hour)
    )
    return [(camera, int(at), int(size)) for camera, at, size in connection.execute(query)]


def _event_hours(connection: Connection, site: str) -> Sequence[tuple[str, int, int]]:
    hour = events.c.confirmed_at_us // HOUR_US
    query = (
        select(cameras.c.camera, hour, func.sum(func.length(events.c.body) + EVENT_BYTES))
        .join(cameras, cameras.c.number == events.c.camera)
        .where(cameras.c.site == site)
        .group_by(cameras.c.camera, hour)
    )
    return [(camera, int(at), int(size)) for camera, at, size in connection.execute(query)]


def _aged(hours: Sequence[tuple[str, int, int]], clock_us: Mapping[Name, int]) -> dict[int, int]:
    """Bytes by age in hours, of all cameras together."""
    newest = {camera: at_us // HOUR_US for (_, camera), at_us in clock_us.items()}
    by_age: dict[int, int] = defaultdict(int)
    for camera, hour, size in hours:
        by_age[newest.get(camera, hour) - hour] += size
    return by_age


def _dropped(by_age: Mapping[int, int], over: int) -> tuple[int | None, int]:
    """The least age (hours) that goes, so that `over` bytes go, and how many are over still."""
    least = None
    for age in sorted(by_age, reverse=True):
        if over <= 0 or age < 1:
            break
        least, over = age, over - by_age[age]
    return least, over


def _instant(clock_us: int, age: int | None) -> int | None:
    return None if age is None else (clock_us // HOUR_US - age + 1) * HOUR_US
