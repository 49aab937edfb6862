"""Whether a camera is watched, and what that means for its sectors: blind is not clear.

`condition_of` says how things stand with a camera: `ok`, `late` (its next burst is overdue) or `silent` (it has been
for long, or the agent says that it does not see), with the cause and since when. `sectors_of` then says of each of
its sectors whether it is `occupied`, `clear` or `unobserved`, as `policies.occupancy` has it, with the cause that is
known here. Both are pure: the clock is an argument.

When the next burst is due comes from the agent's heartbeat; without one, from the usual distance of its bursts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Literal

import msgspec

from policies.events import instant, microseconds
from policies.fold import State
from policies.occupancy import SectorStanding, Standing, standings
from policies.site.site_policy import CameraPolicy
from server.camera_status.heartbeat import Heartbeat
from server.domain.clock import SECOND_US
from server.domain.records import BurstSpan, CameraActivity

_UNSEEN = frozenset({"blind", "paused", "finished", "stopped"})
_USUAL_US = 60 * SECOND_US
"""Between bursts, as long as a camera has sent one only."""
_MISSED_HEARTBEATS = 2


@dataclass(frozen=True, slots=True)
class StatusThresholds:
    """How long past its due instant a burst makes its camera late, and then silent (s)."""

    late_s: float = 30.0
    silent_s: float = 120.0


class Condition(msgspec.Struct, frozen=True):
    """How it stands with a camera. `cause` and `since` are null while it is `ok`, unless two agents send as it."""

    state: Literal["ok", "late", "silent"]
    cause: str | None = None
    since: datetime | None = None
    next_burst_by: datetime | None = None


class SectorState(msgspec.Struct, frozen=True):
    """How a sector stands for a target. `since`: when the presence began, or the last frame that told anything."""

    sector: str
    target: str
    state: Standing
    since: datetime | None
    cause: str | None


def condition_of(
    activity: CameraActivity, heartbeat: Heartbeat | None, now_us: int, thresholds: StatusThresholds
) -> Condition:
    """How it stands with a camera at `now_us`; `heartbeat` is its newest heartbeat."""
    due_us = _due_us(activity.recent, heartbeat)
    due = None if due_us is None else instant(due_us)
    if heartbeat is not None and heartbeat.state in _UNSEEN and _is_newest(heartbeat, activity):
        resumes_us = (
            None if heartbeat.next_burst_by is None else _server_us(heartbeat.next_burst_by, activity, heartbeat)
        )
        if resumes_us is None or now_us <= resumes_us + thresholds.late_s * SECOND_US:
            return Condition("silent", heartbeat.cause or heartbeat.state, heartbeat.since, heartbeat.next_burst_by)
    if due_us is None:
        starting = heartbeat is not None and heartbeat.state == "starting"
        since = heartbeat.since if heartbeat is not None else None
        return Condition("late" if starting else "silent", "starting" if starting else "no_burst_yet", since)
    overdue_s = (now_us - _server_us(instant(due_us), activity, heartbeat)) / SECOND_US
    if overdue_s <= thresholds.late_s:
        return Condition("ok", next_burst_by=due)
    return Condition(
        "late" if overdue_s <= thresholds.silent_s else "silent", _cause(activity, heartbeat, now_us), due, due
    )


def sectors_of(
    policy: CameraPolicy | None, state: State | None, condition: Condition, now_us: int
) -> tuple[SectorState, ...]:
    """How each sector stands for each target, by the policy that judged the camera's newest frame.

    While no burst is overdue, all that there is to see was seen: sectors stand as the newest frame left them. Once
    one is, the policy's `blind_s` decides how long that holds; what a silent camera shows is unobserved at once.
    """
    if policy is None or state is None or state.last_at_us is None:
        return ()
    at_us = state.last_at_us if condition.state == "ok" else max(now_us, state.last_at_us)
    return tuple(_sector(standing, condition, state) for standing in standings(policy, state, at_us))


def _sector(told: SectorStanding, condition: Condition, state: State) -> SectorState:
    standing, since_us, cause = told.standing, told.since_us, told.cause
    if condition.state == "silent" and standing is not Standing.UNOBSERVED:
        standing, since_us = Standing.UNOBSERVED, state.seen_us
    if standing is Standing.UNOBSERVED:
        cause = condition.cause or cause
    return SectorState(told.sector, told.target, standing, None if since_us is None else instant(since_us), cause)


def _due_us(recent: Sequence[BurstSpan], heartbeat: Heartbeat | None) -> int | None:
    """When the next burst should have been taken, by the agent's clock; None while nothing tells."""
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
    """Whether no burst shows frames that were taken after this heartbeat."""
    return not activity.recent or activity.recent[0].last_at_us <= microseconds(heartbeat.agent.sent_at)


def _server_us(at: datetime, activity: CameraActivity, heartbeat: Heartbeat | None) -> int:
    """An instant of the agent's clock by the server's, as far as a heartbeat tells how far they are apart."""
    if heartbeat is None or activity.heartbeat is None or heartbeat.clock.synced:
        return microseconds(at)
    return microseconds(at) + activity.heartbeat.received_at_us - activity.heartbeat.sent_at_us


def _cause(activity: CameraActivity, heartbeat: Heartbeat | None, now_us: int) -> str:
    """Why no burst is here in time, as far as is known."""
    if activity.is_ahead:
        return "clock_ahead"
    if heartbeat is not None and activity.heartbeat is not None:
        silent_s = (now_us - activity.heartbeat.received_at_us) / SECOND_US
        if silent_s > _MISSED_HEARTBEATS * heartbeat.agent.every_s:
            return "agent_silent"
        if heartbeat.waiting.bursts:
            return "backlog"
    arriving = any(_came_old(span) and now_us - span.received_at_us <= _USUAL_US for span in activity.recent)
    return "backlog" if arriving else "no_bursts"


def _came_old(span: BurstSpan) -> bool:
    return span.received_at_us - span.last_at_us > _USUAL_US
