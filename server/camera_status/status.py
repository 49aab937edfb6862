"""Whether a camera is watched, and the state of its sectors: a blind camera's sectors are unobserved, not clear.

`condition_of` gives a camera's condition: `ok`, `late` (its next burst is overdue) or `silent` (long overdue, or the
agent reports that it cannot see), with cause and start. `sectors_of` gives each sector's state: `occupied`, `clear`
or `unobserved`, from `policies.occupancy` and the condition. Both are pure: the clock is an argument.

The agent's heartbeat says when the next burst is due. Without one, the usual distance of bursts does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Literal, NamedTuple

import msgspec

from policies.events import instant, microseconds
from policies.fold import State
from policies.occupancy import Occupancy, SectorOccupancy, current_occupancy, turned_since
from policies.site.site_policy import CameraPolicy
from server.camera_status.heartbeat import Heartbeat
from server.domain.records import BurstSpan, CameraActivity
from server.domain.times.clock import SECOND_US

_UNSEEN = frozenset({"blind", "paused", "finished", "stopped"})
_USUAL_US = 60 * SECOND_US
"""Between bursts, while a camera has sent only one."""
_MISSED_HEARTBEATS = 2
_FOREVER_US = 2**62


@dataclass(frozen=True, slots=True)
class StatusThresholds:
    """How long after its due time a missing burst makes its camera late, and then silent (s)."""

    late_s: float = 30.0
    silent_s: float = 120.0


class Condition(msgspec.Struct, frozen=True):
    """A camera's condition. `cause` and `since` are null while it is `ok`, unless two agents send as one camera."""

    state: Literal["ok", "late", "silent"]
    cause: str | None = None
    since: datetime | None = None
    next_burst_by: datetime | None = None

    @property
    def is_well(self) -> bool:
        """Whether nothing is to be looked at."""
        return self.state == "ok" and self.cause is None


class SectorState(msgspec.Struct, frozen=True):
    """A sector's state for a target. `since`: the start of the presence, or the last frame that carried information."""

    sector: str
    target: str
    state: Occupancy
    since: datetime | None
    cause: str | None


class _Facts(NamedTuple):
    """What decides a condition. `overdue_s` is None while no due time is known."""

    activity: CameraActivity
    heartbeat: Heartbeat | None
    now_us: int
    thresholds: StatusThresholds
    due: datetime | None
    overdue_s: float | None

    @property
    def reports_unseen(self) -> bool:
        """The agent reports that it cannot see, no newer burst contradicts it, and its pause is not over."""
        heartbeat = self.heartbeat
        if heartbeat is None or heartbeat.state not in _UNSEEN or not _is_newest(heartbeat, self.activity):
            return False
        if heartbeat.next_burst_by is None:
            return True
        resumes_us = _server_us(heartbeat.next_burst_by, self.activity, heartbeat)
        return self.now_us <= resumes_us + self.thresholds.late_s * SECOND_US

    @property
    def is_starting(self) -> bool:
        return self.heartbeat is not None and self.heartbeat.state == "starting"

    @property
    def heard_us(self) -> int | None:
        """When a heartbeat or a burst came last; None for an agent that sends no heartbeats."""
        if self.heartbeat is None or self.activity.heartbeat is None:
            return None
        return max([self.activity.heartbeat.received_at_us, *(span.received_at_us for span in self.activity.recent)])

    @property
    def is_unheard(self) -> bool:
        """Neither a heartbeat nor a burst came for two heartbeats, whenever the next burst is due."""
        heard_us = self.heard_us
        return heard_us is not None and is_unheard(self.heartbeat, heard_us, self.now_us)

    @property
    def reported_since(self) -> datetime | None:
        return None if self.heartbeat is None else self.heartbeat.since

    def is_due_within(self, seconds: float) -> bool:
        return self.overdue_s is not None and self.overdue_s <= seconds


_TABLE: tuple[tuple[Callable[[_Facts], bool], Callable[[_Facts], Condition]], ...] = (
    (lambda f: f.reports_unseen, lambda f: _reported(f)),
    (lambda f: f.is_unheard, lambda f: Condition("silent", "agent_silent", _heard_at(f), f.due)),
    (lambda f: f.due is None and f.is_starting, lambda f: Condition("late", "starting", f.reported_since)),
    (lambda f: f.due is None, lambda f: Condition("silent", "no_burst_yet", f.reported_since)),
    (lambda f: f.is_due_within(f.thresholds.late_s), lambda f: Condition("ok", next_burst_by=f.due)),
    (lambda f: f.is_due_within(f.thresholds.silent_s), lambda f: Condition("late", _cause(f), f.due, f.due)),
    (lambda _: True, lambda f: Condition("silent", _cause(f), f.due, f.due)),
)
"""The first row whose test holds gives the condition."""


def is_unheard(heartbeat: Heartbeat | None, heard_us: int, now_us: int) -> bool:
    """Whether an agent that was heard last at `heard_us` has missed two heartbeats; never without heartbeats."""
    return heartbeat is not None and now_us - heard_us > _MISSED_HEARTBEATS * heartbeat.agent.every_s * SECOND_US


def condition_of(
    activity: CameraActivity, heartbeat: Heartbeat | None, now_us: int, thresholds: StatusThresholds
) -> Condition:
    """The condition of a camera at `now_us`; `heartbeat` is its newest one."""
    due_us = _due_us(activity.recent, heartbeat)
    due = None if due_us is None else instant(due_us)
    overdue_s = None if due is None else (now_us - _server_us(due, activity, heartbeat)) / SECOND_US
    facts = _Facts(activity, heartbeat, now_us, thresholds, due, overdue_s)
    return next(condition(facts) for applies, condition in _TABLE if applies(facts))


def holds_until_us(
    activity: CameraActivity,
    heartbeat: Heartbeat | None,
    policy: CameraPolicy | None,
    state: State | None,
    now_us: int,
    thresholds: StatusThresholds,
) -> int:
    """The last instant until which `condition_of` and `sectors_of` answer what they answer at `now_us`, while nothing
    comes; before `now_us` where that is not known.
    """
    borders = [*_borders(activity, heartbeat, thresholds), *_blind_borders(policy, state)]
    return min((border for border in borders if border >= now_us - 1), default=_FOREVER_US) - 1


def _borders(activity: CameraActivity, heartbeat: Heartbeat | None, thresholds: StatusThresholds) -> Iterator[int]:
    """The instants (us) with which a condition and its cause compare the present."""
    late_us, silent_us = int(thresholds.late_s * SECOND_US), int(thresholds.silent_s * SECOND_US)
    due_us = _due_us(activity.recent, heartbeat)
    if due_us is not None:
        due_us = _server_us(instant(due_us), activity, heartbeat)
        yield from (due_us + late_us, due_us + silent_us)
    for span in activity.recent:
        yield span.received_at_us + _USUAL_US
    if heartbeat is None or activity.heartbeat is None:
        return
    if heartbeat.next_burst_by is not None:
        yield _server_us(heartbeat.next_burst_by, activity, heartbeat) + late_us
    missed_us = int(_MISSED_HEARTBEATS * heartbeat.agent.every_s * SECOND_US)
    for heard_us in (activity.heartbeat.received_at_us, *(span.received_at_us for span in activity.recent)):
        yield heard_us + missed_us


def _blind_borders(policy: CameraPolicy | None, state: State | None) -> Iterator[int]:
    """The instants (us) from which on sectors are unobserved, or unobserved for another cause."""
    if policy is None or state is None:
        return
    for blind_us in {int(sector.rules.presence.blind_s * SECOND_US) for sector in policy.sectors}:
        yield from (at_us + blind_us for at_us in (state.seen_us, state.last_at_us) if at_us is not None)


def sectors_of(
    policy: CameraPolicy | None, state: State | None, condition: Condition, now_us: int
) -> tuple[SectorState, ...]:
    """Each sector's state for each target, by the policy that judged the camera's newest frame.

    While no burst is overdue, the state after the newest frame holds. Once one is, it holds for the policy's
    `blind_s`. All sectors of a silent camera are unobserved.
    """
    if policy is None or state is None or state.last_at_us is None:
        return ()
    at_us = state.last_at_us if condition.state == "ok" else max(now_us, state.last_at_us)
    return tuple(_sector(sector, condition, state) for sector in current_occupancy(policy, state, at_us))


def _sector(sector: SectorOccupancy, condition: Condition, state: State) -> SectorState:
    occupancy, since_us, cause = sector.occupancy, sector.since_us, sector.cause
    if condition.state == "silent" and occupancy is not Occupancy.UNOBSERVED:
        occupancy, since_us = Occupancy.UNOBSERVED, state.seen_us
    if occupancy is Occupancy.UNOBSERVED:
        cause = cause if turned_since(state) is not None else condition.cause or cause
    return SectorState(sector.sector, sector.target, occupancy, None if since_us is None else instant(since_us), cause)


def _heard_at(facts: _Facts) -> datetime | None:
    return None if facts.heard_us is None else instant(facts.heard_us)


def _reported(facts: _Facts) -> Condition:
    assert facts.heartbeat is not None
    heartbeat = facts.heartbeat
    return Condition("silent", heartbeat.cause or heartbeat.state, heartbeat.since, heartbeat.next_burst_by)


def _due_us(recent: Sequence[BurstSpan], heartbeat: Heartbeat | None) -> int | None:
    """When the next burst is due, by the agent's clock; None while that is unknown."""
    promised_us = horizon_us = 0
    if heartbeat is not None and heartbeat.next_burst_by is not None:
        promised_us = microseconds(heartbeat.next_burst_by)
        horizon_us = max(0, promised_us - microseconds(heartbeat.agent.sent_at))
    if not recent:
        return promised_us or None
    ends = [span.last_at_us for span in recent]
    gaps = [after - before for after, before in pairwise(ends)]
    usual_us = int(median(gaps)) if gaps else _USUAL_US
    return max(promised_us, ends[0] + max(usual_us, horizon_us))


def _is_newest(heartbeat: Heartbeat, activity: CameraActivity) -> bool:
    """Whether all bursts end before this heartbeat."""
    return not activity.recent or activity.recent[0].last_at_us <= microseconds(heartbeat.agent.sent_at)


def _server_us(at: datetime, activity: CameraActivity, heartbeat: Heartbeat | None) -> int:
    """An instant of the agent's clock on the server's, corrected by the heartbeat's delay if the agent's is not set."""
    if heartbeat is None or activity.heartbeat is None or heartbeat.clock.synced:
        return microseconds(at)
    return microseconds(at) + activity.heartbeat.received_at_us - activity.heartbeat.sent_at_us


def _cause(facts: _Facts) -> str:
    """Why the burst is missing, as far as is known."""
    activity, heartbeat, now_us = facts.activity, facts.heartbeat, facts.now_us
    if activity.is_ahead:
        return "clock_ahead"
    if activity.set_aside_us is not None and all(
        activity.set_aside_us > span.received_at_us for span in activity.recent
    ):
        return "clock_back"
    if heartbeat is not None and activity.heartbeat is not None:
        if is_unheard(heartbeat, activity.heartbeat.received_at_us, now_us):
            return "agent_silent"
        if heartbeat.waiting.bursts:
            return "backlog"
    arrived_late = (span for span in activity.recent if span.received_at_us - span.last_at_us > _USUAL_US)
    return "backlog" if any(now_us - span.received_at_us <= _USUAL_US for span in arrived_late) else "no_bursts"
