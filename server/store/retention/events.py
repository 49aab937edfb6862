"""Deleting events and annotations a slice at a time, and what annotated events need to be proved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, delete, exists, select

from server.domain.errors import DatabaseDamaged
from server.domain.keeping import Erasure, merged
from server.domain.times.clock import SECOND_US
from server.store.engine import reading, writing
from server.store.events.event_rows import BARE_COLUMNS, logged, of_camera
from server.store.events.outbox import delete_announcements
from server.store.schema import annotation_rows, dead_letters, events

AT_ONCE = 100
_AROUND_US = 60 * SECOND_US
"""Before and after an annotated fact: what `verify` folds for it, and what `tune` needs for another policy."""

_IS_ANNOTATED = exists().where(annotation_rows.c.subject == events.c.id)


def annotated(connection: Connection, site: str, camera: str) -> list[tuple[int, int]]:
    """The stretches (first and last instant) that prove a camera's annotated facts, in order."""
    facts = (
        select(annotation_rows.c.at_us, annotation_rows.c.within_s, events.c.started_at_us, events.c.confirmed_at_us)
        .join(events, events.c.id == annotation_rows.c.subject, isouter=True)
        .where(annotation_rows.c.site == site, annotation_rows.c.camera == camera)
    )
    return merged(_around(*row) for row in connection.execute(facts))


def _around(at_us: int, within_s: float, started_us: int | None, confirmed_us: int | None) -> tuple[int, int]:
    within_us = round(within_s * SECOND_US)
    first_us = at_us - within_us if started_us is None else min(at_us, started_us)
    last_us = at_us + within_us if confirmed_us is None else max(at_us, confirmed_us)
    return first_us - _AROUND_US, last_us + _AROUND_US


def delete_older_events(
    engine: Engine, site: str, camera: str, before_us: int, *, keeps_annotated: bool
) -> Iterator[int]:
    """Delete a camera's events confirmed before an instant, slice by slice; yields how many went."""
    old: list[ColumnElement[bool]] = [
        of_camera(site, camera),
        events.c.confirmed_at_us < before_us,
    ]
    if keeps_annotated:
        old.append(~_IS_ANNOTATED)
    query = select(events.c.id).where(*old).order_by(events.c.confirmed_at_us).limit(AT_ONCE)
    while True:
        with writing(engine, lock=f"{site}/{camera}") as connection:
            count = delete_events(connection, connection.execute(query).scalars().all())
        yield count
        if count < AT_ONCE:
            return


def erased_events(connection: Connection, erasure: Erasure) -> list[str]:
    """The next events that an erasure deletes, at most AT_ONCE."""
    found: list[str] = []
    here = of_camera(erasure.site, erasure.camera)
    inside = (events.c.confirmed_at_us >= erasure.since_us, events.c.started_at_us < erasure.until_us)
    query = select(*BARE_COLUMNS).where(here, *inside).order_by(events.c.confirmed_at_us)
    if erasure.keeps_annotated:
        query = query.where(~_IS_ANNOTATED)
    for row in connection.execute(query.execution_options(yield_per=AT_ONCE)):
        if _is_erased(erasure, row):
            found.append(row.id)
        if len(found) == AT_ONCE:
            break
    return found


def _is_erased(erasure: Erasure, row: Row[*tuple[Any, ...]]) -> bool:
    """Of an event that cannot be read, its columns say when it began and was confirmed."""
    try:
        return erasure.covers(logged(row).event)
    except DatabaseDamaged:
        instants = (row.started_at_us, row.confirmed_at_us)
        return any(erasure.since_us <= at_us < erasure.until_us for at_us in instants)


def delete_events(connection: Connection, ids: Sequence[str]) -> int:
    """Delete events with their announcements; how many there were. The caller holds the camera's lock."""
    if not ids:
        return 0
    these = events.c.id.in_(ids)
    newest = connection.execute(select(events.c.seq).where(these).with_for_update()).scalars().all()
    connection.execute(delete(events).where(these))
    connection.execute(delete(dead_letters).where(dead_letters.c.event_id.in_(ids)))
    delete_announcements(connection, newest)
    return len(newest)


def delete_annotations(connection: Connection, erasure: Erasure, ids: Sequence[str] = ()) -> int:
    """Delete the annotations of an erasure's stretch, and those of these events; how many there were."""
    rows = annotation_rows.c
    inside = and_(
        rows.site == erasure.site,
        rows.camera == erasure.camera,
        rows.at_us >= erasure.since_us,
        rows.at_us < erasure.until_us,
    )
    return connection.execute(delete(annotation_rows).where(inside | rows.subject.in_(ids))).rowcount


def has_older_events(engine: Engine, site: str, camera: str, before_us: int, *, keeps_annotated: bool) -> bool:
    """Whether `delete_older_events` has something to delete."""
    query = select(events.c.id).where(of_camera(site, camera), events.c.confirmed_at_us < before_us)
    if keeps_annotated:
        query = query.where(~_IS_ANNOTATED)
    with reading(engine) as connection:
        return connection.execute(query.limit(1)).first() is not None
