"""What a day of a site amounts to, from the rows of its events, without making events of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain
from typing import Generic, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from policies.events import microseconds
from policies.fold import decode_state
from server.domain.keeping import DAY_US
from server.domain.records import Checkpoint
from server.domain.watching import Stay
from server.store.compact import Origin, decode_origin, ended_us
from server.store.events.event_rows import BARE_COLUMNS, logged, of_names, read_rows
from server.store.schema import burst_records, cameras, events, origins

_STARTED, _ENDED = "presence_started", "presence_ended"
_KINDS = (_STARTED, _ENDED)
_BETWEEN = "\x1f"
"""Between names in a group; no name contains it."""
_FIRST_US = burst_records.c.first_at_us
_HOLDS = events.c.withdrawn_at_us.is_(None)
_MOST_REMEMBERED = 500_000
"""Events of the stretches whose presences are remembered: some tens of MB."""
_NEVER_US = 2**63
_Place = tuple[str, str, str]
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


class _Read(NamedTuple):
    """Presences as they are read: when some began, and the first end of each that ended."""

    began: set[int]
    ended: dict[int, int]


_NO_PRESENCE = _Lane(frozenset(), {}, ())
Presences = Mapping[_Place, _Lane]
"""Presences that began in a stretch, by camera, sector and target."""


def _with_more(known: Presences, read: Mapping[_Place, _Read]) -> Presences:
    """What is known with more presences. The first end of a presence counts."""
    lanes = dict(known)
    for place, more in read.items():
        before = known.get(place, _NO_PRESENCE)
        begins = before.began | more.began
        ends = more.ended | dict(before.ended)
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
        return _with_more(known or {}, _presences(connection, named, where))

    begun = remembered.of(connection, (site, "", from_us, whole_us), more)
    for lane in chain(begun.values(), more(None, earlier).values()):
        for stay in lane.stays:
            if stay.from_us < until_us and (stay.until_us is None or stay.until_us > since_us):
                yield stay


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
    names = events.c.kind + _BETWEEN + func.coalesce(events.c.sector, "") + _BETWEEN + events.c.label
    columns = (events.c.camera, events.c.origin)  # few, and `names` as one: most of the time goes into grouping
    query = select(*columns, names.label("names"), func.count()).where(where).group_by(*columns, "names")
    rows = connection.execute(query).all()
    shared = _origins(connection) if rows else {}
    named = {row.number: row.camera for row in connection.execute(select(cameras.c.number, cameras.c.camera))}
    counts = dict(known)
    for number, origin, of_old, count in rows:
        place, target = _of(shared[origin]) if of_old is None else of_old.split(_BETWEEN)[1:]
        key = (named[number], place, target)
        counts[key] = counts.get(key, 0) + count
    return counts


def _of(origin: Origin) -> tuple[str, str]:
    place = origin.sector or origin.line or f"{origin.from_sector} > {origin.to_sector}"
    return place, origin.label or ""


def _origins(connection: Connection, *kinds: str) -> dict[int, Origin]:
    """What events of these kinds (none: of all) have in common, by number."""
    query = select(origins.c.number, origins.c.body)
    rows = connection.execute(query.where(origins.c.kind.in_(kinds)) if kinds else query)
    return {row.number: decode_origin(row.body) for row in rows}


def _presences(connection: Connection, named: Mapping[int, str], where: ColumnElement[bool]) -> dict[_Place, _Read]:
    """The presences of which events tell, by place. Events of earlier versions are decoded."""
    shared = _origins(connection, *_KINDS)
    own = (events.c.camera, events.c.origin, events.c.started_at_us, events.c.body, events.c.kind)
    of_kind = or_(events.c.kind.in_(_KINDS), (events.c.origin + 0).in_(list(shared)))
    mine = (where, (events.c.camera + 0).in_(list(named)), _HOLDS)
    found: dict[_Place, _Read] = {}
    lanes: dict[tuple[int, int], _Read] = {}
    ends = {number for number, origin in shared.items() if origin.kind == _ENDED}
    has_old = False
    for camera, number, started_us, body, kind in connection.execute(select(*own).where(*mine, of_kind)).all():
        if kind is not None:
            has_old = True
            continue
        lane = lanes.get((camera, number))
        if lane is None:
            origin = shared[number]
            place = (named[camera], origin.sector or "", origin.label or "")
            lane = lanes[camera, number] = found.setdefault(place, _Read(set(), {}))
        if number not in ends:
            lane.began.add(started_us)
        elif started_us not in lane.ended:
            end_us = ended_us(body, started_us)
            lane.ended[started_us] = started_us if end_us is None else end_us
    if has_old:
        _add_old(found, connection, and_(*mine, events.c.kind.in_(_KINDS)))
    return found


def _add_old(found: dict[_Place, _Read], connection: Connection, where: ColumnElement[bool]) -> None:
    for row in read_rows(connection, select(*BARE_COLUMNS).where(where)):
        event = logged(row).event
        lane = found.setdefault((event.camera, event.sector or "", event.label), _Read(set(), {}))
        begin_us = microseconds(event.started_at)
        if event.kind == _ENDED:
            lane.ended.setdefault(begin_us, microseconds(event.at))
        else:
            lane.began.add(begin_us)
