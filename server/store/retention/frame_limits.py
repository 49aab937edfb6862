"""Which kept frames go: by the choice of their site, by age, by bytes.

Ages count as those of bursts (`server.store.retention.limits`). Of a site that keeps its events, a frame is undecided
for a day, by its camera's frames and by the server's clock since it came. Then it stays if it is of a visit or behind
an annotation, or if it is the brightest of its day, to draw sectors on. Of a visit of more than VISIT_US the beginning,
the end, and the time of each event stay: a parked car is a visit too.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, func, select

from server.domain.keeping import DAY_US, FramesKept, Keep, KeepFrames, merged
from server.domain.times.clock import SECOND_US
from server.store.bursts import read_camera
from server.store.engine import reading, writing
from server.store.events.event_rows import EVENT_COLUMNS, logged, of_camera, read_rows
from server.store.retention.events import annotated
from server.store.retention.frame_rows import delete_rows, is_within
from server.store.retention.frames import Frames
from server.store.retention.leaving import AT_ONCE, LOCK
from server.store.schema import cameras, events, keeping, kept_frames

VISIT_US = 600 * SECOND_US
_END_US = 60 * SECOND_US
_SLACK_US = 2 * SECOND_US
"""Around a visit: it may begin and end between two frames."""
_UNDECIDED_US = DAY_US
_AGAIN_US = 3600 * SECOND_US
"""How far before the last decided frame a sweep looks again; a sweep of all, once a day, finds what came later."""
_PAGE = 1000
_SPARE = 0.95
"""A site that has too many bytes is brought down to so much of its bound."""

Name = tuple[str, str]

_ROWS: Select[Any] = select(
    kept_frames.c.number,
    kept_frames.c.camera,
    kept_frames.c.at_us,
    kept_frames.c.sha256,
    kept_frames.c.bytes,
    kept_frames.c.brightness,
    kept_frames.c.kept_at_us,
).order_by(kept_frames.c.at_us, kept_frames.c.number)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What events and annotations want of a camera: stretches (first and last instant, in order), and frames."""

    visits: Sequence[tuple[int, int]]
    annotated: Sequence[tuple[int, int]]
    named: frozenset[bytes]

    def rank(self, row: Row[Any]) -> int:
        """0: nothing wants the frame; 1: a visit does; 2: an annotation does."""
        if is_within(row.at_us, self.annotated):
            return 2
        return int(row.sha256 in self.named or is_within(row.at_us, self.visits))


def read_wanted(connection: Connection, site: str, camera: str, since_us: int, until_us: int) -> Wanted:
    """What events and annotations want of a camera's frames of a stretch."""
    mine = (of_camera(site, camera), events.c.withdrawn_at_us.is_(None))
    inside = (events.c.confirmed_at_us >= since_us - DAY_US, events.c.started_at_us <= until_us)
    visits: list[tuple[int, int]] = []
    named: set[bytes] = set()
    present: dict[tuple[str | None, str], int] = {}
    query = select(*EVENT_COLUMNS).where(*mine, *inside).order_by(events.c.confirmed_at_us, events.c.place)
    for row in read_rows(connection, query.execution_options(yield_per=AT_ONCE)):
        event = logged(row).event
        named.update(bytes.fromhex(each) for each in event.provenance.frame_sha256)
        visits += visit_stretches(row.started_at_us, row.confirmed_at_us)
        if event.kind == "presence_started":
            present[event.sector, event.label] = row.started_at_us
        elif event.kind == "presence_ended":
            present.pop((event.sector, event.label), None)
    visits += [(started_us - _SLACK_US, started_us + VISIT_US) for started_us in present.values()]
    return Wanted(merged(visits), annotated(connection, site, camera), frozenset(named))


def visit_stretches(started_us: int, ended_us: int) -> list[tuple[int, int]]:
    """The parts of a visit whose frames are kept."""
    first_us, last_us = started_us - _SLACK_US, ended_us + _SLACK_US
    if ended_us - started_us <= VISIT_US + _END_US:
        return [(first_us, last_us)]
    return [(first_us, started_us + VISIT_US), (ended_us - _END_US, last_us)]


def _orders(which: FramesKept | None, annotated_last: bool) -> list[frozenset[int]]:
    """The ranks of frames in the order in which they go."""
    first = [frozenset({0, 1})] if which == "all" else [frozenset({0}), frozenset({1})]
    return [*first, frozenset({2})] if annotated_last else [*first[:-1], first[-1] | {2}]


class Times(NamedTuple):
    """The instant from which a camera's ages count, and the server's (us)."""

    camera_us: int
    now_us: int

    def older(self, than_us: int) -> ColumnElement[bool]:
        """Frames of that age. One far ahead of its camera's fold counts from when it came."""
        at_us, ahead_us = kept_frames.c.at_us, self.camera_us + DAY_US
        return (at_us < self.camera_us - than_us) | (
            (at_us > ahead_us) & (kept_frames.c.kept_at_us < self.now_us - than_us)
        )

    def is_undecided(self, row: Row[Any]) -> bool:
        """Whether a frame is of the last day, or came in the last day."""
        is_recent: bool = self.camera_us - _UNDECIDED_US <= row.at_us <= self.camera_us + DAY_US
        return is_recent or bool(row.kept_at_us >= self.now_us - _UNDECIDED_US)


class FrameSweep:
    """Deletes the frames that are not to be kept, a slice at a time."""

    def __init__(self, engine: Engine, clock: Callable[[], int], frames: Frames) -> None:
        self._engine = engine
        self._clock = clock
        self._frames = frames
        self._decided: dict[Name, tuple[int, int]] = {}
        """Up to which frame a camera's were decided, and when all of them were looked at last (us)."""

    def sweep_camera(self, name: Name, keep: Keep, chosen: KeepFrames, camera_us: int) -> Iterator[int]:
        """Delete what is too old or not wanted of a camera; yields how many went, after each slice."""
        times = Times(camera_us, self._clock())
        if chosen.which == "none":
            yield from self._delete_where(name)
        elif chosen.days:
            yield from self._delete_where(name, times.older(round(chosen.days * DAY_US)))
        yield from self._follow_bursts(name, keep)
        if chosen.which == "events":
            yield from self._decide(name, times)

    def _delete_where(self, name: Name, *conditions: ColumnElement[bool]) -> Iterator[int]:
        with reading(self._engine) as connection:
            known = read_camera(connection, *name)
        if known is None:
            return
        query = _ROWS.where(kept_frames.c.camera == known.number, *conditions).limit(AT_ONCE)
        while True:
            with reading(self._engine) as connection:
                rows = connection.execute(query).all()
            if not rows:
                return
            yield self._delete_rows(rows)

    def _follow_bursts(self, name: Name, keep: Keep) -> Iterator[int]:
        """Delete the frames of a time of which no burst is kept."""
        with reading(self._engine) as connection:
            mine = (keeping.c.site == name[0], keeping.c.camera == name[1])
            border_us = connection.execute(select(keeping.c.bursts_from_us).where(*mine)).scalar_one_or_none()
            stay = annotated(connection, *name) if keep.annotated else []
        if border_us is not None:
            yield from self._delete_pages(name, None, border_us, lambda row: not is_within(row.at_us, stay))

    def _decide(self, name: Name, times: Times) -> Iterator[int]:
        """Delete what is a day old and nothing wants."""
        before_us, looked_us = self._decided.get(name, (None, 0))
        is_whole = before_us is None or not looked_us <= times.now_us < looked_us + DAY_US
        since_us = None if is_whole or before_us is None else before_us - _AGAIN_US
        with reading(self._engine) as connection:
            first = self._first(connection, name, since_us)
            if first is None:
                return
            wanted = read_wanted(connection, *name, first, times.camera_us)
        brightest: dict[int, int | None] = {}

        def is_unwanted(row: Row[Any]) -> bool:
            if times.is_undecided(row) or wanted.rank(row):
                return False
            day = row.at_us // DAY_US
            if day not in brightest:
                brightest[day] = self._brightest(row.camera, day)
            return bool(brightest[day] != row.number)

        until_us = None if is_whole else times.camera_us - _UNDECIDED_US
        yield from self._delete_pages(name, since_us, until_us, is_unwanted)
        self._decided[name] = (times.camera_us - _UNDECIDED_US, times.now_us if is_whole else looked_us)

    def _first(self, connection: Connection, name: Name, since_us: int | None) -> int | None:
        known = read_camera(connection, *name)
        query = select(func.min(kept_frames.c.at_us)).where(kept_frames.c.camera == (known and known.number))
        found = connection.execute(query if since_us is None else query.where(kept_frames.c.at_us >= since_us))
        return found.scalar_one_or_none()

    def _brightest(self, camera: int, day: int) -> int | None:
        inside = kept_frames.c.at_us.between(day * DAY_US, (day + 1) * DAY_US - 1)
        query = (
            select(kept_frames.c.number)
            .where(kept_frames.c.camera == camera, inside)
            .order_by(func.coalesce(kept_frames.c.brightness, -1).desc(), kept_frames.c.number)
        )
        with reading(self._engine) as connection:
            return connection.execute(query.limit(1)).scalar_one_or_none()

    def _delete_pages(
        self, name: Name, since_us: int | None, until_us: int | None, goes: Callable[[Row[Any]], bool]
    ) -> Iterator[int]:
        """Delete a camera's frames of a stretch for which `goes` is true, from the oldest on."""
        for page in self._pages(name, since_us, until_us):
            over = [row for row in page if goes(row)]
            for begin in range(0, len(over), AT_ONCE):
                yield self._delete_rows(over[begin : begin + AT_ONCE])

    def _delete_rows(self, rows: Sequence[Row[Any]]) -> int:
        with writing(self._engine, lock=LOCK) as connection:
            delete_rows(connection, rows, self._clock())
        self._frames.remove_leaving()
        return len(rows)

    def _pages(self, name: Name, since_us: int | None, until_us: int | None = None) -> Iterator[Sequence[Row[Any]]]:
        """A camera's kept frames in order, some at a time, each portion in a transaction of its own."""
        place = (-(2**62) if since_us is None else since_us, 0)
        with reading(self._engine) as connection:
            known = read_camera(connection, *name)
        if known is None:
            return
        query = _ROWS.where(kept_frames.c.camera == known.number).limit(_PAGE)
        if until_us is not None:
            query = query.where(kept_frames.c.at_us < until_us)
        while True:
            at_us, number = place
            after = (kept_frames.c.at_us > at_us) | ((kept_frames.c.at_us == at_us) & (kept_frames.c.number > number))
            with reading(self._engine) as connection:
                page = connection.execute(query.where(kept_frames.c.at_us >= at_us, after)).all()
            if not page:
                return
            yield page
            place = (page[-1].at_us, page[-1].number)

    def sweep_size(self, site: str, keep: Keep, chosen: KeepFrames, at_us: Mapping[Name, int]) -> Iterator[int]:
        """Delete the oldest frames of a site that has more bytes than it may; yields how many went, after each slice.

        First those go that nothing wants yet, then those of visits, then those behind annotations.
        """
        has = self._site_bytes(site)
        if not chosen.max_bytes or has <= chosen.max_bytes:
            return
        left = has - round(chosen.max_bytes * _SPARE)
        wants = {name: self._wanted(name, camera_us) for name, camera_us in at_us.items()}
        for ranks in _orders(chosen.which, keep.annotated):
            some: list[Row[Any]] = []
            for row in self._oldest(wants, ranks, at_us):
                if left <= 0:
                    break
                some.append(row)
                left -= row.bytes
                if len(some) == AT_ONCE:
                    yield self._delete_rows(some)
                    some = []
            if some:
                yield self._delete_rows(some)
            if left <= 0:
                return

    def _wanted(self, name: Name, camera_us: int) -> Wanted:
        with reading(self._engine) as connection:
            first = self._first(connection, name, None)
            return read_wanted(connection, *name, camera_us if first is None else first, camera_us + DAY_US)

    def _oldest(
        self, wants: Mapping[Name, Wanted], ranks: frozenset[int], at_us: Mapping[Name, int]
    ) -> Iterator[Row[Any]]:
        """Frames of all of these cameras whose rank is one of these, the oldest first."""

        def of_camera(name: Name) -> Iterator[tuple[int, int, Row[Any]]]:
            for page in self._pages(name, None):
                for row in page:
                    if wants[name].rank(row) in ranks:
                        yield row.at_us - at_us[name], row.number, row

        return (row for _, _, row in heapq.merge(*map(of_camera, wants)))

    def _site_bytes(self, site: str) -> int:
        query = (
            select(func.coalesce(func.sum(kept_frames.c.bytes), 0))
            .join(cameras, cameras.c.number == kept_frames.c.camera)
            .where(cameras.c.site == site)
        )
        with reading(self._engine) as connection:
            return int(connection.execute(query).scalar_one())
