"""Bursts that are late, or outside of the fold."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from sqlalchemy import ColumnElement, Connection, func, select

from server.domain.records import LateBurst, Marked
from server.store.bursts.packing import joined_id
from server.store.bursts.records import (
    AT_ONCE,
    IS_HELD,
    RECORDS,
    Record,
    record_end_us,
    unpacked,
)
from server.store.schema import burst_records, cameras


def late_bursts(connection: Connection, numbers: Sequence[int]) -> list[LateBurst]:
    """The bursts of these records, in order of time."""
    found: list[LateBurst] = []
    for begin in range(0, len(numbers), AT_ONCE):
        mine = burst_records.c.number.in_(numbers[begin : begin + AT_ONCE])
        for row in map(Record._make, connection.execute(RECORDS.where(mine))):
            found.append(LateBurst(joined_id(row.id_key, unpacked(row).id_rest), row.first_at_us))
    return sorted(found, key=attrgetter("at_us", "burst_id"))


def waiting_cameras(connection: Connection, *which: ColumnElement[bool]) -> list[tuple[str, str]]:
    """The cameras (site, camera), in order, that have bursts which wait and for which this holds."""
    waiting = select(burst_records.c.camera).where(IS_HELD, *which)
    query = select(cameras.c.site, cameras.c.camera).where(cameras.c.number.in_(waiting))
    return [(row.site, row.camera) for row in connection.execute(query.order_by(cameras.c.site, cameras.c.camera))]


def marked(connection: Connection) -> list[Marked]:
    """What is outside of the fold, of each camera, by site, camera and mark."""
    query = (
        select(
            cameras.c.site,
            cameras.c.camera,
            burst_records.c.late,
            func.count(),
            func.min(burst_records.c.first_at_us),
            func.max(record_end_us),
        )
        .join(cameras, cameras.c.number == burst_records.c.camera)
        .where(IS_HELD)
        .group_by(cameras.c.site, cameras.c.camera, burst_records.c.late)
        .order_by(cameras.c.site, cameras.c.camera, burst_records.c.late)
    )
    return [Marked(*row) for row in connection.execute(query)]
