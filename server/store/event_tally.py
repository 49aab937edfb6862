"""What a day of a site amounts to, from the rows of its events, without making events of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select

from policies.events import microseconds
from policies.fold import decode_state
from server.domain.keeping import DAY_US
from server.domain.records import Checkpoint
from server.domain.watching import Stay
from server.store.compact import Origin, decode_origin, ended_us
from server.store.event_rows import BARE_COLUMNS, logged, of_names, read_rows
from server.store.schema import burst_records, cameras, events, origins

_STARTED, _ENDED = "presence_started", "presence_ended"
_KINDS = (_STARTED, _ENDED)
_FIRST_US = burst_records.c.first_at_us
_HOLDS = events.c.withdrawn_at_us.is_(None)
_MOST_REMEMBERED = 500_000
"""Events of the stretches whose presences are remembered: some tens of MB."""
_NEVER_US = 2**63
_Place = tuple[str, str, str]
_Presence = tuple[_Place, bool, int, int]
_Key = tuple[str, str, int, int]
_T = TypeVar("_T")


class _Known(NamedTuple, Generic[_T]):
    """What was read of a stretch that had so many events, the largest of whose numbers was `seq`."""

    events: int
    seq: int
    value: _T


class Remembered(Generic[_T]):
    """What the events that began in some stretches gave, as they were read last. Safe to use from several threads.

    Each change of the log gives an event a new number, so the number of events that began in a stretch and the largest
    of their numbers show whether any of them changed. Where there are only new ones, these alone are read. While one of
    them has no number yet, nothing is remembered.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[_Key, _Known[_T]] = OrderedDict()

    def of(self, connection: Connection, key: _Key, more: Callable[[_T | None, ColumnElement[bool]], _T]) -> _T:
        """What the events of a stretch give; `key` ends with its begin and its end. `more` adds the events for which a
        condition holds to what is known, which it does not change.
        """
        started, (from_us, until_us) = events.c.started_at_us, key[2:]
        inside = and_(started >= from_us, started < until_us)
        newest = func.coalesce(func.max(events.c.seq), 0)
        oldest = func.coalesce(func.min(events.c.seq), 0)
        count, seq, least = connection.execute(select(func.count(), newest, oldest).where(inside)).one()
        if least < 0:
            return more(None, inside)
        with self._lock:
            known = self._known.pop(key, None)
        if known is None or (known.events, known.seq) != (count, seq):
            newer = None if known is None else and_(events.c.seq > known.seq, inside)
            if known is not None and newer is not None and _has_only_new(connection, newer, count - known.events):
                known = _Known(count, seq, more(known.value, newer))
            else:
                known = _Known(count, seq, more(None, inside))
        with self._lock:
            self._known[key] = known
            while len(self._known) > 1 and sum(each.events for each in self._known.values()) > _MOST_REMEMBERED:
                self._known.popitem(last=False)
        return known.value


def _has_only_new(connection: Connection, newer: ColumnElement[bool], count: int) -> bool:
    """Whether so many events have come, and none has changed or gone."""
    return count > 0 and connection.execute(select(func.count()).where(newer)).scalar_one() == count


class _Lane(NamedTuple):
    """The presences of a target in a sector: when they began, and from when to when those lasted that ended.

    `stays`: all of them, in order; those that meet as one.
    """

    began: frozenset[int]
    ended: Mapping[int, int]
    stays: tuple[Stay, ...]


_NO_PRESENCE = _Lane(frozenset(), {}, ())
Presences = Mapping[_Place, _Lane]
"""Presences that began in a stretch, by camera, sector and target."""


def _with_more(known: Presences, rows: Iterable[_Presence]) -> Presences:
    """What is known with more presences. The first end of a presence counts."""
    more = dict[_Place, tuple[set[int], dict[int, int]]]()
    for place, is_end, at_us, end_us in rows:
        began, ended = more.get(place) or more.setdefault(place, (set(), {}))
        if is_end:
            ended.setdefault(at_us, end_us)
        else:
            began.add(at_us)
    lanes = dict(known)
    for place, (began, ended) in more.items():
        before = known.get(place, _NO_PRESENCE)
        begins = before.began | began
        ends = ended | dict(before.ended)
        lanes[place] = _Lane(begins, ends, tuple(_joined(place, begins, ends)))
    return lanes


def _joined(place: _Place, began: Collection[int], ended: Mapping[int, int]) -> Iterator[Stay]:
    """Presences of a lane in order, those that meet as one."""
    going_on_us = min((at_us for at_us in began if at_us not in ended), default=_NEVER_US)
    begin_us = last_us = -_NEVER_US
    for from_us, until_us in sorted([*ended.items(), (going_on_us, _NEVER_US)]):
        if from_us > last_us:
            if last_us > -_NEVER_US:
                yield Stay(*place, begin_us, last_us)
            begin_us, last_us = from_us, until_us
        elif until_us > last_us:
            last_us = until_us
    if going_on_us < _NEVER_US:
        yield Stay(*place, begin_us, None)


def read_stays(
    connection: Connection,
    remembered: Remembered[Presences],
    site: str,
    named: Mapping[int, str],
    points: Mapping[int, Checkpoint],
    since_us: int,
    until_us: int,
) -> Iterator[Stay]:
    """The presences of cameras (number to name) in a stretch, those that meet as one; `points` are their states before
    it.

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

    def more(known: Presences | None, where: ColumnElement[bool]) -> Presences:
        return _with_more(known or {}, _presences(connection, named, _shared(connection), where))

    begun = remembered.of(connection, (site, "", from_us, whole_us), more)
    for lane in chain(begun.values(), more(None, earlier).values()):
        for stay in lane.stays:
            if stay.from_us < until_us and (stay.until_us is None or stay.until_us > since_us):
                yield stay


def _shared(connection: Connection) -> dict[int, Origin]:
    return {row.number: decode_origin(row.body) for row in connection.execute(_origins())}


Counts = Mapping[_Place, int]
"""How many events have begun in a stretch, by camera, place and target."""


def read_tally(
    connection: Connection, remembered: Remembered[Counts], site: str, kind: str, since_us: int, until_us: int
) -> Counts:
    """How many events of a kind that hold have begun at a site in a stretch."""

    def more(known: Counts | None, where: ColumnElement[bool]) -> Counts:
        return _counted(connection, known or {}, and_(where, _HOLDS, *of_names(site, None, kind)))

    return remembered.of(connection, (site, kind, since_us, until_us), more)


def _counted(connection: Connection, known: Counts, where: ColumnElement[bool]) -> Counts:
    """What is known with the events for which this holds."""
    columns = (events.c.camera, events.c.origin, events.c.kind, events.c.sector, events.c.label)
    rows = connection.execute(select(*columns, func.count()).where(where).group_by(*columns)).all()
    shared = {
        row.number: decode_origin(row.body) for row in connection.execute(select(origins.c.number, origins.c.body))
    }
    named = {row.number: row.camera for row in connection.execute(select(cameras.c.number, cameras.c.camera))}
    counts = dict(known)
    for number, origin, kind, sector, label, count in rows:
        place, target = (sector or "", label) if kind is not None else _of(shared[origin])
        key = (named[number], place, target)
        counts[key] = counts.get(key, 0) + count
    return counts


def _of(origin: Origin) -> tuple[str, str]:
    place = origin.sector or origin.line or f"{origin.from_sector} > {origin.to_sector}"
    return place, origin.label or ""


def _origins() -> Select[Any]:
    return select(origins.c.number, origins.c.body).where(origins.c.kind.in_(_KINDS))


def _presences(
    connection: Connection, named: Mapping[int, str], shared: Mapping[int, Origin], where: ColumnElement[bool]
) -> Iterator[_Presence]:
    """Of events of presence: camera, sector and target; whether it ends one; begin, and end (or begin again). Events
    of earlier versions are decoded.
    """
    own = (events.c.camera, events.c.origin, events.c.started_at_us, events.c.body)
    mine = (where, (events.c.camera + 0).in_(list(named)), _HOLDS)
    of_kind = (events.c.origin + 0).in_(list(shared))
    ends = {number for number, origin in shared.items() if origin.kind == _ENDED}
    places = {
        (camera, number): (name, origin.sector or "", origin.label or "")
        for camera, name in named.items()
        for number, origin in shared.items()
    }
    new = connection.execute(select(*own).where(*mine, events.c.kind.is_(None), of_kind)).all()
    for camera, number, started_us, body in new:
        end_us = ended_us(body, started_us) if number in ends else None
        yield places[camera, number], number in ends, started_us, started_us if end_us is None else end_us
    old = select(*BARE_COLUMNS).where(*mine, or_(*(events.c.kind == kind for kind in _KINDS)))
    for row in read_rows(connection, old):
        event = logged(row).event
        begin_us = microseconds(event.started_at)
        is_end = event.kind == _ENDED
        yield (event.camera, event.sector or "", event.label), is_end, begin_us, microseconds(event.at)
