"""The stored bursts as they are read, whichever form they have: the one place that knows both.

A burst is a row of `burst_records`, or, until the server has converted it, a row of `bursts` with rows of
`observations` and `decisions`, as versions before 0.3 wrote them. No burst is in both. A burst that waits (`held`) is
always a record: `server.store.bursts.conversion` sees to that when it opens a database.
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from msgspec.structs import replace
from sqlalchemy import Connection, select

from policies.fusion.judgement import Judgement
from server.domain.errors import DatabaseDamaged
from server.domain.records import BurstFacts, Known, Recorded
from server.store.bursts.judged import judgements_of
from server.store.bursts.old_form import (
    OLD_LONGEST_US,
    Times,
    Where,
    find_old_bursts,
    has_old_frames,
    meeting,
    ordered,
    read_old_burst_frames,
    read_old_decisions,
    read_old_facts,
    read_old_frames,
)
from server.store.bursts.records import (
    PAGE,
    RECORDS,
    Camera,
    Record,
    RecordReader,
    read_camera,
    read_record,
    record_end_us,
)
from server.store.rows import Versions, state_at_end, stored_text
from server.store.schema import burst_records, removals

_RECORD_TIMES = Times(burst_records.c.first_at_us, record_end_us)


class StoredBurst(NamedTuple):
    """A stored burst, its frames in order, and the judgement of each by the policy in force at its acceptance."""

    facts: BurstFacts
    frames: list[Recorded]
    judgements: list[Judgement]


def read_known(connection: Connection, versions: Versions, burst_id: str) -> Known | None:
    """A stored burst's digest and status; None for an unknown burst."""
    facts = read_facts(connection, versions, burst_id)
    return None if facts is None else Known(facts.digest, facts.status)


def read_facts(connection: Connection, versions: Versions, burst_id: str) -> BurstFacts | None:
    """A stored burst; None for an unknown one."""
    row = read_record(connection, burst_id)
    if row is not None:
        return RecordReader(connection, versions).facts(row)
    return read_old_facts(connection, burst_id)


def read_kept(connection: Connection, versions: Versions, burst_id: str) -> StoredBurst | None:
    """A stored burst with all that belongs to it; None for an unknown one."""
    row = read_record(connection, burst_id)
    if row is not None:
        facts, frames = RecordReader(connection, versions).burst(row)
        return StoredBurst(facts, frames, judgements_of(connection, versions, row, frames))
    old = read_old_facts(connection, burst_id)
    if old is None:
        return None
    frames = list(read_old_burst_frames(connection, versions, burst_id))
    return StoredBurst(old, frames, read_old_decisions(connection, burst_id) or [])


def read_burst_frames(connection: Connection, versions: Versions, burst_id: str) -> list[Recorded]:
    """The frames of a burst in order; none for an unknown burst."""
    row = read_record(connection, burst_id)
    if row is not None:
        return RecordReader(connection, versions).frames(row)
    return list(read_old_burst_frames(connection, versions, burst_id))


def find_bursts(
    connection: Connection,
    versions: Versions,
    site: str,
    camera: str,
    where: Where = lambda _times: (),
    *,
    is_newest_first: bool = False,
    limit: int | None = None,
    with_held: bool = True,
) -> list[BurstFacts]:
    """A camera's bursts by their first instants, in either direction; equal ones by burst_id."""
    found: list[BurstFacts] = []
    if (mine := read_camera(connection, site, camera)) is not None:
        query = RECORDS.where(burst_records.c.camera == mine.number, *where(_RECORD_TIMES))
        query = query if with_held else query.where(burst_records.c.is_held == 0)
        reader = RecordReader(connection, versions)
        rows = connection.execute(ordered(query, _RECORD_TIMES, is_newest_first).limit(limit))
        found += map(reader.facts, map(Record._make, rows))
    found += find_old_bursts(connection, site, camera, where, is_newest_first=is_newest_first, limit=limit)
    found.sort(key=lambda facts: (facts.first_at_us, facts.burst_id), reverse=is_newest_first)
    return found[:limit]


def burst_times(
    connection: Connection, site: str, camera: str, where: Where = lambda _times: (), limit: int | None = None
) -> list[tuple[int, int]]:
    """The first and last instants of a camera's folded bursts, in order; also of those that cannot be read."""
    found: list[tuple[int, int]] = []
    if (mine := read_camera(connection, site, camera)) is not None:
        query = select(_RECORD_TIMES.first_at_us, _RECORD_TIMES.last_at_us)
        query = query.where(burst_records.c.camera == mine.number, burst_records.c.is_held == 0)
        rows = connection.execute(query.where(*where(_RECORD_TIMES)).order_by(_RECORD_TIMES.first_at_us).limit(limit))
        found += [(row[0], row[1]) for row in rows]
    old = find_old_bursts(connection, site, camera, where, is_newest_first=False, limit=limit)
    found += [(facts.first_at_us, facts.last_at_us) for facts in old]
    return sorted(found)[:limit]


def unreadable_numbers(
    connection: Connection, versions: Versions, site: str, camera: str, since_us: int, until_us: int
) -> list[int]:
    """The numbers of a camera's records that lie in a stretch and cannot be read."""
    mine = read_camera(connection, site, camera)
    if mine is None:
        return []
    inside = (_RECORD_TIMES.first_at_us >= since_us, _RECORD_TIMES.last_at_us < until_us)
    query = RECORDS.where(burst_records.c.camera == mine.number, *inside)
    reader, found = RecordReader(connection, versions), list[int]()
    for row in map(Record._make, connection.execute(query.execution_options(yield_per=PAGE))):
        try:
            reader.burst(row)
        except DatabaseDamaged:
            found.append(row.number)
    return found


def longest_us(connection: Connection, site: str, camera: str) -> int:
    """No burst of the camera lasts longer."""
    mine = read_camera(connection, site, camera)
    return max(OLD_LONGEST_US, 0 if mine is None else mine.longest_us)


def read_frames(
    connection: Connection,
    versions: Versions,
    site: str,
    camera: str,
    since_us: int | None = None,
    until_us: int | None = None,
    also: Container[int] = (),
    known: Camera | None = None,
) -> Iterator[Recorded]:
    """A camera's frames from `since_us` to before `until_us`, in the order of folding: by instant, burst_id and index.

    Those of held bursts are left out, but for the records of these numbers (`also`). Pages are read as they are needed,
    so that memory stays flat. The first frame after a stretch that is no longer kept has the state from which a fold
    goes on. `known`: what `read_camera` gives, where the caller has asked already.
    """
    known = known or read_camera(connection, site, camera)
    parts = () if known is None else _record_frames(connection, versions, known, since_us, until_us, also)
    frames: Iterator[Recorded] = chain.from_iterable(parts)
    if has_old_frames(connection, site, camera):
        old = read_old_frames(connection, versions, site, camera, since_us, until_us)
        frames = heapq.merge(old, frames, key=_place)
    ends = _removal_ends(connection, site, camera, since_us, until_us)
    return _resuming(frames, ends) if ends else frames


def _removal_ends(
    connection: Connection, site: str, camera: str, since_us: int | None, until_us: int | None
) -> list[tuple[int, str]]:
    """The ends of what is no longer kept, in order, each with the state there; `since_us` has its own state."""
    state = stored_text(connection, removals.c.state)
    query = select(removals.c.until_us, state).where(removals.c.site == site, removals.c.camera == camera)
    if since_us is not None:
        query = query.where(removals.c.until_us > since_us)
    if until_us is not None:
        query = query.where(removals.c.until_us < until_us)
    return [
        (end_us, state_at_end(stored, end_us).decode())
        for end_us, stored in connection.execute(query.order_by(removals.c.until_us))
    ]


def _resuming(frames: Iterable[Recorded], ends: Sequence[tuple[int, str]]) -> Iterator[Recorded]:
    place = 0
    for each in frames:
        state = None
        while place < len(ends) and ends[place][0] <= each.observation.at_us:
            state, place = ends[place][1], place + 1
        yield each if state is None else replace(each, resumes=state)


def _place(recorded: Recorded) -> tuple[int, str, int]:
    seen = recorded.observation
    return seen.at_us, seen.burst_id, seen.index


def _record_frames(
    connection: Connection,
    versions: Versions,
    camera: Camera,
    since_us: int | None,
    until_us: int | None,
    also: Container[int],
) -> Iterator[list[Recorded]]:
    """The frames of records, burst by burst, merged where bursts overlap."""
    reader, waiting = RecordReader(connection, versions), list[Recorded]()
    query = ordered(RECORDS.where(burst_records.c.camera == camera.number), _RECORD_TIMES, False)
    query = query.where(*meeting(camera.longest_us, since_us, until_us)(_RECORD_TIMES))
    query = query if also else query.where(burst_records.c.is_held == 0)
    for row in map(Record._make, connection.execute(query.execution_options(yield_per=PAGE))):
        if row.is_held and row.number not in also:
            continue
        frames = reader.frames(row)
        if (since_us is not None and row.first_at_us < since_us) or (
            until_us is not None and row.first_at_us + row.lasts_us >= until_us
        ):
            frames = [each for each in frames if _is_within(each.observation.at_us, since_us, until_us)]
        if waiting and waiting[-1].observation.at_us >= row.first_at_us:
            waiting = sorted(waiting + frames, key=_place)
            is_before = [each for each in waiting if each.observation.at_us < row.first_at_us]
            yield is_before
            waiting = waiting[len(is_before) :]
        else:
            yield waiting
            waiting = frames
    yield waiting


def _is_within(at_us: int, since_us: int | None, until_us: int | None) -> bool:
    return (since_us is None or at_us >= since_us) and (until_us is None or at_us < until_us)
