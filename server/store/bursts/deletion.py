"""Deleting bursts, in whichever form they are. The caller holds the camera's lock, and keeps the state at their end."""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, select

from server.store.bursts.records import read_camera, record_end_us
from server.store.schema import burst_records, bursts, decisions, observations


def delete_bursts(connection: Connection, site: str, camera: str, first_us: int, last_us: int) -> int:
    """Delete a camera's folded bursts whose first frames lie from `first_us` to `last_us`; how many there were."""
    count = 0
    known = read_camera(connection, site, camera)
    if known is not None:
        mine = (burst_records.c.camera == known.number, burst_records.c.is_held == 0)
        count += connection.execute(
            delete(burst_records).where(*mine, burst_records.c.first_at_us.between(first_us, last_us))
        ).rowcount
    old = select(bursts.c.burst_id).where(
        bursts.c.site == site, bursts.c.camera == camera, bursts.c.first_at_us.between(first_us, last_us)
    )
    for table in (observations, decisions):
        connection.execute(delete(table).where(table.c.burst_id.in_(old)))
    return count + connection.execute(delete(bursts).where(bursts.c.burst_id.in_(old))).rowcount


def delete_held(connection: Connection, site: str, camera: str, since_us: int, until_us: int) -> int:
    """Delete a camera's waiting bursts that have a frame from `since_us` to before `until_us`; how many there were."""
    known = read_camera(connection, site, camera)
    if known is None:
        return 0
    mine = (burst_records.c.camera == known.number, burst_records.c.is_held == 1)
    inside = (burst_records.c.first_at_us < until_us, record_end_us >= since_us)
    return connection.execute(delete(burst_records).where(*mine, *inside)).rowcount


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
