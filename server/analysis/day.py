"""A stretch of a site's time as spans for each sector and target: occupied, clear, unobserved, or no longer kept.

It is put together from presences of the event log and from when the cameras were watched. Frames are folded only of
cameras that ask for `moving`: where they were turned back, and after the newest state. It agrees with
`server.analysis.occupancy`, which folds all, except where `Past.watching` looks at bursts three minutes apart: at
frames that tell nothing for less than that, and at where a policy began to name a sector; and but for turns that begin
and end between two states that are kept.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import cycle, pairwise
from operator import attrgetter
from typing import Literal, NamedTuple, Protocol

from policies.occupancy import Interval
from policies.site.sectors import Sector
from policies.site.site_policy import SitePolicy
from server.analysis.occupancy import AROUND_US
from server.analysis.turns import Past as PastOfTurns
from server.analysis.turns import turned_stretches
from server.domain.keeping import Gone
from server.domain.records import Checkpoint, Recorded
from server.domain.watching import LaneLog, Unseen, Watching

SpanState = Literal["occupied", "clear", "unobserved", "not_kept"]

_OUTWEIGHS: tuple[SpanState, ...] = ("clear", "occupied", "unobserved", "not_kept")
"""Each outweighs those before it."""


class DaySpan(NamedTuple):
    """A stretch, from `from_us` to before `until_us`, in which the state is the same."""

    state: SpanState
    from_us: int
    until_us: int


_FROM_US, _UNTIL_US = attrgetter("from_us"), attrgetter("until_us")


@dataclass(frozen=True, slots=True)
class Lane:
    """One target in one sector of a camera, with its spans in order. They leave no part of the stretch out.

    `entries`: when its visits began (us), in order.
    """

    camera: str
    sector: str
    target: str
    spans: tuple[DaySpan, ...]
    entries: Sequence[int] = ()

    def within(self, since_us: int, until_us: int) -> Lane:
        """The part in a stretch."""
        if since_us >= until_us:
            return replace(self, spans=(), entries=())
        first = bisect_right(self.spans, since_us, key=_UNTIL_US)
        spans = [*self.spans[first : bisect_left(self.spans, until_us, first, key=_FROM_US)]]
        if spans:
            spans[0] = spans[0]._replace(from_us=max(spans[0].from_us, since_us))
            spans[-1] = spans[-1]._replace(until_us=min(spans[-1].until_us, until_us))
        inside = slice(bisect_left(self.entries, since_us), bisect_left(self.entries, until_us))
        return replace(self, spans=tuple(spans), entries=self.entries[inside])

    def lasts_us(self, state: SpanState) -> int:
        """How long it has a state in all (us)."""
        return sum(span.until_us - span.from_us for span in self.spans if span.state == state)


@dataclass(frozen=True, slots=True)
class CameraDay:
    """A camera with its lanes. `unseen` are the stretches in which none of its sectors was watched, with their ends.

    `first_us`: its first frame at all, if that is inside.
    """

    camera: str
    lanes: tuple[Lane, ...]
    unseen: tuple[Unseen, ...]
    gone: tuple[Interval, ...]
    first_us: int | None


class _Past(PastOfTurns, Protocol):
    def watching(self, site: str, since_us: int, until_us: int) -> list[Watching]: ...


class _Retention(Protocol):
    def all_gone(self, site: str | None = ...) -> list[Gone]: ...


class Store(Protocol):
    @property
    def past(self) -> _Past: ...
    @property
    def retention(self) -> _Retention: ...
    def lanes(self, site: str, since_us: int, until_us: int) -> list[LaneLog]: ...
    def policy(self, digest: str) -> SitePolicy: ...
    def checkpoint(self, site: str, camera: str, before_us: int) -> Checkpoint: ...
    def history(
        self, site: str, camera: str, since_us: int | None = ..., until_us: int | None = ...
    ) -> Iterator[Recorded]: ...


def site_day(
    store: Store, site: str, since_us: int, until_us: int, now_us: int, camera: str | None = None
) -> list[CameraDay]:
    """Each camera of a site from `since_us` to before `until_us`, as far as that is past. With `camera`, the others
    have no lanes.
    """
    end_us = min(until_us, now_us)
    if end_us <= since_us:
        return []
    logs: dict[str, list[LaneLog]] = {}
    for log in store.lanes(site, since_us, end_us):
        logs.setdefault(log.camera, []).append(log)
    gone = {each.camera: each for each in store.retention.all_gone(site)}
    watched = store.past.watching(site, since_us, min(end_us + AROUND_US, now_us))
    policy_of = cache(store.policy)
    days: list[CameraDay] = []
    for each in watched:
        if camera not in (None, each.camera):
            days.append(CameraDay(each.camera, (), (), (), None))
            continue
        turned: list[Interval] = []
        if any(policy_of(digest).camera(each.camera).asks_for_moving for _, digest in each.rules):
            turned = turned_stretches(store, site, each.camera, since_us, min(end_us + AROUND_US, now_us), policy_of)
        mine = logs.get(each.camera, ())
        days.append(camera_day(each, mine, gone.get(each.camera), (since_us, end_us), policy_of, turned))
    return days


def camera_day(
    watching: Watching,
    logs: Iterable[LaneLog],
    gone: Gone | None,
    stretch: Interval,
    policy_of: Callable[[str], SitePolicy],
    turned: Sequence[Interval] = (),
) -> CameraDay:
    """One camera in a stretch, by its presences, by when it was watched, and by when it was turned."""
    if watching.policy is None:
        return CameraDay(watching.camera, (), (), (), None)
    lost = [] if gone is None else [each for each in gone.bursts if each.meets(*stretch)]
    not_kept = [(stretch[0] if each.since_us is None else each.since_us, each.until_us) for each in lost]
    if gone is not None and gone.events_from_us is not None:  # who was there is not known any more, though frames are
        not_kept.append((stretch[0], gone.events_from_us))
    before = [] if watching.since_us is None else [(stretch[0], watching.since_us)]
    held: dict[tuple[str, str], list[Interval]] = {}
    entries: dict[tuple[str, str], Sequence[int]] = {}
    for log in logs:
        stays = held.setdefault((log.sector, log.target), [])
        stays += [(each.from_us, stretch[1] if each.until_us is None else each.until_us) for each in log.stays]
        entries.setdefault((log.sector, log.target), log.entries)
    dark = [(each.from_us, each.until_us) for each in watching.unseen]
    lanes: list[Lane] = []
    for sector in policy_of(watching.policy).camera(watching.camera).sectors:
        unseen = [*before, *_blind(sector, [*dark, *turned]), *_unnamed(sector.name, watching, stretch, policy_of)]
        for target in sector.rules.targets:
            layers: dict[SpanState, Sequence[Interval]] = {
                "occupied": held.get((sector.name, target), ()),
                "unobserved": unseen,
                "not_kept": not_kept,
            }
            spans = tuple(_spans(layers, stretch))
            lanes.append(Lane(watching.camera, sector.name, target, spans, entries.get((sector.name, target), ())))
    return CameraDay(watching.camera, tuple(lanes), watching.unseen, tuple(not_kept), watching.since_us)


def _blind(sector: Sector, dark: Iterable[Interval]) -> list[Interval]:
    """The stretches without a frame that was judged which are too long for a sector."""
    blind_us = int(sector.rules.presence.blind_s * 1e6)
    return [(from_us, until_us) for from_us, until_us in dark if until_us - from_us > blind_us]


def _unnamed(
    sector: str, watching: Watching, stretch: Interval, policy_of: Callable[[str], SitePolicy]
) -> Iterator[Interval]:
    """The stretches in which the policy did not name a sector."""
    starts = [*watching.rules, (stretch[1], "")]
    for (from_us, digest), (until_us, _) in pairwise(starts):
        if sector not in {each.name for each in policy_of(digest).camera(watching.camera).sectors}:
            yield from_us, until_us


def _spans(layers: Mapping[SpanState, Sequence[Interval]], stretch: Interval) -> Iterable[DaySpan]:
    """The stretch, cut where the heaviest layer that covers it changes."""
    ends = [at_us for interval in _joined(layers["occupied"], stretch) for at_us in interval]
    cuts = [stretch[0], *ends, stretch[1]]
    by_turns: Iterator[SpanState] = cycle(("clear", "occupied"))
    spans = [*map(DaySpan, by_turns, cuts, cuts[1:])]
    if ends:
        first, last = int(cuts[0] == cuts[1]), int(cuts[-2] == cuts[-1])
        spans = spans[first : len(spans) - last]
    for state in _OUTWEIGHS[2:]:
        for from_us, until_us in _joined(layers[state], stretch):
            _lay(spans, DaySpan(state, from_us, until_us))
    return spans


def _joined(intervals: Iterable[Interval], stretch: Interval) -> list[Interval]:
    """The parts of intervals in a stretch, in order; those that meet as one."""
    since_us, until_us = stretch
    inside = sorted([(max(a, since_us), min(b, until_us)) for a, b in intervals if a < until_us and b > since_us])
    joined: list[Interval] = []
    last_us = since_us - 1
    for from_us, end_us in inside:
        if from_us >= end_us:
            continue
        if from_us > last_us:
            joined.append((from_us, end_us))
            last_us = end_us
        elif end_us > last_us:
            joined[-1] = (joined[-1][0], end_us)
            last_us = end_us
    return joined


def _lay(spans: list[DaySpan], over: DaySpan) -> None:
    """Put a span over others, which have no gaps, and of which none in the same state meets it."""
    first = bisect_right(spans, over.from_us, key=_UNTIL_US)
    last = bisect_left(spans, over.until_us, key=_FROM_US) - 1
    left, right = spans[first], spans[last]
    parts = [left._replace(until_us=over.from_us), over, right._replace(from_us=over.until_us)]
    spans[first : last + 1] = [each for each in parts if each.from_us < each.until_us]
