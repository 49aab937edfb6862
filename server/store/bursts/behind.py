"""The frames after the stored states of cameras, read of many cameras at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import groupby
from typing import NamedTuple

from sqlalchemy import Connection, and_, false, or_, select, tuple_

from server.domain.errors import Unknown
from server.domain.records import CameraHead, Recorded
from server.store.bursts.old_form import has_any_old_frames
from server.store.bursts.records import RECORDS, Record, RecordReader, record_end_us
from server.store.rows import Versions
from server.store.schema import burst_records, camera_states, cameras, removals

_Name = tuple[str, str]
_AT_ONCE = 200
"""Cameras in one statement."""


class Behind(NamedTuple):
    """The frames after a stored state in the order of folding, and when the last burst that begins after it was
    received (us; 0: none does).
    """

    frames: list[Recorded]
    received_at_us: int


def frames_behind(connection: Connection, versions: Versions, stored: Sequence[CameraHead]) -> dict[_Name, Behind]:
    """The frames after these states, by site and camera: a few statements for all cameras.

    A camera of which something is no longer kept since, or cannot be read, is left out: it is to be read by itself. So
    is every camera while bursts of an earlier version are not converted.
    """
    if not stored or has_any_old_frames(connection):
        return {}
    states = {(head.site, head.camera): head for head in stored}
    found: dict[_Name, Behind] = {}
    for at in range(0, len(stored), _AT_ONCE):
        names = list(states)[at : at + _AT_ONCE]
        removed = _removed(connection, names)
        rows = _rows(connection, [states[name] for name in names])
        reader = RecordReader(connection, versions)
        reader.prepare({row.context for _, row in rows})
        for name, group in groupby(rows, key=lambda each: each[0]):
            if name not in removed:
                with suppress(Unknown):  # its policy or its ensemble is gone
                    found[name] = _behind(reader, states[name], [row for _, row in group])
    return found


def _behind(reader: RecordReader, stored: CameraHead, rows: Iterable[Record]) -> Behind:
    frames: list[Recorded] = []
    received_at_us = 0
    for row in rows:
        facts, own = reader.burst(row)
        frames += [each for each in own if each.observation.at_us > stored.last_at_us]
        if facts.first_at_us > stored.last_at_us:
            received_at_us = max(received_at_us, facts.received_at_us)
    frames.sort(key=lambda each: (each.observation.at_us, each.observation.burst_id, each.observation.index))
    return Behind(frames, received_at_us)


def _rows(connection: Connection, stored: Sequence[CameraHead]) -> list[tuple[_Name, Record]]:
    """The bursts in the fold that end after these states, camera by camera.

    The instants stand in the statement: PostgreSQL would join the states with all bursts there are.
    """
    last_us = {(head.site, head.camera): head.last_at_us for head in stored}
    mine = tuple_(cameras.c.site, cameras.c.camera).in_(list(last_us))
    found = connection.execute(select(cameras).where(mine)).all()
    names = {row.number: (row.site, row.camera) for row in found}
    later = [
        and_(
            burst_records.c.camera == row.number,
            burst_records.c.first_at_us > last_us[row.site, row.camera] - row.longest_us,
            record_end_us > last_us[row.site, row.camera],
        )
        for row in found
    ]
    query = RECORDS.add_columns(burst_records.c.camera).where(burst_records.c.is_held == 0, or_(false(), *later))
    rows = connection.execute(query.order_by(burst_records.c.camera, burst_records.c.first_at_us)).all()
    return [(names[number], Record._make(row)) for *row, number in rows]


def _removed(connection: Connection, names: Sequence[_Name]) -> set[_Name]:
    """Those of these cameras of which something after the stored state is no longer kept."""
    head = camera_states.c
    mine = and_(removals.c.site == head.site, removals.c.camera == head.camera, removals.c.until_us > head.last_at_us)
    query = select(head.site, head.camera).join(removals, mine).where(tuple_(head.site, head.camera).in_(names))
    return {(row.site, row.camera) for row in connection.execute(query)}
