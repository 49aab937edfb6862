"""When tracks left sectors, from the rows of the event log, without making events of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sqlalchemy import Connection, select

from policies.events import microseconds
from server.domain.watching import Departure
from server.store.compact import decode_origin, track_in
from server.store.events.event_rows import BARE_COLUMNS, is_of_cameras, is_of_kind, logged, read_rows
from server.store.schema import cameras, events, origins

_LEFT = "left"
_PAGE = 1000


def read_departures(
    connection: Connection, since_us: int, names: Collection[tuple[str, str]] | None
) -> Iterator[Departure]:
    """The departures from cameras (site, camera; None: all) since an instant that hold, by instant and id, a page at a
    time. Events of earlier versions are decoded.
    """
    named = {row.number: (row.site, row.camera) for row in connection.execute(select(cameras))}
    kinds = select(origins.c.number, origins.c.body).where(origins.c.kind == _LEFT)
    sectors = {row.number: decode_origin(row.body).sector for row in connection.execute(kinds)}
    own = (events.c.camera, events.c.origin, events.c.started_at_us, events.c.id, events.c.body, events.c.kind)
    query = select(*own).where(events.c.started_at_us >= since_us, events.c.withdrawn_at_us.is_(None))
    query = query.where(is_of_kind(_LEFT), *([] if names is None else [is_of_cameras(names)]))
    query = query.order_by(events.c.started_at_us, events.c.id).execution_options(yield_per=_PAGE)
    for page in connection.execute(query).partitions():
        old = _old(connection, [row.id for row in page if row.kind is not None])
        for camera, origin, at_us, event_id, body, kind in page:
            if kind is None:
                yield Departure(*named[camera], track_in(body), sectors[origin], at_us, event_id)
            else:
                yield old[event_id]


def _old(connection: Connection, ids: Collection[str]) -> dict[str, Departure]:
    """Those that are stored as earlier versions stored them, by id."""
    if not ids:
        return {}
    found: dict[str, Departure] = {}
    for row in read_rows(connection, select(*BARE_COLUMNS).where(events.c.id.in_(ids))):
        event = logged(row).event
        at_us = microseconds(event.started_at)
        found[event.id] = Departure(event.site, event.camera, event.track, event.sector, at_us, event.id)
    return found
