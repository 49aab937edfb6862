"""The frames after the stored states of cameras, read of many cameras at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from typing import NamedTuple

from sqlalchemy import Connection, and_, select, tuple_

from server.domain.errors import Unknown
from server.domain.records import CameraHead, Recorded
from server.store.bursts.old_form import has_any_old_frames
from server.store.bursts.records import AT_ONCE, RECORDS, Record, RecordReader, record_end_us
from server.store.rows import Versions
from server.store.schema import burst_records, camera_states, cameras, removals

_Name = tuple[str, str]


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
    for at in range(0, len(stored), AT_ONCE):
        names = list(states)[at : at + AT_ONCE]
        removed = _removed(connection, names)
        rows = list(_rows(connection, names))
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


def _rows(connection: Connection, names: Sequence[_Name]) -> Iterator[tuple[_Name, Record]]:
    """The bursts in the fold that end after the stored states of these cameras, camera by camera."""
    head = camera_states.c
    query = (
        select(head.site, head.camera, *RECORDS.selected_columns)
        .join(cameras, and_(cameras.c.site == head.site, cameras.c.camera == head.camera))
        .join(
            burst_records,
            and_(
                burst_records.c.camera == cameras.c.number,
                burst_records.c.is_held == 0,
                burst_records.c.first_at_us > head.last_at_us - cameras.c.longest_us,
                record_end_us > head.last_at_us,
            ),
        )
        .where(tuple_(head.site, head.camera).in_(names))
        .order_by(head.site, head.camera, burst_records.c.first_at_us)
    )
    for site, camera, *row in connection.execute(query).all():
        yield (site, camera), Record._make(row)


def _removed(connection: Connection, names: Sequence[_Name]) -> set[_Name]:
    """Those of these cameras of which something after the stored state is no longer kept."""
    head = camera_states.c
    mine = and_(removals.c.site == head.site, removals.c.camera == head.camera, removals.c.until_us > head.last_at_us)
    query = select(head.site, head.camera).join(removals, mine).where(tuple_(head.site, head.camera).in_(names))
    return {(row.site, row.camera) for row in connection.execute(query)}
