"""Visits: the events of one stay of one thing in a sector, joined to what a person reads as one line.

`entered`, `left`, `lingered` and the presence that began with the visit are one visit. `moved`, `crossed` and events
without a partner stand alone. Lines come in the order in which what they tell began.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import groupby

from policies.events import ORDER, Event, microseconds
from policies.fold import decode_state
from server.delivery.visit_log import (
    CAMERAS_AT_ONCE,
    PRESENCE,
    PastOfVisits,
    Store,
    Stretch,
    begin_us,
    read_log,
    read_pages,
    read_past,
)
from server.domain.records import LoggedEvent

HELD = 2000
"""Lines that wait at most for the end of an earlier visit. Beyond, its end is looked up, so that memory stays flat."""

_READ, _MOST_READ = 500, 10_000
"""Events that are read at most for the ends of some visits, and for these visits."""

_JOINED_US = 1_000_000

FindEnds = Callable[[Sequence[LoggedEvent]], Mapping[str, LoggedEvent]]
"""Gives the `left` of each `entered`, by the id of that; a visit that goes on has none."""


@dataclass(slots=True)
class Visit:
    """The events of one line, the first to begin first. `is_over`: no more will come."""

    events: list[LoggedEvent]
    is_over: bool = True
    slack_us: int = field(init=False)

    def __post_init__(self) -> None:
        self.slack_us = max(_JOINED_US, round(2e6 * self.first.time_uncertainty_s))

    @property
    def first(self) -> Event:
        return self.events[0].event

    @property
    def is_withdrawn(self) -> bool:
        """Whether it no longer holds; such an event stands alone."""
        return self.events[0].is_withdrawn

    @property
    def start_us(self) -> int:
        return microseconds(self.first.started_at)

    @property
    def begin(self) -> Event:
        """The event that says how it began: `entered`, where there is one."""
        entered = self.of("entered")
        return self.first if entered is None else entered.event

    @property
    def end(self) -> LoggedEvent | None:
        """The event that ended what another began; None where it goes on, and where an event stands alone."""
        if len(self.events) == 1:
            return None
        return self.of("left") or (None if self.of("entered") else self.of("presence_ended"))

    @property
    def end_us(self) -> int | None:
        """When it ended; None while it goes on."""
        return microseconds((self.end or self.events[0]).event.at) if self.is_over else None

    def of(self, *kinds: str) -> LoggedEvent | None:
        """Its first event of one of these kinds."""
        return next((logged for logged in self.events if logged.event.kind in kinds), None)

    def is_near(self, event: Event) -> bool:
        """Whether an event began with this visit, as exactly as its begin is known."""
        return abs(self.start_us - microseconds(event.started_at)) <= self.slack_us


def _stay(event: Event) -> tuple[str | None, ...]:
    return event.site, event.camera, event.track, event.sector


def _place(event: Event) -> tuple[str | None, ...]:
    return event.site, event.camera, event.sector, event.label


class Joiner:
    """Joins events to visits. Once one keeps more than `held` others waiting, `find_ends` looks up the ends of all
    that wait for theirs. It is asked for each visit once.

    Where it finds none, the visit comes as it is; its end is added to it when it is read.
    """

    def __init__(self, find_ends: FindEnds = lambda _: {}, held: int | None = None) -> None:
        self._find_ends = find_ends
        self._held = HELD if held is None else held
        self._waiting: deque[Visit] = deque()
        self._open: dict[tuple[str | None, ...], Visit] = {}
        self._recent: dict[tuple[str | None, ...], list[Visit]] = {}
        self._looked_up: set[str] = set()
        self._asked: set[str] = set()

    def join(self, events: Iterable[LoggedEvent], *, is_all: bool = True) -> Iterator[Visit]:
        """The visits of events that come in the order in which they began. `is_all`: a visit without an end goes on."""
        for start_us, group in groupby(events, key=begin_us):
            for logged in sorted(group, key=lambda logged: ORDER.index(logged.event.kind)):
                self._add(logged)
            yield from self._ready(start_us)
        if not is_all:
            self._look_up(visit for visit in self._waiting if not visit.is_over)
        yield from self._waiting
        self._waiting.clear()

    def _add(self, logged: LoggedEvent) -> None:
        event = logged.event
        if event.id in self._looked_up:
            self._looked_up.remove(event.id)
        elif logged.is_withdrawn:
            self._waiting.append(Visit([logged]))
        elif event.kind == "entered":
            self._enter(logged)
        elif event.kind == "left" and (visit := self._open.pop(_stay(event), None)) is not None:
            visit.events.append(logged)
            visit.is_over = True
        elif event.kind in (*PRESENCE, "lingered") and (visit := self._begun_with(event)) is not None:
            visit.events.append(logged)
            visit.is_over = visit.is_over or (event.kind == "presence_ended" and visit.of("entered") is None)
        else:
            self._alone(logged)

    def _enter(self, logged: LoggedEvent) -> None:
        visit = self._begun_with(logged.event)
        if visit is None or visit.of("entered") is not None:  # a presence may be known before its first visit counts
            self._alone(logged)
            visit = self._waiting[-1]
        else:
            visit.events.append(logged)
        visit.is_over = False
        self._open[_stay(logged.event)] = visit

    def _alone(self, logged: LoggedEvent) -> None:
        visit = Visit([logged], is_over=logged.event.kind != "presence_started")
        self._waiting.append(visit)
        if logged.event.kind in (*PRESENCE, "entered"):
            recent = self._recent.setdefault(_place(logged.event), [])
            recent[:] = [*(each for each in recent if each.is_near(logged.event)), visit]

    def _begun_with(self, event: Event) -> Visit | None:
        """The visit of the same thing, else of the same place, that began with an event."""
        near = [visit for visit in self._recent.get(_place(event), ()) if visit.is_near(event)]
        mine = [visit for visit in near if visit.first.track == event.track]
        exact = [visit for visit in near if visit.first.started_at == event.started_at]
        return next(iter(mine or exact or near), None)

    def _ready(self, now_us: int) -> Iterator[Visit]:
        """The visits at the head that no later event can change."""
        while self._waiting and now_us > self._waiting[0].start_us + self._waiting[0].slack_us:
            head = self._waiting[0]
            if not head.is_over:
                if len(self._waiting) <= self._held:
                    return
                if head.first.id not in self._asked:
                    self._look_up(visit for visit in self._waiting if not visit.is_over)
            self._asked.discard(head.first.id)
            yield self._waiting.popleft()

    def _look_up(self, some: Iterable[Visit]) -> None:
        new = [visit for visit in some if visit.first.id not in self._asked]
        self._asked.update(visit.first.id for visit in new)
        entries = [(visit, entered) for visit in new if (entered := visit.of("entered")) is not None]
        ends = self._find_ends([entered for _, entered in entries])
        for visit, entered in entries:
            end = ends.get(entered.event.id)
            if end is None:
                continue
            if self._open.get(_stay(entered.event)) is visit:
                del self._open[_stay(entered.event)]
            self._looked_up.add(end.event.id)
            visit.events.append(end)
            visit.is_over = True


def some_visits(
    store: Store, stretch: Stretch, is_wanted: Callable[[Visit], bool], most: int, *, later_us: int, going_on: bool
) -> list[Visit]:
    """The first `most` wanted visits that began in a stretch, as `visits` joins them, for who cannot wait.

    Visits that go on when it begins come first, if `going_on`. An end is known if it comes by `later_us` and is among
    the events that are read: some thousands at most.
    """
    past = read_past(store, stretch, withdrawn=False, bare=True) if going_on else PastOfVisits([], stretch.since_us, {})
    read = 0

    def counted(events: Iterator[LoggedEvent]) -> Iterator[LoggedEvent]:
        nonlocal read
        for read, logged in enumerate(events, 1):  # noqa: B007 - the count is read below
            yield logged

    events = counted(read_log(store, stretch._replace(until_us=later_us), past, withdrawn=False, bare=True))
    found: list[Visit] = []
    for visit in Joiner(held=0).join(events):
        is_full = len(found) >= most
        if (is_full and (read > _READ or all(each.is_over for each in found))) or read > _MOST_READ:
            break
        is_inside = stretch.until_us is None or visit.start_us < stretch.until_us
        ended_us = visit.end_us
        if stretch.since_us is not None and visit.start_us < stretch.since_us:
            is_inside = going_on and (ended_us is None or ended_us >= stretch.since_us)
        if is_inside and not is_full and is_wanted(visit):
            found.append(visit)
    return found


def visits(store: Store, stretch: Stretch, *, withdrawn: bool = False) -> Iterator[Visit]:
    """The visits of which some part lies in a stretch, in the order in which they began. Memory is flat.

    Their events come without bursts and frames, but for the ends that are looked up.
    """
    find_ends = partial(ends_of, store)
    past = read_past(store, stretch, withdrawn=withdrawn, bare=True)
    entries = [logged for logged in past.begun if logged.event.kind == "entered" and not logged.is_withdrawn]
    ends = find_ends(entries).values()
    past.begun.extend([end for end in ends if begin_us(end) < past.from_us[end.event.site, end.event.camera]])
    events = read_log(store, stretch, past, withdrawn=withdrawn, bare=True)
    for visit in Joiner(find_ends).join(events, is_all=stretch.until_us is None):
        end_us = visit.end_us
        if stretch.since_us is None or end_us is None or end_us >= stretch.since_us:
            yield visit


def events_by_time(store: Store, stretch: Stretch, kind: str | None, *, withdrawn: bool) -> Iterator[LoggedEvent]:
    """The events whose instant (`Event.at`) lies in a stretch, in its order. Memory is flat."""
    past = read_past(store, stretch, withdrawn=withdrawn)
    waiting: list[tuple[int, int, str, LoggedEvent]] = []

    def due(until_us: float) -> Iterator[LoggedEvent]:
        while waiting and waiting[0][0] < until_us:
            at_us, *_, logged = heappop(waiting)
            if stretch.since_us is None or at_us >= stretch.since_us:
                yield logged

    for logged in read_log(store, stretch, past, kind, withdrawn=withdrawn):
        yield from due(begin_us(logged))
        event = logged.event
        heappush(waiting, (microseconds(event.at), ORDER.index(event.kind), event.id, logged))
    yield from due(float("inf") if stretch.until_us is None else stretch.until_us)


def ends_of(store: Store, entries: Sequence[LoggedEvent]) -> dict[str, LoggedEvent]:
    """The `left` that ends each of these visits, by the id of its `entered`. Those that go on have none.

    The log is read once for all of them, and not for visits that go on by the state of their camera.
    """
    begun = {(*_stay(each.event), begin_us(each)): each for each in entries}
    for key in _going_on(store) if begun else ():
        begun.pop(key, None)
    waiting: dict[tuple[str | None, ...], list[LoggedEvent]] = {}
    for entered in begun.values():
        waiting.setdefault(_stay(entered.event), []).append(entered)
    if not waiting:
        return {}
    names = {(each.event.site, each.event.camera) for each in begun.values()}
    first_us = min(map(begin_us, begun.values()))
    ends: dict[str, str] = {}
    for left in store.departures(first_us, names if len(names) <= CAMERAS_AT_ONCE else None):
        key = left[:4]
        over = [each for each in waiting.get(key, ()) if begin_us(each) <= left.at_us]
        if not over:
            continue
        ends.update((each.event.id, left.id) for each in over)
        waiting[key] = [each for each in waiting[key] if each not in over]
        if len(ends) == len(begun):
            break
    whole = store.whole(list(ends.values()))
    return {entered: whole[left] for entered, left in ends.items() if left in whole}


def _going_on(store: Store) -> Iterator[tuple[str | int | None, ...]]:
    """The visits of which the states of the cameras say that they go on: their stay and when it began (us)."""
    for head in store.cameras():
        for track in decode_state(head.state).tracks:
            for visit in track.visits:
                yield head.site, head.camera, track.id, visit.sector, visit.entry_us


def begins_of(store: Store, ends: Sequence[LoggedEvent]) -> dict[str, LoggedEvent]:
    """The `entered` of the visit that each of these `left` ends, by the id of the `left`. The log is read backwards
    once for all of them.
    """
    waiting: dict[tuple[str | None, ...], list[LoggedEvent]] = {}
    for left in ends:
        waiting.setdefault(_stay(left.event), []).append(left)
    if not waiting:
        return {}
    names = {(each.event.site, each.event.camera) for each in ends}
    few, until_us = names if len(names) <= CAMERAS_AT_ONCE else None, max(map(begin_us, ends)) + 1
    found: dict[str, LoggedEvent] = {}
    for entered in read_pages(partial(store.begun, None, until_us, None, None, "entered", names=few, backwards=True)):
        key = _stay(entered.event)
        mine = [each for each in waiting.get(key, ()) if begin_us(entered) <= begin_us(each)]
        if not mine:
            continue
        found.update((each.event.id, entered) for each in mine)
        waiting[key] = [each for each in waiting[key] if each not in mine]
        if len(found) == len(ends):
            break
    return found


def visit_of(store: Store, logged: LoggedEvent) -> list[LoggedEvent]:
    """The events of the visit that an event belongs to, itself among them; of `moved` and `crossed`, only itself."""
    entered = begins_of(store, [logged]).get(logged.event.id) if logged.event.kind == "left" else logged
    if entered is None:
        return [logged]
    event = entered.event
    start_us = microseconds(event.started_at)
    with_it = store.begun(start_us, start_us + 1, event.site, event.camera)
    same = [each for each in with_it if _place(each.event) == _place(event) and event.sector is not None]
    begins = [each for each in same if each.event.kind == "entered"]
    ends = ends_of(store, begins).values()
    return list({each.event.id: each for each in (logged, *same, *ends)}.values())


def unlogged(event: Event) -> LoggedEvent:
    """An event of a fold in the form in which the log's events are printed."""
    return LoggedEvent(0, event, late=False, withdrawn_at_us=None, burst_id="")
