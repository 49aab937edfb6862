"""The stored bursts as they are read, whichever form they have: the one place that knows both.

A burst is a row of `burst_records`, or, until the server has converted it, a row of `bursts` with rows of
`observations` and `decisions`, as versions before 0.3 wrote them. No burst is in both. A burst that waits (`held`) is
always a record: `server.store.bursts.conversion` sees to that when it opens a database.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, cast

import msgspec
from msgspec.structs import replace
from sqlalchemy import ColumnElement, Connection, Row, func, literal_column, select
from sqlalchemy.exc import NoResultFound

from policies.fusion.judge import judge
from policies.fusion.judgement import Judgement
from policies.observation import Observation
from server.domain.errors import DatabaseDamaged
from server.domain.records import BurstFacts, Known, LateBurst, Marked, Recorded, Status
from server.store.bursts.old_form import (
    OLD_LONGEST_US,
    Times,
    Where,
    find_old_bursts,
    has_old_frames,
    ordered,
    read_old_burst_frames,
    read_old_decisions,
    read_old_facts,
    read_old_frames,
)
from server.store.bursts.packing import joined_id, seal_of, split_id, unpack
from server.store.rows import MODELS_SEPARATOR, Versions, encoded, state_at_end, stored_text
from server.store.schema import burst_records, cameras, contexts, removals

IS_HELD: ColumnElement[bool] = literal_column("burst_records.is_held = 1")
"""In these words, so that the databases use the index of the bursts that wait."""

LATE, SET_ASIDE = 1, 2
"""The marks in `burst_records.late`. A late burst that is held waits for its refold."""

record_end_us = burst_records.c.first_at_us + burst_records.c.lasts_us

AT_ONCE = 500
"""Numbers in one statement."""

_PAGE = 200
_judgements = msgspec.json.Decoder(list[Judgement])
_DAMAGE = (msgspec.MsgspecError, zlib.error, ValueError, LookupError, TypeError, OverflowError, NoResultFound)
"""What the values of a damaged record raise, or a reference to a row that is lost."""


_RECORD_TIMES = Times(burst_records.c.first_at_us, record_end_us)

_RECORDS = select(
    burst_records.c.number,
    burst_records.c.id_key,
    burst_records.c.context,
    burst_records.c.first_at_us,
    burst_records.c.lasts_us,
    burst_records.c.is_held,
    burst_records.c.late,
    burst_records.c.record,
)
_CONTEXTS = select(
    contexts.c.number,
    cameras.c.site,
    cameras.c.camera,
    contexts.c.ensemble,
    contexts.c.policy,
    contexts.c.models,
    contexts.c.mask_digest,
    contexts.c.boot_id,
    contexts.c.reason,
).join(cameras, cameras.c.number == contexts.c.camera)


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera's number, and the longest span of its bursts (us)."""

    number: int
    longest_us: int


def read_camera(connection: Connection, site: str, camera: str) -> Camera | None:
    """None for a camera without a record."""
    row = connection.execute(
        select(cameras.c.number, cameras.c.longest_us).where(cameras.c.site == site, cameras.c.camera == camera)
    ).one_or_none()
    return None if row is None else Camera(row.number, row.longest_us)


def standing_of(row: Row[Any]) -> Status:
    """What a record's marks say of its burst."""
    if not row.is_held:
        return "folded"
    return "set_aside" if row.late == SET_ASIDE else "held"


class _Reader:
    """Rows to values within one transaction: what bursts share is read once."""

    def __init__(self, connection: Connection, versions: Versions) -> None:
        self._connection = connection
        self._versions = versions
        self._contexts: dict[int, Row[Any]] = {}

    def context(self, number: int) -> Row[Any]:
        if number not in self._contexts:
            query = _CONTEXTS.where(contexts.c.number == number)
            self._contexts[number] = cast(Row[Any], self._connection.execute(query).one())
        return self._contexts[number]

    def facts(self, row: Row[Any]) -> BurstFacts:
        """The facts of a record. Raises DatabaseDamaged."""
        with _named_damage(row):
            return self._facts(row)

    def frames(self, row: Row[Any]) -> list[Recorded]:
        """The frames of a record in order. Raises DatabaseDamaged."""
        with _named_damage(row):
            return self._frames(row)

    def _facts(self, row: Row[Any]) -> BurstFacts:
        packed, shared = unpack(row.record), self.context(row.context)
        burst_id, first_at_us = joined_id(row.id_key, packed.id_rest), row.first_at_us
        return BurstFacts(
            burst_id=burst_id,
            site=shared.site,
            camera=shared.camera,
            digest=packed.digest_of(burst_id, shared.site, shared.camera, first_at_us, shared.mask_digest),
            status=standing_of(row),
            cause=("future", "refold", "late_within")[row.late] if row.is_held else None,
            late=bool(row.late),
            reason=shared.reason,
            captured_at_us=first_at_us - packed.lead_us,
            first_at_us=first_at_us,
            last_at_us=first_at_us + row.lasts_us,
            frames=packed.frames,
            boot_id=shared.boot_id,
            mask_digest=shared.mask_digest,
            received_at_us=first_at_us + row.lasts_us + packed.received_us,
            ensemble=shared.ensemble,
            policy=shared.policy,
        )

    def _frames(self, row: Row[Any]) -> list[Recorded]:
        packed, shared = unpack(row.record), self.context(row.context)
        ensemble_info = self._versions.ensemble_info(self._connection, shared.ensemble)
        burst_id, first_at_us = joined_id(row.id_key, packed.id_rest), row.first_at_us
        site, camera, policy, mask = shared.site, shared.camera, shared.policy, shared.mask_digest
        error_s = packed.uncertainty_s
        columns = zip(  # the hot loop of every replay: positions instead of names
            packed.offsets_us,
            packed.answers(shared.models.split(MODELS_SEPARATOR)),
            packed.frame_sha256,
            packed.frame_sizes,
            packed.brightnesses,
            strict=True,
        )
        return [
            Recorded(
                policy,
                Observation(
                    site,
                    camera,
                    burst_id,
                    index,
                    first_at_us + offset,
                    ensemble_info,
                    answers,
                    sha256,
                    mask,
                    error_s,
                    size,
                    light,
                ),
            )
            for index, (offset, answers, sha256, size, light) in enumerate(columns)
        ]


@contextmanager
def _named_damage(row: Row[*tuple[Any, ...]]) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise DatabaseDamaged(
            f"the database is damaged: burst record {row.number} cannot be read ({error}): `sectorwatch doctor` names "
            "the way back"
        ) from error


def read_known(connection: Connection, versions: Versions, burst_id: str) -> Known | None:
    """A stored burst's digest and status; None for an unknown burst."""
    facts = read_facts(connection, versions, burst_id)
    return None if facts is None else Known(facts.digest, facts.status)


def read_facts(connection: Connection, versions: Versions, burst_id: str) -> BurstFacts | None:
    """A stored burst; None for an unknown one."""
    row = _record(connection, burst_id)
    if row is not None:
        return _Reader(connection, versions).facts(row)
    return read_old_facts(connection, burst_id)


def read_burst_frames(connection: Connection, versions: Versions, burst_id: str) -> list[Recorded]:
    """The frames of a burst in order; none for an unknown burst."""
    row = _record(connection, burst_id)
    if row is not None:
        return _Reader(connection, versions).frames(row)
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
        query = _RECORDS.where(burst_records.c.camera == mine.number, *where(_RECORD_TIMES))
        query = query if with_held else query.where(burst_records.c.is_held == 0)
        reader = _Reader(connection, versions)
        found += map(reader.facts, connection.execute(ordered(query, _RECORD_TIMES, is_newest_first).limit(limit)))
    found += find_old_bursts(connection, site, camera, where, is_newest_first=is_newest_first, limit=limit)
    found.sort(key=lambda facts: (facts.first_at_us, facts.burst_id), reverse=is_newest_first)
    return found[:limit]


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
) -> Iterator[Recorded]:
    """A camera's frames from `since_us` to before `until_us`, in the order of folding: by instant, burst_id and index.

    Those of held bursts are left out, but for the records of these numbers (`also`). Pages are read as they are needed,
    so that memory stays flat. The first frame after a stretch that is no longer kept has the state from which a fold
    goes on.
    """
    known = read_camera(connection, site, camera)
    frames = iter(()) if known is None else _record_frames(connection, versions, known, since_us, until_us, also)
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


def read_decisions(connection: Connection, versions: Versions, burst_id: str) -> list[Judgement] | None:
    """The decision record of a burst, the judgement of each frame; None for an unknown burst.

    A record holds only the seal of it: the judgements are made again of the stored answers, by the policy of that time.
    """
    row = _record(connection, burst_id)
    if row is None:
        return read_old_decisions(connection, burst_id)
    with _named_damage(row):
        stored = unpack(row.record).decision_record()
    if stored is not None:
        return stored
    judged = judged_again(connection, versions, _Reader(connection, versions).frames(row))
    return _judgements.decode(encoded(judged))  # votes in the order of a stored record


def read_seal(connection: Connection, versions: Versions, burst_id: str) -> bytes | None:
    """The seal of the decision record that was made when the burst was accepted; None for an unknown burst."""
    row = _record(connection, burst_id)
    if row is not None:
        with _named_damage(row):
            return unpack(row.record).judged
    stored = read_decisions(connection, versions, burst_id)
    return None if stored is None else seal_of(stored)


def judged_again(connection: Connection, versions: Versions, frames: Iterable[Recorded]) -> list[Judgement]:
    """The judgements of frames, by the policies under which they were accepted and this version's rules."""
    return [
        judge(versions.policy(connection, each.policy).camera(each.observation.camera), each.observation)
        for each in frames
    ]


def late_bursts(connection: Connection, numbers: Sequence[int]) -> list[LateBurst]:
    """The bursts of these records, in order of time."""
    found: list[LateBurst] = []
    for begin in range(0, len(numbers), AT_ONCE):
        mine = burst_records.c.number.in_(numbers[begin : begin + AT_ONCE])
        for row in connection.execute(_RECORDS.where(mine)):
            with _named_damage(row):
                found.append(LateBurst(joined_id(row.id_key, unpack(row.record).id_rest), row.first_at_us))
    return sorted(found, key=attrgetter("at_us", "burst_id"))


def marked(connection: Connection) -> list[Marked]:
    """What is outside of the fold, of each camera, by site, camera and mark."""
    query = (
        select(
            cameras.c.site,
            cameras.c.camera,
            burst_records.c.late,
            func.count(),
            func.min(burst_records.c.first_at_us),
            func.max(record_end_us),
        )
        .join(cameras, cameras.c.number == burst_records.c.camera)
        .where(IS_HELD)
        .group_by(cameras.c.site, cameras.c.camera, burst_records.c.late)
        .order_by(cameras.c.site, cameras.c.camera, burst_records.c.late)
    )
    return [Marked(*row) for row in connection.execute(query)]


def last_set_aside_us(connection: Connection, versions: Versions, site: str, camera: str) -> int | None:
    """When a camera's last burst that was set aside was received (us); None: none ever was."""
    mine = read_camera(connection, site, camera)
    query = _RECORDS.where(IS_HELD, burst_records.c.late == SET_ASIDE, burst_records.c.camera == (mine and mine.number))
    row = connection.execute(query.order_by(burst_records.c.number.desc()).limit(1)).one_or_none()
    return None if row is None else _Reader(connection, versions).facts(cast(Row[Any], row)).received_at_us


def count_record_frames(connection: Connection) -> int:
    """Frames of all records."""
    rows = connection.execute(select(burst_records.c.record).execution_options(yield_per=_PAGE))
    return sum(unpack(record).frames for (record,) in rows)


def _record(connection: Connection, burst_id: str) -> Row[Any] | None:
    id_key, rest = split_id(burst_id)
    rows = connection.execute(_RECORDS.where(burst_records.c.id_key == id_key))
    return next((cast(Row[Any], row) for row in rows if unpack(row.record).id_rest == rest), None)


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
) -> Iterator[Recorded]:
    """The frames of records, merged where bursts overlap."""
    reader, waiting = _Reader(connection, versions), list[Recorded]()
    query = ordered(_RECORDS.where(burst_records.c.camera == camera.number), _RECORD_TIMES, False)
    query = query.where(*_within(camera, since_us, until_us))
    query = query if also else query.where(burst_records.c.is_held == 0)
    for row in connection.execute(query.execution_options(yield_per=_PAGE)):
        if row.is_held and row.number not in also:
            continue
        frames = reader.frames(row)
        if (since_us is not None and row.first_at_us < since_us) or (
            until_us is not None and row.first_at_us + row.lasts_us >= until_us
        ):
            frames = [each for each in frames if _is_within(each.observation.at_us, since_us, until_us)]
        if waiting and waiting[-1].observation.at_us < row.first_at_us:
            yield from waiting
            waiting = frames
        elif waiting:
            waiting = sorted(waiting + frames, key=_place)
            is_before = [each for each in waiting if each.observation.at_us < row.first_at_us]
            yield from is_before
            waiting = waiting[len(is_before) :]
        else:
            waiting = frames
    yield from waiting


def _within(camera: Camera, since_us: int | None, until_us: int | None) -> Iterator[ColumnElement[bool]]:
    """The condition for bursts that may have a frame in the span."""
    if since_us is not None:
        yield _RECORD_TIMES.first_at_us >= since_us - camera.longest_us
        yield _RECORD_TIMES.last_at_us >= since_us
    if until_us is not None:
        yield _RECORD_TIMES.first_at_us < until_us


def _is_within(at_us: int, since_us: int | None, until_us: int | None) -> bool:
    return (since_us is None or at_us >= since_us) and (until_us is None or at_us < until_us)
