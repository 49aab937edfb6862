"""Deleting bursts, in whichever form they are. The caller holds the camera's lock, and keeps the state at their end.

`let_go` is called with the records that are about to be deleted: events refer to them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, func, select

from server.store.bursts.records import AT_ONCE, read_camera, record_end_us
from server.store.schema import burst_records, bursts, decisions, observations


@dataclass(frozen=True, slots=True)
class Doomed:
    """Records of a camera (its number) that are about to be deleted, and the stretch of their frames (us).

    `longest_us`: the longest span of any burst of the camera.
    """

    camera: int
    numbers: Sequence[int]
    since_us: int
    until_us: int
    longest_us: int


LetGo = Callable[[Connection, Doomed], None]


def delete_bursts(connection: Connection, site: str, camera: str, first_us: int, last_us: int, let_go: LetGo) -> int:
    """Delete a camera's folded bursts whose first frames lie from `first_us` to `last_us`; how many there were."""
    inside = (burst_records.c.is_held == 0, burst_records.c.first_at_us.between(first_us, last_us))
    count = _delete_records(connection, site, camera, inside, let_go)
    old = select(bursts.c.burst_id).where(
        bursts.c.site == site, bursts.c.camera == camera, bursts.c.first_at_us.between(first_us, last_us)
    )
    for table in (observations, decisions):
        connection.execute(delete(table).where(table.c.burst_id.in_(old)))
    return count + connection.execute(delete(bursts).where(bursts.c.burst_id.in_(old))).rowcount


def held_numbers(connection: Connection, site: str, camera: str, since_us: int, until_us: int) -> list[int]:
    """The numbers of the records that `delete_held` deletes."""
    known = read_camera(connection, site, camera)
    mine = (burst_records.c.camera == (known and known.number), *_held_within(since_us, until_us))
    return list(connection.execute(select(burst_records.c.number).where(*mine)).scalars())


def _held_within(since_us: int, until_us: int) -> tuple[ColumnElement[bool], ...]:
    return burst_records.c.is_held == 1, burst_records.c.first_at_us < until_us, record_end_us >= since_us


def delete_held(connection: Connection, site: str, camera: str, since_us: int, until_us: int, let_go: LetGo) -> int:
    """Delete a camera's waiting bursts that have a frame from `since_us` to before `until_us`; how many there were."""
    return _delete_records(connection, site, camera, _held_within(since_us, until_us), let_go)


def delete_numbered(connection: Connection, site: str, camera: str, numbers: Sequence[int], let_go: LetGo) -> int:
    """Delete these records of a camera; how many there were."""
    portions = (numbers[begin : begin + AT_ONCE] for begin in range(0, len(numbers), AT_ONCE))
    return sum(
        _delete_records(connection, site, camera, (burst_records.c.number.in_(some),), let_go) for some in portions
    )


def _delete_records(
    connection: Connection, site: str, camera: str, which: Sequence[ColumnElement[bool]], let_go: LetGo
) -> int:
    known = read_camera(connection, site, camera)
    if known is None:
        return 0
    query = select(burst_records.c.number, burst_records.c.first_at_us, record_end_us)
    rows = connection.execute(query.where(burst_records.c.camera == known.number, *which)).all()
    if not rows:
        return 0
    numbers = [row[0] for row in rows]
    first_us, last_us = min(row[1] for row in rows), max(row[2] for row in rows)
    let_go(connection, Doomed(known.number, numbers, first_us, last_us, known.longest_us))
    for begin in range(0, len(numbers), AT_ONCE):
        these = burst_records.c.number.in_(numbers[begin : begin + AT_ONCE])
        connection.execute(delete(burst_records).where(these))
    return len(numbers)


def last_number(connection: Connection) -> int:
    """The number of the newest record; 0 before the first."""
    return int(connection.execute(select(func.max(burst_records.c.number))).scalar_one() or 0)


def is_newer_before(connection: Connection, site: str, camera: str, number: int, at_us: int) -> bool:
    """Whether a record after this number has frames of the camera at or before an instant."""
    known = read_camera(connection, site, camera)
    if known is None:
        return False
    newer = select(burst_records.c.number).where(
        burst_records.c.number > number, burst_records.c.camera == known.number, burst_records.c.first_at_us <= at_us
    )
    return connection.execute(newer.limit(1)).first() is not None
