"""The condition of every camera that ever sent a burst or a heartbeat, and of its sectors, from what is stored.

The rules are in `server.camera_status.status`: when a camera is late or silent, and whether a sector is occupied, clear
or unobserved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace

from policies.events import instant
from policies.fold import decode_state
from policies.site.site_policy import SitePolicy
from server.camera_status.duplicate_agents import DuplicateAgents
from server.camera_status.heartbeat import Heartbeat, decode_heartbeat
from server.camera_status.status import Condition, SectorState, StatusThresholds, condition_of, sectors_of
from server.domain.burst import Aware
from server.domain.records import BurstSpan, CameraActivity, StoredHeartbeat
from server.domain.times.clock import Clock


class LastBurst(msgspec.Struct, frozen=True):
    """The newest burst: its instants, and when it arrived by the server's clock."""

    burst_id: str
    first_at: Aware
    last_at: Aware
    received_at: Aware


class LastHeartbeat(msgspec.Struct, frozen=True):
    """The newest heartbeat, and when it arrived by the server's clock."""

    received_at: Aware
    heartbeat: Heartbeat = msgspec.field(name="beat")


class CameraReport(msgspec.Struct, frozen=True):
    """One camera, as `GET /v1/cameras` lists it."""

    site: str
    camera: str
    condition: Condition
    last_burst: LastBurst | None
    last_heartbeat: LastHeartbeat | None
    sectors: tuple[SectorState, ...]


class CameraReports:
    """The condition of cameras and of their sectors.

    `activities` gives what is stored of the cameras of a site (None: all); `policy` a site policy by its digest.
    """

    def __init__(
        self,
        activities: Callable[[str | None], Sequence[CameraActivity]],
        policy: Callable[[str], SitePolicy],
        clock: Clock,
        thresholds: StatusThresholds,
        duplicate_agents: DuplicateAgents,
    ) -> None:
        self._activities = activities
        self._policy = policy
        self._clock = clock
        self._thresholds = thresholds
        self.duplicate_agents = duplicate_agents

    def all(self, site: str | None) -> list[CameraReport]:
        """Every camera (of a site) that ever sent a burst or a heartbeat, by site and name."""
        now_us = self._clock()
        return [self._report(activity, now_us) for activity in self._activities(site)]

    def _report(self, activity: CameraActivity, now_us: int) -> CameraReport:
        last_heartbeat = _last_heartbeat(activity.heartbeat)
        heartbeat = None if last_heartbeat is None else last_heartbeat.heartbeat
        condition = condition_of(activity, heartbeat, now_us, self._thresholds)
        duplicate_since_us = self.duplicate_agents.since_us(activity.site, activity.camera, now_us)
        if condition.state == "ok" and duplicate_since_us is not None:
            condition = replace(condition, cause="two_agents", since=instant(duplicate_since_us))
        seen = activity.seen
        camera_policy = None if seen is None else self._policy(seen.policy).camera(activity.camera)
        state = None if seen is None else decode_state(seen.state)
        return CameraReport(
            site=activity.site,
            camera=activity.camera,
            condition=condition,
            last_burst=_last_burst(activity.recent),
            last_heartbeat=last_heartbeat,
            sectors=sectors_of(camera_policy, state, condition, now_us),
        )


def _last_heartbeat(kept: StoredHeartbeat | None) -> LastHeartbeat | None:
    return None if kept is None else LastHeartbeat(instant(kept.received_at_us), decode_heartbeat(kept.body))


def _last_burst(recent: Sequence[BurstSpan]) -> LastBurst | None:
    if not recent:
        return None
    newest = recent[0]
    return LastBurst(newest.burst_id, *map(instant, (newest.first_at_us, newest.last_at_us, newest.received_at_us)))
