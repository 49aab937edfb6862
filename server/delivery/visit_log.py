"""The event log as visits read it: a stretch, with what went on when it began."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, Protocol

from policies.events import microseconds
from policies.fold import decode_state
from server.domain.records import CameraHead, Checkpoint, LoggedEvent
from server.domain.watching import Departure

PAGE = 1000
NEAR_US = 7_200_000_000
"""Before a stretch, the log is read of all cameras at once. Before that, only of cameras that need it, those
together that begin at about the same time."""
CAMERAS_AT_ONCE = 200
"""Cameras in one question."""

PRESENCE = ("presence_started", "presence_ended")


class Past(Protocol):
    def first_us(self, site: str | None = ...) -> Mapping[tuple[str, str], int]: ...


class EventLog(Protocol):
    """What is read of the event log."""

    def events(
        self,
        since_us: int | None = ...,
        until_us: int | None = ...,
        site: str | None = ...,
        camera: str | None = ...,
        kind: str | None = ...,
        after_seq: int | None = ...,
        limit: int | None = ...,
        withdrawn: bool = ...,
    ) -> list[LoggedEvent]: ...
    def begun(
        self,
        since_us: int | None = ...,
        until_us: int | None = ...,
        site: str | None = ...,
        camera: str | None = ...,
        kind: str | None = ...,
        *,
        names: Collection[tuple[str, str]] | None = ...,
        beyond: LoggedEvent | None = ...,
        limit: int | None = ...,
        withdrawn: bool = ...,
        backwards: bool = ...,
        bare: bool = ...,
    ) -> list[LoggedEvent]: ...


class Store(EventLog, Protocol):
    @property
    def past(self) -> Past: ...
    def cameras(self) -> Sequence[CameraHead]: ...
    def names(self) -> list[tuple[str, str]]: ...
    def whole(self, ids: Collection[str]) -> dict[str, LoggedEvent]: ...
    def begun_at(self, instants: Collection[int], *, withdrawn: bool = ..., bare: bool = ...) -> list[LoggedEvent]: ...
    def departures(self, since_us: int, names: Collection[tuple[str, str]] | None = ...) -> Iterator[Departure]: ...
    def last_confirmed_us(self, site: str | None = ...) -> Mapping[tuple[str, str], int]: ...
    def checkpoint(self, site: str, camera: str, before_us: int) -> Checkpoint: ...
    def checkpoints(self, site: str, before_us: int) -> dict[str, Checkpoint]: ...


class Stretch(NamedTuple):
    """The part of the log that is read; instants in us, None: no limit."""

    since_us: int | None = None
    until_us: int | None = None
    site: str | None = None
    camera: str | None = None


class PastOfVisits(NamedTuple):
    """What precedes a stretch: events that began visits going on in it; the instants (us) from which the log is read,
    of all cameras (None: from its begin) and, where that is earlier, of each.
    """

    begun: list[LoggedEvent]
    near_us: int | None
    from_us: dict[tuple[str, str], int]


def begin_us(logged: LoggedEvent) -> int:
    return microseconds(logged.event.started_at)


def read_log(
    store: Store,
    stretch: Stretch,
    past: PastOfVisits,
    kind: str | None = None,
    *,
    withdrawn: bool,
    bare: bool = False,
) -> Iterator[LoggedEvent]:
    """The past before a stretch and the log from there on, each event once, in the order in which they began. `bare`:
    without their bursts and frames.
    """
    _, until_us, site, camera = stretch
    known = {logged.event.id for logged in past.begun}
    read = partial(store.begun, withdrawn=withdrawn, bare=bare)
    streams = [read_pages(partial(read, past.near_us, until_us, site, camera, kind))]
    for some in _far(past):
        first_us = min(past.from_us[name] for name in some)
        far = read_pages(partial(read, first_us, past.near_us, None, None, kind, names=some))
        streams.append(each for each in far if begin_us(each) >= past.from_us[each.event.site, each.event.camera])
    pages = merge(*streams, key=lambda logged: (begin_us(logged), logged.event.id))
    wanted = sorted((each for each in past.begun if kind in (None, each.event.kind)), key=begin_us)
    return merge(wanted, (logged for logged in pages if logged.event.id not in known), key=begin_us)


def _far(past: PastOfVisits) -> Iterator[list[tuple[str, str]]]:
    """The cameras of which the log is read from before `near_us`, those together that begin at about the same time."""
    apart: dict[int, list[tuple[str, str]]] = {}
    for name, from_us in past.from_us.items():
        if past.near_us is not None and from_us < past.near_us:
            apart.setdefault(from_us // NEAR_US, []).append(name)
    for some in apart.values():
        yield from (some[at : at + CAMERAS_AT_ONCE] for at in range(0, len(some), CAMERAS_AT_ONCE))


def read_pages(read: Callable[..., list[LoggedEvent]]) -> Iterator[LoggedEvent]:
    beyond: LoggedEvent | None = None
    while True:
        page = read(beyond=beyond, limit=PAGE)
        yield from page
        if len(page) < PAGE:
            return
        beyond = page[-1]


def read_past(store: Store, stretch: Stretch, *, withdrawn: bool, bare: bool = False) -> PastOfVisits:
    """What went on at a checkpoint of each camera before the stretch, and from where to read the log."""
    since_us = stretch.since_us
    if since_us is None:
        return PastOfVisits([], None, {})
    from_us, starts = dict[tuple[str, str], int](), dict[tuple[str, str], set[int]]()
    firsts: Mapping[tuple[str, str], int] | None = None
    lasts: Mapping[tuple[str, str], int] | None = None
    for name, point in _points(store, stretch, since_us):
        if point.at_us is None or point.state is None:  # its first checkpoint comes with its first burst
            firsts = store.past.first_us(stretch.site) if firsts is None else firsts
            from_us[name] = min(since_us, firsts.get(name, since_us))
            continue
        state = decode_state(point.state)
        stays = [visit for track in state.tracks for visit in track.visits]
        young_us = [visit.entry_us - 2 * visit.entry_slack_us for visit in stays if not visit.counted]
        from_us[name] = min(point.at_us, *young_us, since_us)  # the entry of one that does not count yet may change
        if from_us[name] < since_us - NEAR_US:
            lasts = store.last_confirmed_us(stretch.site) if lasts is None else lasts
            if lasts.get(name, point.at_us) <= point.at_us:
                from_us[name] = since_us  # nothing came of it since
        starts[name] = {visit.entry_us for visit in stays} | {each.since_us for each in state.presences}
    near_us = min((each for each in from_us.values() if each >= since_us - NEAR_US), default=since_us)
    return PastOfVisits(list(_begun_at(store, starts, withdrawn=withdrawn, bare=bare)), near_us, from_us)


def _points(store: Store, stretch: Stretch, since_us: int) -> Iterator[tuple[tuple[str, str], Checkpoint]]:
    """The checkpoint of each camera before a stretch, by site and camera."""
    for site, some in groupby(store.names(), key=itemgetter(0)):
        names = [name for name in some if stretch.site in (None, site) and stretch.camera in (None, name[1])]
        points = store.checkpoints(site, since_us) if len(names) > 1 else {}
        for name in names:  # cameras whose bursts are not converted yet are asked for one by one
            yield name, points.get(name[1]) or store.checkpoint(*name, since_us)


def _begun_at(
    store: Store, starts: Mapping[tuple[str, str], set[int]], *, withdrawn: bool, bare: bool
) -> Iterator[LoggedEvent]:
    """The events that began what went on at some instants of each camera, camera by camera."""
    found: dict[tuple[str, str], list[LoggedEvent]] = {name: [] for name in starts}
    instants = {at_us for some in starts.values() for at_us in some}
    for logged in store.begun_at(instants, withdrawn=withdrawn, bare=bare):
        name, kind = (logged.event.site, logged.event.camera), logged.event.kind
        if kind in (*PRESENCE, "entered", "lingered") and begin_us(logged) in starts.get(name, ()):
            found[name].append(logged)
    for some in found.values():
        yield from some
