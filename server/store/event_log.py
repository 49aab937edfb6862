"""The event log as it is read, with the indices that its queries use."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from sqlalchemy import ColumnElement, Engine, Row, Select, func, or_, select, tuple_

from policies.events import microseconds
from server.domain.records import Checkpoint, LoggedEvent
from server.domain.times.clock import Clock
from server.domain.watching import Departure, LaneLog, Stay
from server.store.care.derived import mending
from server.store.engine import reading
from server.store.events.departures import read_departures
from server.store.events.event_rows import (
    BARE_COLUMNS,
    EVENT_COLUMNS,
    IN_ORDER,
    in_order,
    is_of_cameras,
    logged,
    of_camera,
    of_names,
    read_rows,
)
from server.store.events.event_tally import Lanes, Remembered, read_lanes
from server.store.events.outbox import last_seq, numbered
from server.store.rows import Part, Versions, read_checkpoints
from server.store.schema import cameras, events

_AT_ONCE = 500
"""Instants in one statement."""
_IDS_AT_ONCE = 100
_ID_DIGITS = 32


class EventLog(Part):
    """The event log's half of `Store`."""

    def __init__(self, engine: Engine, clock: Clock, versions: Versions) -> None:
        super().__init__(engine, clock, versions)
        self._lanes = Remembered[Lanes]()

    def kept_events(self, starts: Collection[str]) -> frozenset[str]:
        """Those of these ids, or first digits of ids, of which the log has an event, be it withdrawn."""
        found: set[str] = set()
        ordered, lengths = sorted(starts), {len(start) for start in starts}
        with reading(self._engine) as connection:
            for at in range(0, len(ordered), _IDS_AT_ONCE):
                some = ordered[at : at + _IDS_AT_ONCE]
                spans = (
                    events.c.id.between(start.ljust(_ID_DIGITS, "0"), start.ljust(_ID_DIGITS, "f")) for start in some
                )
                for event_id in connection.execute(select(events.c.id).where(or_(*spans))).scalars():
                    found.update(event_id[:length] for length in lengths)
        return frozenset(found.intersection(starts))

    def events(
        self,
        since_us: int | None = None,
        until_us: int | None = None,
        site: str | None = None,
        camera: str | None = None,
        kind: str | None = None,
        after_seq: int | None = None,
        limit: int | None = None,
        withdrawn: bool = False,
    ) -> list[LoggedEvent]:
        """Events confirmed from `since_us` to before `until_us` that hold, in order of time.

        With `withdrawn`, withdrawn ones as well. With `after_seq` the answer is for a follower: every announcement
        since then in order of `seq`, withdrawals included.
        """
        filters = _filters(since_us, until_us, site, camera, kind, only_filter=bool(after_seq))
        query = select(*EVENT_COLUMNS).where(*filters).limit(limit)
        if after_seq is not None:
            query = query.where(*_following(after_seq, since_us)).order_by(events.c.seq)
            return [logged(row) for row in self._read(query)]
        query = query if withdrawn else query.where(events.c.withdrawn_at_us.is_(None))
        return in_order(self._read(query.order_by(*IN_ORDER)))

    def begun(
        self,
        since_us: int | None = None,
        until_us: int | None = None,
        site: str | None = None,
        camera: str | None = None,
        kind: str | None = None,
        *,
        sites: Collection[str] | None = None,
        names: Collection[tuple[str, str]] | None = None,
        beyond: LoggedEvent | None = None,
        limit: int | None = None,
        withdrawn: bool = False,
        backwards: bool = False,
        bare: bool = False,
    ) -> list[LoggedEvent]:
        """Events that began from `since_us` to before `until_us` and hold, by instant and id.

        With `withdrawn`, withdrawn ones as well. `sites`: of these sites alone; `names`: of these cameras (site,
        camera). `beyond` is the last event of the page before. `backwards`: the newest first. `bare`: without their
        bursts and frames, which is much faster.
        """
        started, key = events.c.started_at_us, (events.c.started_at_us, events.c.id)
        last_us = None if beyond is None else microseconds(beyond.event.started_at)
        if last_us is not None and backwards:  # a database reads each page from this bound on
            until_us = last_us + 1
        elif last_us is not None:
            since_us = last_us
        query = select(*(BARE_COLUMNS if bare else EVENT_COLUMNS)).where(
            *_within(started, since_us, until_us), *of_names(site, camera, kind)
        )
        if sites is not None:
            query = query.where((events.c.camera + 0).in_(select(cameras.c.number).where(cameras.c.site.in_(sites))))
        if names is not None:
            query = query.where(is_of_cameras(names))
        if beyond is not None:
            last = (last_us, beyond.event.id)
            query = query.where(tuple_(*key) < last if backwards else tuple_(*key) > last)
        if not withdrawn:
            query = query.where(events.c.withdrawn_at_us.is_(None))
        order = [column.desc() for column in key] if backwards else key
        return [logged(row) for row in self._read(query.order_by(*order).limit(limit))]

    def _read(self, query: Select[Any]) -> list[Row[*tuple[Any, ...]]]:
        with numbered(self._engine) as connection:
            return list(read_rows(connection, query))

    def lanes(self, site: str, since_us: int, until_us: int) -> list[LaneLog]:
        """What holds of the targets in the sectors of a site: the presences of which some part lies from `since_us` to
        before `until_us`, those of a lane that meet as one, and the visits that began in it or around it. A lane may
        come twice, the second time with what began long before.
        """
        with numbered(self._engine) as connection:
            names = select(cameras.c.number, cameras.c.camera).where(cameras.c.site == site)
            named = {row.number: row.camera for row in connection.execute(names)}
            states = read_checkpoints(connection, site, since_us)
            points = {number: states[camera] for number, camera in named.items()}
            return list(read_lanes(connection, self._lanes, site, named, points, since_us, until_us))

    def stays(self, site: str, since_us: int, until_us: int) -> list[Stay]:
        """The presences of `lanes`."""
        return [stay for lane in self.lanes(site, since_us, until_us) for stay in lane.stays]

    def checkpoints(self, site: str, before_us: int) -> dict[str, Checkpoint]:
        """As `Store.checkpoint`, of every camera of a site."""

        def read() -> dict[str, Checkpoint]:
            with reading(self._engine) as connection:
                return read_checkpoints(connection, site, before_us)

        return mending(self._engine, self._versions, read)

    def last_confirmed_us(self, site: str | None = None) -> dict[tuple[str, str], int]:
        """When the last event of each camera (of a site) was confirmed (us), withdrawn or not, by site and camera."""
        last = select(func.max(events.c.confirmed_at_us)).where(events.c.camera == cameras.c.number)
        query = select(cameras.c.site, cameras.c.camera, last.correlate(cameras).scalar_subquery())
        rows = self._rows(query if site is None else query.where(cameras.c.site == site))
        return {(place, camera): at_us for place, camera, at_us in rows if at_us is not None}

    def begun_at(self, instants: Collection[int], *, withdrawn: bool = False, bare: bool = False) -> list[LoggedEvent]:
        """Events of all cameras that began at these instants (us) and hold, by instant and id; as `begun`."""
        found: list[LoggedEvent] = []
        ordered = sorted(set(instants))
        for first in range(0, len(ordered), _AT_ONCE):
            query = select(*(BARE_COLUMNS if bare else EVENT_COLUMNS))
            query = query.where(events.c.started_at_us.in_(ordered[first : first + _AT_ONCE]))
            query = query if withdrawn else query.where(events.c.withdrawn_at_us.is_(None))
            found += map(logged, self._read(query.order_by(events.c.started_at_us, events.c.id)))
        return found

    def departures(self, since_us: int, names: Collection[tuple[str, str]] | None = None) -> Iterator[Departure]:
        """When tracks left sectors (`left`) of these cameras (None: of all), from `since_us` on, by instant and id."""
        with reading(self._engine) as connection:
            yield from read_departures(connection, since_us, names)

    def newest(self, sites: Collection[str] | None, before_us: int) -> LoggedEvent | None:
        """The event of these sites (None: of any) that began last before an instant, and holds."""
        query = select(*BARE_COLUMNS).where(events.c.started_at_us < before_us, events.c.withdrawn_at_us.is_(None))
        if sites is not None:
            query = query.where((events.c.camera + 0).in_(select(cameras.c.number).where(cameras.c.site.in_(sites))))
        rows = self._read(query.order_by(events.c.started_at_us.desc(), events.c.id.desc()).limit(1))
        return next(map(logged, rows), None)

    def announced(self, sites: Collection[str] | None, after_seq: int, limit: int) -> list[LoggedEvent]:
        """The newest announcements after `after_seq` of events of these sites (None: of all), in order of `seq`."""
        query = select(*BARE_COLUMNS).where(events.c.seq > after_seq)
        if sites is not None:
            query = query.where((events.c.camera + 0).in_(select(cameras.c.number).where(cameras.c.site.in_(sites))))
        return [logged(row) for row in reversed(self._read(query.order_by(events.c.seq.desc()).limit(limit)))]

    def whole(self, ids: Collection[str]) -> dict[str, LoggedEvent]:
        """Events with their bursts and frames, by id. Unknown ones are left out."""
        rows = self._read(select(*EVENT_COLUMNS).where(events.c.id.in_(list(ids)))) if ids else []
        return {each.event.id: each for each in map(logged, rows)}

    def last_seq(self, sites: Collection[str] | None = None) -> int:
        """The number of the newest announcement; 0 before the first. Of sites: that of their newest event of a camera,
        so that nothing can be learned of others. Corrections of older events may have later numbers.
        """
        with numbered(self._engine) as connection:
            if sites is None:
                return last_seq(connection)
            newest = (
                select(events.c.seq)
                .where(events.c.camera == cameras.c.number, events.c.seq + 0 > 0)
                .order_by(events.c.confirmed_at_us.desc())
                .limit(1)
                .correlate(cameras)
                .scalar_subquery()
            )
            mine = select(func.max(newest)).where(cameras.c.site.in_(sites))
            return connection.execute(mine).scalar_one() or 0


def _following(after_seq: int, since_us: int | None) -> Iterator[ColumnElement[bool]]:
    yield events.c.seq > after_seq
    if since_us is not None and not after_seq:  # the first page begins at `since_us`, not with the first event ever
        first = select(func.min(events.c.seq + 0)).where(events.c.confirmed_at_us >= since_us, events.c.seq + 0 > 0)
        yield events.c.seq >= first.scalar_subquery()


def _within(at_us: ColumnElement[int], since_us: int | None, until_us: int | None) -> Iterator[ColumnElement[bool]]:
    if since_us is not None:
        yield at_us >= since_us
    if until_us is not None:
        yield at_us < until_us


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
    yield from _within(events.c.confirmed_at_us + 0 if only_filter else events.c.confirmed_at_us, since_us, until_us)
    if site is None or camera is None or only_filter:
        yield from of_names(site, camera, kind)
        return
    yield of_camera(site, camera)
    yield from of_names(None, None, kind)
