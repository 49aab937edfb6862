"""Erasing a stretch of a camera on a person's request, and the note that it was done.

The note comes first: from then on readers take the stretch as gone, and no burst of that time is accepted. The rows go
slice by slice, and the pictures after them: a place that does not delete them keeps no row. Whoever finds an erasure
that is not finished goes on with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, Engine, delete, insert, select, update

from server.domain.errors import Unprocessable
from server.domain.keeping import Erasure
from server.domain.times.clock import Clock
from server.store.bursts import (
    burst_times,
    count_rewriting,
    delete_held,
    delete_numbered,
    held_numbers,
    longest_us,
    meeting,
    unreadable_numbers,
)
from server.store.engine import reading, writing
from server.store.events.event_rows import spell_out
from server.store.people.audit import add_line
from server.store.retention.events import annotated, delete_annotations, delete_events, erased_events
from server.store.retention.frames import Frames
from server.store.retention.gone import ERASURES, erasure_of
from server.store.retention.leaving import overwriting
from server.store.retention.slices import Region, remove_within, slices
from server.store.rows import Versions
from server.store.schema import checkpoints, erasures

_ROUNDS = 100


def ask(
    engine: Engine,
    versions: Versions,
    clock: Clock,
    frames: Frames,
    site: str,
    camera: str,
    since_us: int,
    until_us: int,
    *,
    author: str,
    note: str | None,
    keeps_annotated: bool,
    by: str | None = None,
) -> Erasure:
    """Write the note of an erasure, with its line in the audit; `finish` does it.

    Raises Unprocessable for a stretch that is not over.
    """
    now_us = clock()
    if until_us > now_us:
        raise Unprocessable("an erasure ends in the past: bursts of its time are not accepted any more")
    with writing(engine, lock=f"{site}/{camera}") as connection:
        since_us, until_us = _whole_bursts(connection, site, camera, since_us, until_us)
        count_rewriting(connection, site, camera)
        held = held_numbers(connection, site, camera, since_us, until_us)
        if held:
            frames.let_leave(connection, frames.digests(connection, site, camera, since_us, until_us, held))
        row = {
            "site": site,
            "camera": camera,
            "since_us": since_us,
            "until_us": until_us,
            "keeps_annotated": int(keeps_annotated),
            "author": author,
            "note": note,
            "asked_at_us": now_us,
            "bursts": delete_held(connection, site, camera, since_us, until_us, spell_out),
            "events": 0,
            "annotations": 0,
            "frames": 0,
        }
        key = connection.execute(insert(erasures), row).inserted_primary_key
        assert key is not None, "one row was inserted"
        if by is not None:
            detail = f"erasure {key[0]}, by {author}"
            add_line(connection, now_us, by, "erased", site=site, subject=camera, detail=detail)
        return _read(connection, int(key[0]))


def unfinished(engine: Engine) -> list[Erasure]:
    """The erasures of which rows may be left."""
    with reading(engine) as connection:
        return [erasure_of(row) for row in connection.execute(ERASURES.where(erasures.c.finished_at_us.is_(None)))]


def finish(engine: Engine, versions: Versions, clock: Clock, frames: Frames, erasure: Erasure) -> Iterator[None]:
    """Delete what the erasure names, slice by slice; yields after each, and ends when it is finished.

    Rows of pictures go first: no damage of the log keeps them. The pictures themselves go last: no failure of their
    place keeps bursts and events.
    """
    lock = f"{erasure.site}/{erasure.camera}"
    with reading(engine) as connection:
        stay = annotated(connection, erasure.site, erasure.camera) if erasure.keeps_annotated else []
    region = Region(erasure.site, erasure.camera, erasure.since_us, erasure.until_us, stay)
    while frames.are_within(region):
        with overwriting(engine, lock) as connection:
            _count(connection, erasure, frames=frames.delete_within(connection, region))
        yield
    while True:
        with reading(engine) as connection:
            ids = erased_events(connection, erasure)
        if not ids:
            break
        with overwriting(engine, lock) as connection:
            about = 0 if erasure.keeps_annotated else delete_annotations(connection, erasure, ids)
            _count(connection, erasure, events=delete_events(connection, ids), annotations=about)
        yield
    with overwriting(engine, lock) as connection:
        _delete_unreadable(connection, versions, erasure)
    for planned in slices(engine, versions, region):
        left = frames.left_of(erasure.site, erasure.camera, planned.first_us, planned.last_us + 1)
        with overwriting(engine, lock) as connection:
            count = remove_within(connection, versions, region, planned)
            if count:
                frames.let_leave(connection, left)
            _count(connection, erasure, bursts=count)
        yield
    with overwriting(engine, lock) as connection:
        about = 0 if erasure.keeps_annotated else delete_annotations(connection, erasure)
        stretch = (erasure.since_us, erasure.until_us)
        aside = delete_held(connection, erasure.site, erasure.camera, *stretch, spell_out)
        _count(connection, erasure, bursts=aside, annotations=about)
    frames.remove_leaving()
    with writing(engine, lock=lock) as connection:
        mine = (erasures.c.number == erasure.number, erasures.c.finished_at_us.is_(None))
        connection.execute(update(erasures).where(*mine).values(finished_at_us=clock()))


def read(engine: Engine, number: int) -> Erasure:
    """An erasure as it stands."""
    with reading(engine) as connection:
        return _read(connection, number)


def _read(connection: Connection, number: int) -> Erasure:
    return erasure_of(connection.execute(ERASURES.where(erasures.c.number == number)).one())


def _count(connection: Connection, erasure: Erasure, **more: int) -> None:
    values = {name: erasures.c[name] + count for name, count in more.items()}
    connection.execute(update(erasures).where(erasures.c.number == erasure.number).values(values))


def _delete_unreadable(connection: Connection, versions: Versions, erasure: Erasure) -> None:
    """Delete the bursts that cannot be read, whatever is to stay: they prove nothing. The note says how many."""
    stretch = (erasure.site, erasure.camera, erasure.since_us, erasure.until_us)
    numbers = unreadable_numbers(connection, versions, *stretch)
    if not numbers:
        return
    count_rewriting(connection, erasure.site, erasure.camera)
    count = delete_numbered(connection, erasure.site, erasure.camera, numbers, spell_out)
    mine = (checkpoints.c.site == erasure.site, checkpoints.c.camera == erasure.camera)
    inside = (checkpoints.c.at_us >= erasure.since_us, checkpoints.c.at_us < erasure.until_us)
    connection.execute(delete(checkpoints).where(*mine, *inside))
    _count(connection, erasure, bursts=count)
    said = f"{count} of its bursts could not be read"
    before = connection.execute(select(erasures.c.note).where(erasures.c.number == erasure.number)).scalar_one()
    note = said if before is None else f"{before}; {said}"
    connection.execute(update(erasures).where(erasures.c.number == erasure.number).values(note=note))


def _whole_bursts(connection: Connection, site: str, camera: str, since_us: int, until_us: int) -> tuple[int, int]:
    """The stretch, with the whole of each burst that has a frame in it or overlaps such a burst."""
    span_us = longest_us(connection, site, camera)
    for _ in range(_ROUNDS):
        before = since_us, until_us
        for border_us in before:
            across = meeting(span_us, border_us, border_us)
            for first_us, last_us in burst_times(connection, site, camera, across):
                since_us, until_us = min(since_us, first_us), max(until_us, last_us + 1)
        if (since_us, until_us) == before:
            return before
    raise Unprocessable("bursts overlap without end there: choose a stretch that begins and ends between two bursts")
