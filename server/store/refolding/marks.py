"""The records of bursts that come into the fold, or leave it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, Connection, select

from server.store.bursts import IS_HELD, LATE, SET_ASIDE, read_camera, waiting_cameras
from server.store.schema import burst_records

MOST = 2000
"""Late bursts in one refold; those that are left come with the next."""

Name = tuple[str, str]


def cameras_to_refold(connection: Connection) -> list[Name]:
    """The cameras with late bursts that wait for their refold."""
    return waiting_cameras(connection, burst_records.c.late == LATE)


def waiting_of(connection: Connection, site: str, camera: str) -> list[int]:
    """The records of a camera's oldest late bursts that wait, MOST at most."""
    return _numbers(connection, site, camera, (IS_HELD, burst_records.c.late == LATE), MOST)


def aside_of(connection: Connection, site: str, camera: str, since_us: int | None, until_us: int | None) -> list[int]:
    """The records of a camera's bursts that are set aside and begin from `since_us` to before `until_us`."""
    span = tuple(_within(since_us, until_us))
    return _numbers(connection, site, camera, (IS_HELD, burst_records.c.late == SET_ASIDE, *span))


def folded_of(connection: Connection, site: str, camera: str, since_us: int | None, until_us: int | None) -> list[int]:
    """The records of a camera's bursts in the fold that begin from `since_us` to before `until_us`."""
    return _numbers(connection, site, camera, (burst_records.c.is_held == 0, *_within(since_us, until_us)))


def _within(since_us: int | None, until_us: int | None) -> Iterator[ColumnElement[bool]]:
    if since_us is not None:
        yield burst_records.c.first_at_us >= since_us
    if until_us is not None:
        yield burst_records.c.first_at_us < until_us


def _numbers(
    connection: Connection, site: str, camera: str, which: Sequence[ColumnElement[bool]], most: int | None = None
) -> list[int]:
    known = read_camera(connection, site, camera)
    if known is None:
        return []
    query = select(burst_records.c.number).where(burst_records.c.camera == known.number, *which)
    return list(connection.execute(query.order_by(burst_records.c.first_at_us).limit(most)).scalars())
