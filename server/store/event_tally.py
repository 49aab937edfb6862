"""What a day of a site amounts to, from the rows of its events, without making events of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select

from policies.events import microseconds
from policies.fold import decode_state
from server.domain.keeping import DAY_US
from server.domain.records import Checkpoint
from server.domain.watching import Stay, Tally
from server.store.compact import Origin, decode_origin, ended_us
from server.store.event_rows import BARE_COLUMNS, logged, of_names, read_rows
from server.store.schema import burst_records, cameras, events, origins

_STARTED, _ENDED = "presence_started", "presence_ended"
_KINDS = (_STARTED, _ENDED)
_FIRST_US = burst_records.c.first_at_us
_HOLDS = events.c.withdrawn_at_us.is_(None)
_MOST_REMEMBERED = 500_000
"""Events of the stretches whose presences are remembered: some tens of MB."""
_Key = tuple[str, str, str, int]
_Presence = tuple[str, str, str, bool, int, int]


class Remembered:
    """The presences that began in some stretches, as they were read last. Safe to use from several threads.

    Each change of the log gives an event a new number, so the number of events that began in a stretch and the largest
    of their numbers show whether any of them changed. Where there are only new ones, these alone are read.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, int, int], _Begun] = OrderedDict()

    def begun(self, connection: Connection, site: str, named: Mapping[int, str], from_us: int, until_us: int) -> _Begun:
        """The presences of a site's cameras (number to name) that began from `from_us` to before `until_us`."""
        started, key = events.c.started_at_us, (site, from_us, until_us)
        inside = and_(started >= from_us, started < until_us)
        newest = func.coalesce(func.max(events.c.seq), 0)
        count, seq = connection.execute(select(func.count(), newest).where(inside)).one()
        with self._lock:
            known = self._known.pop(key, None)
        if known is None or (known.count, known.seq) != (count, seq):
            known = self._brought_up(connection, known, named, inside, count, seq)
        with self._lock:
            self._known[key] = known
            while len(self._known) > 1 and sum(each.count for each in self._known.values()) > _MOST_REMEMBERED:
                self._known.popitem(last=False)
        return known

    def _brought_up(
        self,
        connection: Connection,
        known: _Begun | None,
        named: Mapping[int, str],
        inside: ColumnElement[bool],
        count: int,
        seq: int,
    ) -> _Begun:
        """What was known with the new ones, where there are only new ones; else all of it, read anew."""
        if known is not None and count > known.count:
            newer = and_(events.c.seq > known.seq, inside)
            fresh = connection.execute(select(func.count()).where(newer)).scalar_one()
            if fresh == count - known.count:
                return known.with_more(_presences(connection, named, _shared(connection), newer), count, seq)
        return _Begun().with_more(_presences(connection, named, _shared(connection), inside), count, seq)


class _Begun:
    """Presences that began in a stretch: those that ended, each once, and those that go on. It never changes."""

    def __init__(self) -> None:
        self.count = 0
        self.seq = 0
        self.ended: tuple[Stay, ...] = ()
        self._began: frozenset[_Key] = frozenset()
        self._is_over: frozenset[_Key] = frozenset()

    def with_more(self, rows: Iterable[_Presence], count: int, seq: int) -> _Begun:
        """These with the presences of more rows of events."""
        began, is_over, more = set(self._began), set(self._is_over), list[Stay]()
        for camera, sector, target, is_end, at_us, end_us in rows:
            key = (camera, sector, target, at_us)
            if not is_end:
                began.add(key)
            elif key not in is_over:
                is_over.add(key)
                more.append(Stay(camera, sector, target, at_us, end_us))
        made = _Begun()
        made.count, made.seq = count, seq
        made.ended = (*self.ended, *more)
        made._began, made._is_over = frozenset(began), frozenset(is_over)
        return made

    @property
    def going_on(self) -> list[Stay]:
        """Those without an end."""
        return [Stay(*key, None) for key in sorted(self._began - self._is_over)]


def read_stays(
    connection: Connection,
    remembered: Remembered,
    site: str,
    named: Mapping[int, str],
    points: Mapping[int, Checkpoint],
    since_us: int,
    until_us: int,
) -> Iterator[Stay]:
    """The presences of cameras (number to name) in a stretch; `points` are their states before it.

    The end of a presence is an event that began when the presence did: one look at the index gives both.
    """
    states = [decode_state(point.state) for point in points.values() if point.state is not None]
    new = [number for number, point in points.items() if point.state is None]  # no checkpoint since its first burst
    first_us = connection.execute(select(func.min(_FIRST_US)).where(burst_records.c.camera.in_(new))).scalar_one()
    visits = [visit for state in states for track in state.tracks for visit in track.visits]
    young_us = [visit.entry_us - 2 * visit.entry_slack_us for visit in visits if not visit.counted]
    points_us = [point.at_us for point in points.values() if point.at_us is not None]
    from_us = min([since_us, *young_us, *points_us, *([] if first_us is None else [first_us])])
    begins_us = {visit.entry_us for visit in visits} | {each.since_us for state in states for each in state.presences}
    earlier = events.c.started_at_us.in_(sorted(at_us for at_us in begins_us if at_us < from_us))
    whole_us = -(-until_us // DAY_US) * DAY_US  # so that a day that goes on is remembered under one name
    begun = remembered.begun(connection, site, named, from_us, whole_us)
    before = _Begun().with_more(_presences(connection, named, _shared(connection), earlier), 0, 0)
    for each in (begun, before):
        for stay in (*each.ended, *each.going_on):
            if stay.from_us < until_us and (stay.until_us is None or stay.until_us > since_us):
                yield stay


def _shared(connection: Connection) -> dict[int, Origin]:
    return {row.number: decode_origin(row.body) for row in connection.execute(_origins())}


def read_tally(connection: Connection, site: str, since_us: int, until_us: int) -> Iterator[Tally]:
    """The events of a site that began in a stretch, counted."""
    shared = {
        row.number: decode_origin(row.body) for row in connection.execute(select(origins.c.number, origins.c.body))
    }
    columns = (events.c.camera, events.c.origin, events.c.kind, events.c.sector, events.c.label)
    named = {row.number: row.camera for row in connection.execute(select(cameras.c.number, cameras.c.camera))}
    within = (events.c.started_at_us >= since_us, events.c.started_at_us < until_us, _HOLDS)
    query = select(*columns, func.count()).where(*within, *of_names(site, None, None)).group_by(*columns)
    found: dict[tuple[str, str, str, str], int] = {}
    for number, origin, kind, sector, label, count in connection.execute(query):
        key = (named[number], kind, sector or "", label) if kind is not None else (named[number], *_of(shared[origin]))
        found[key] = found.get(key, 0) + count
    for key, count in sorted(found.items()):
        yield Tally(*key, count)


def _of(origin: Origin) -> tuple[str, str, str]:
    place = origin.sector or origin.line or f"{origin.from_sector} > {origin.to_sector}"
    return origin.kind or "", place, origin.label or ""


def _origins() -> Select[Any]:
    return select(origins.c.number, origins.c.body).where(origins.c.kind.in_(_KINDS))


def _presences(
    connection: Connection, named: Mapping[int, str], shared: Mapping[int, Origin], where: ColumnElement[bool]
) -> Iterator[_Presence]:
    """Camera, sector, target, whether it ends one, begin and end (or begin again) of events of presence. Events of
    earlier versions are decoded.
    """
    own = (events.c.camera, events.c.origin, events.c.started_at_us, events.c.body)
    mine = (where, (events.c.camera + 0).in_(list(named)), _HOLDS)
    of_kind = (events.c.origin + 0).in_(list(shared))
    places = {number: (o.sector or "", o.label or "", o.kind == _ENDED) for number, o in shared.items()}
    for number, origin, started_us, body in connection.execute(
        select(*own).where(*mine, events.c.kind.is_(None), of_kind)
    ).all():
        sector, target, is_end = places[origin]
        end_us = ended_us(body, started_us) if is_end else None
        yield named[number], sector, target, is_end, started_us, started_us if end_us is None else end_us
    old = select(*BARE_COLUMNS).where(*mine, or_(*(events.c.kind == kind for kind in _KINDS)))
    for row in read_rows(connection, old):
        event = logged(row).event
        begin_us = microseconds(event.started_at)
        is_end = event.kind == _ENDED
        yield event.camera, event.sector or "", event.label, is_end, begin_us, microseconds(event.at)
