"""The happenings that only one of two policies reports, the nearest to the edge first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Literal, NamedTuple

from policies.events import Event, microseconds
from policies.fusion.judge import judge
from policies.observation import Observation
from policies.site.site_policy import CameraPolicy
from server.analysis.compare import compared
from server.analysis.explain.votes import Weighing, nearness, weighing_of
from server.analysis.tuning.past import WITHIN_S
from server.delivery.visits import Joiner, Visit
from server.domain.records import LoggedEvent
from server.domain.times.clock import SECOND_US

_LONGEST_US = 60 * SECOND_US
"""So much of a happening is looked at: its begin, where it is settled whether it counts."""

Side = Literal["today", "changed"]
Frames = Callable[[int, int], Iterable[Observation]]
"""Gives a camera's frames from an instant (us) to before another."""


class Differing(NamedTuple):
    """A happening that only `side` reports. `events` are those of it that differ, the first to begin first."""

    side: Side
    events: tuple[Event, ...]

    @property
    def since_us(self) -> int:
        return microseconds(self.events[0].started_at)

    @property
    def until_us(self) -> int:
        """The last instant of it that is looked at."""
        last_us = max(max(microseconds(event.at), microseconds(event.confirmed_at)) for event in self.events)
        return min(last_us, self.since_us + _LONGEST_US)


class Edge(NamedTuple):
    """How near a happening is to being reported by the policy that does not report it.

    `best` is the candidate of its target that came nearest under that policy, None where none was seen. `is_present`:
    it counts in that frame, so that confirmation decides, not the votes.
    """

    best: Weighing | None
    is_present: bool

    def order(self) -> tuple[bool, float, float]:
        """A sort key, the nearest first."""
        if self.best is None:
            return True, float("inf"), 0.0
        margin, score = nearness(self.best)
        return False, 0.0 if self.is_present else -margin, -score


def differing(today: Sequence[Event], changed: Sequence[Event]) -> list[Differing]:
    """What only one of two lists of events reports, joined to happenings, the newest first."""
    result = compared(today, changed, WITHIN_S)
    both: list[tuple[Side, tuple[Event, ...]]] = [("today", result.only_a), ("changed", result.only_b)]
    found = [Differing(side, tuple(each.event for each in visit.events)) for side, of in both for visit in _visits(of)]
    return sorted(found, key=lambda each: (-each.since_us, each.side))


def _visits(events: Iterable[Event]) -> Iterator[Visit]:
    in_order = sorted(events, key=lambda event: (event.started_at, event.id))
    return Joiner().join(LoggedEvent(0, event, late=False, withdrawn_at_us=None, burst_id="") for event in in_order)


def edge_of(each: Differing, policy: CameraPolicy, frames: Frames) -> Edge:
    """How near a happening is under `policy`, which does not report it."""
    seen = frames(each.since_us, each.until_us + 1)
    weighed = [weighing for frame in seen for weighing in _weighed(policy, frame, each)]
    best = max(weighed, key=_rank, default=None)
    return Edge(best, best is not None and best.verdict == "present")


def _rank(weighing: Weighing) -> tuple[bool, tuple[float, float]]:
    return weighing.verdict == "present", nearness(weighing)


def _weighed(policy: CameraPolicy, frame: Observation, each: Differing) -> Iterator[Weighing]:
    """The candidates of a frame that may be the happening: of its target, in one of its sectors."""
    rules = policy.in_force(frame.at_us, frame.brightness)
    labels = {event.label for event in each.events}
    sectors = {s for event in each.events for s in (event.sector, event.from_sector, event.to_sector) if s is not None}
    weigh = partial(weighing_of, rules, frame)
    for candidate in judge(rules, frame).candidates:
        if candidate.target in labels and (not sectors or sectors & set(candidate.sectors)):
            yield weigh(candidate)
