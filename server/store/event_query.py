"""The query of the event log, with the indices it goes by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select

from server.store.rows import EVENT_COLUMNS
from server.store.schema import events


def events_query(
    since_us: int | None,
    until_us: int | None,
    site: str | None,
    camera: str | None,
    kind: str | None,
    after_seq: int | None,
    withdrawn: bool,
) -> Select[Any]:
    """See `Store.events`, whose arguments these are."""
    query = select(*EVENT_COLUMNS).where(*_filters(since_us, until_us, site, camera, kind, only_filter=bool(after_seq)))
    if after_seq is None:
        query = query.order_by(
            events.c.confirmed_at_us, events.c.site, events.c.camera, events.c.burst_id, events.c.place
        )
        return query if withdrawn else query.where(events.c.withdrawn_at_us.is_(None))
    query = query.where(events.c.seq > after_seq).order_by(events.c.seq)
    if since_us is not None and not after_seq:  # the first page begins at `since_us`, not with the first event ever
        first = select(func.min(events.c.seq + 0)).where(events.c.confirmed_at_us >= since_us)
        query = query.where(events.c.seq >= first.scalar_subquery())
    return query


def _filters(
    since_us: int | None,
    until_us: int | None,
    site: str | None,
    camera: str | None,
    kind: str | None,
    only_filter: bool,
) -> Iterator[ColumnElement[bool]]:
    """The conditions of the query.

    With `only_filter` they use no index, so that the database goes by `seq`: a follower would otherwise read all past
    events of a place. A site alone never uses an index: its events come by the index of times, page by page, and need
    no sort.
    """
    at_us = events.c.confirmed_at_us + 0 if only_filter else events.c.confirmed_at_us
    if since_us is not None:
        yield at_us >= since_us
    if until_us is not None:
        yield at_us < until_us
    for column, wanted in ((events.c.site, site), (events.c.camera, camera), (events.c.kind, kind)):
        if wanted is not None:
            is_filter = only_filter or (column is events.c.site and camera is None)
            yield (column.concat("") if is_filter else column) == wanted
