"""What a day of a site amounts to, from the rows of its events, without making events of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain
from typing import Generic, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Connection, Text, and_, case, cast, func, or_, select

from policies.events import microseconds
from policies.fold import decode_state
from server.domain.keeping import DAY_US
from server.domain.records import Checkpoint
from server.domain.watching import LaneLog, Stay
from server.store.compact import decode_origin, lasts_in
from server.store.events.event_rows import BARE_COLUMNS, logged, read_rows
from server.store.schema import burst_records, events, origins

_STARTED, _ENDED, _ENTERED = _KINDS = ("presence_started", "presence_ended", "entered")
_FIRST_US = burst_records.c.first_at_us
_HOLDS = events.c.withdrawn_at_us.is_(None)
_MOST_REMEMBERED = 500_000
"""Events of the stretches that are remembered: some tens of MB."""
_NEVER_US = 2**63
_Place = tuple[str, str, str]
_Key = tuple[str, int, int]
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
        started, (from_us, until_us) = events.c.started_at_us, key[1:]
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

    `stays`: all of them, in order; those that meet as one. `entries`: when its visits began, in order.
    """

    began: frozenset[int]
    ended: Mapping[int, int]
    stays: tuple[Stay, ...]
    entries: tuple[int, ...]


class _Read(NamedTuple):
    """A lane as it is read: when presences began, the first end of each that ended, and when visits began."""

    began: set[int]
    ended: dict[int, int]
    entries: list[int]


_NOTHING = _Lane(frozenset(), {}, (), ())
Lanes = Mapping[_Place, _Lane]
"""What began in a stretch, by camera, sector and target."""


def _with_more(known: Lanes, read: Mapping[_Place, _Read]) -> Lanes:
    """What is known with more of it. The first end of a presence counts."""
    lanes = dict(known)
    for place, more in read.items():
        before = known.get(place, _NOTHING)
        begins = before.began | more.began
        ends = more.ended | dict(before.ended)
        entries = tuple(sorted([*before.entries, *more.entries]))
        lanes[place] = _Lane(begins, ends, tuple(_joined(place, begins, ends)), entries)
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


def read_lanes(
    connection: Connection,
    remembered: Remembered[Lanes],
    site: str,
    named: Mapping[int, str],
    points: Mapping[int, Checkpoint],
    since_us: int,
    until_us: int,
) -> Iterator[LaneLog]:
    """The presences of cameras (number to name) in a stretch, those that meet as one, and the visits that began in it
    or around it; `points` are the states of the cameras before it.

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

    def more(known: Lanes | None, where: ColumnElement[bool]) -> Lanes:
        return _with_more(known or {}, _read(connection, named, where))

    begun = remembered.of(connection, (site, from_us, whole_us), more)
    for place, lane in chain(begun.items(), more(None, earlier).items()):
        stays = [stay for stay in lane.stays if _meets(stay, since_us, until_us)]
        if stays or lane.entries:
            yield LaneLog(*place, tuple(stays), lane.entries)


def _meets(stay: Stay, since_us: int, until_us: int) -> bool:
    return stay.from_us < until_us and (stay.until_us is None or stay.until_us > since_us)


def _read(connection: Connection, named: Mapping[int, str], where: ColumnElement[bool]) -> dict[_Place, _Read]:
    """The presences and visits of which events tell, by place. Events of earlier versions are decoded.

    The database puts the events of a lane into one row: a row for each would take twice as long.
    """
    query = select(origins.c.number, origins.c.body).where(origins.c.kind.in_(_KINDS))
    shared = {row.number: decode_origin(row.body) for row in connection.execute(query)}
    ends = [number for number, origin in shared.items() if origin.kind == _ENDED]
    of_kind = or_(events.c.kind.in_(_KINDS), (events.c.origin + 0).in_(list(shared)))
    mine = (where, _HOLDS, of_kind, (events.c.camera + 0).in_(list(named)))
    starts = func.aggregate_strings(cast(events.c.started_at_us, Text), ",")
    digits = func.hex(events.c.body) if connection.dialect.name == "sqlite" else func.encode(events.c.body, "hex")
    bodies = func.aggregate_strings(case(((events.c.origin + 0).in_(ends), digits)), ",")
    lane = (events.c.camera, events.c.origin)
    found: dict[_Place, _Read] = {}
    has_old = False
    for camera, number, kind, begun, ended in connection.execute(
        select(*lane, func.max(events.c.kind), starts, bodies).where(*mine).group_by(*lane)
    ).all():
        if kind is not None:
            has_old = True
            continue
        origin = shared[number]
        read = found.setdefault((named[camera], origin.sector or "", origin.label or ""), _Read(set(), {}, []))
        _add(read, origin.kind, [int(at_us) for at_us in begun.split(",")], ended)
    if has_old:
        _add_old(found, connection, and_(*mine, events.c.kind.in_(_KINDS)))
    return found


def _add(read: _Read, kind: str | None, starts: list[int], bodies: str) -> None:
    """Add what events of one kind began at some instants; `bodies` are those of ends, as hexadecimal digits."""
    if kind == _STARTED:
        read.began.update(starts)
    elif kind == _ENTERED:
        read.entries.extend(starts)
    else:
        lasts_us = lasts_in(map(bytes.fromhex, bodies.split(",")))
        ends = [(begin_us, begin_us + (last_us or 0)) for begin_us, last_us in zip(starts, lasts_us, strict=True)]
        read.ended.update(dict(reversed(ends)) | read.ended)


def _add_old(found: dict[_Place, _Read], connection: Connection, where: ColumnElement[bool]) -> None:
    for row in read_rows(connection, select(*BARE_COLUMNS).where(where)):
        event = logged(row).event
        lane = found.setdefault((event.camera, event.sector or "", event.label), _Read(set(), {}, []))
        begin_us = microseconds(event.started_at)
        if event.kind == _ENDED:
            lane.ended.setdefault(begin_us, microseconds(event.at))
        elif event.kind == _ENTERED:
            lane.entries.append(begin_us)
        else:
            lane.began.add(begin_us)
