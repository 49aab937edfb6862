"""The bursts before and after stretches of cameras, in a few statements for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, literal, select, union_all

from server.domain.watching import CameraStretch, Neighbours
from server.store.bursts.burst_log import find_bursts
from server.store.bursts.old_form import has_any_old_frames
from server.store.bursts.records import RECORDS, Record, RecordReader, record_end_us
from server.store.rows import Versions
from server.store.schema import burst_records, cameras

_AT_ONCE = 50
"""Stretches in one statement."""
_FIRST_US = burst_records.c.first_at_us


def read_neighbours(
    connection: Connection, versions: Versions, site: str, stretches: Sequence[CameraStretch]
) -> list[Neighbours]:
    """The neighbours of each stretch. While bursts of an earlier version are not converted, each is asked for alone."""
    if has_any_old_frames(connection):
        return [_alone(connection, versions, site, each) for each in stretches]
    found: list[Neighbours] = []
    reader = RecordReader(connection, versions)
    for at in range(0, len(stretches), _AT_ONCE):
        some = stretches[at : at + _AT_ONCE]
        parts = [_nearest(site, each, place, is_after) for place, each in enumerate(some) for is_after in (0, 1)]
        rows = connection.execute(union_all(*parts)).all()
        records = {(place, is_after): Record._make(row) for place, is_after, *row in rows}
        reader.prepare({record.context for record in records.values()})
        facts = {key: reader.facts(record) for key, record in records.items()}
        found += [(facts.get((place, 0)), facts.get((place, 1))) for place in range(len(some))]
    return found


def _nearest(site: str, stretch: CameraStretch, place: int, is_after: int) -> Select[Any]:
    number = select(cameras.c.number).where(cameras.c.site == site, cameras.c.camera == stretch.camera)
    if is_after:
        where: tuple[ColumnElement[bool], ...] = (stretch.until_us <= _FIRST_US,)
        order: ColumnElement[int] = _FIRST_US.asc()
    else:
        where, order = (stretch.from_us >= _FIRST_US, record_end_us <= stretch.from_us), _FIRST_US.desc()
    mine = select(burst_records.c.number).where(burst_records.c.camera == number.scalar_subquery(), *where)
    nearest = mine.order_by(order).limit(1).correlate(None).scalar_subquery()
    own = (literal(place).label("place"), literal(is_after).label("is_after"))
    return select(*own, *RECORDS.selected_columns).where(burst_records.c.number == nearest)


def _alone(connection: Connection, versions: Versions, site: str, stretch: CameraStretch) -> Neighbours:
    camera, from_us, until_us = stretch
    before = find_bursts(
        connection,
        versions,
        site,
        camera,
        lambda times: (times.first_at_us <= from_us, times.last_at_us <= from_us),
        is_newest_first=True,
        limit=1,
    )
    after = find_bursts(connection, versions, site, camera, lambda times: (times.first_at_us >= until_us,), limit=1)
    return next(iter(before), None), next(iter(after), None)
