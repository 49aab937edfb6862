"""The condition of every camera that ever sent a burst or a heartbeat, and of its sectors, from what is stored.

The rules are in `server.camera_status.status`: when a camera is late or silent, and whether a sector is occupied, clear
or unobserved.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol

import msgspec
from msgspec.structs import replace

from policies.events import instant
from policies.fold import decode_state
from policies.site.site_policy import SitePolicy
from server.camera_status.duplicate_agents import DuplicateAgents
from server.camera_status.heartbeat import Heartbeat, decode_heartbeat
from server.camera_status.status import (
    Condition,
    SectorState,
    StatusThresholds,
    condition_of,
    holds_until_us,
    sectors_of,
)
from server.domain.burst import Aware
from server.domain.records import BurstSpan, CameraActivity, StoredHeartbeat
from server.domain.times.clock import SECOND_US, Clock

_FEW = 100
"""So many cameras take less time to read than what has changed of them."""
_AT_ONCE = 200
_TRUSTED_US = 900 * SECOND_US
"""A report is made again after so long, at most twice that, whatever is known of its camera."""

Name = tuple[str, str]


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


class Changes(Protocol):
    """Tells which cameras did something, and which are gone, since the look before (`server.store`)."""

    def look(self) -> Changed: ...


class Changed(Protocol):
    @property
    def names(self) -> Collection[Name]: ...
    @property
    def gone(self) -> Collection[Name]: ...


class Stored(Protocol):
    """What is stored of cameras: `store.heartbeats`."""

    def activities(self, which: str | Sequence[Name] | None = None) -> Sequence[CameraActivity]: ...
    def changes(self) -> Changes: ...


class _Held(NamedTuple):
    """A report that is right from one instant until another (us), while the camera does nothing."""

    from_us: int
    until_us: int
    report: CameraReport


class CameraReports:
    """The condition of cameras and of their sectors. Safe to use from several threads.

    `policy` gives a site policy by its digest. The reports of many cameras are made again only of those that did
    something, or of which time has changed something: so all of them can be asked for every few seconds.
    """

    def __init__(
        self,
        stored: Stored,
        policy: Callable[[str], SitePolicy],
        clock: Clock,
        thresholds: StatusThresholds,
        duplicate_agents: DuplicateAgents,
    ) -> None:
        self._stored = stored
        self._policy = policy
        self._clock = clock
        self._thresholds = thresholds
        self.duplicate_agents = duplicate_agents
        self._lock = threading.Lock()
        self._changes: Changes | None = None
        self._held: dict[Name, _Held] = {}
        self._changed: set[Name] = set()
        self._are_few = False

    def all(self, site: str | None) -> list[CameraReport]:
        """Every camera (of a site) that ever sent a burst or a heartbeat, by site and name."""
        now_us = self._clock()
        if site is not None or self._are_few:
            reports = [self._read(each, now_us).report for each in self._stored.activities(site)]
        else:
            with self._lock:
                self._look(now_us)
                reports = [held.report for _, held in sorted(self._held.items())]
        if site is None:
            self._are_few = len(reports) <= _FEW
        return self._with_duplicates(reports, now_us)

    def _look(self, now_us: int) -> None:
        """Have `_held` hold the reports of now. What could not be read is read the next time."""
        self._changes = self._changes or self._stored.changes()
        changed = self._changes.look()
        for name in changed.gone:
            self._held.pop(name, None)
        outdated = {name for name, held in self._held.items() if not held.from_us <= now_us <= held.until_us}
        self._changed = (self._changed | {*changed.names}) - {*changed.gone}
        wanted = sorted(self._changed | outdated)
        for begin in range(0, len(wanted), _AT_ONCE):
            names = wanted[begin : begin + _AT_ONCE]
            found = {(each.site, each.camera): self._read(each, now_us) for each in self._stored.activities(names)}
            for name in names:
                self._held.pop(name, None)
            self._held |= found
            self._changed.difference_update(names)

    def _read(self, activity: CameraActivity, now_us: int) -> _Held:
        last_heartbeat = _last_heartbeat(activity.heartbeat)
        heartbeat = None if last_heartbeat is None else last_heartbeat.heartbeat
        condition = condition_of(activity, heartbeat, now_us, self._thresholds)
        seen = activity.seen
        camera_policy = None if seen is None else self._policy(seen.policy).camera(activity.camera)
        state = None if seen is None else decode_state(seen.state)
        report = CameraReport(
            site=activity.site,
            camera=activity.camera,
            condition=condition,
            last_burst=_last_burst(activity.recent),
            last_heartbeat=last_heartbeat,
            sectors=sectors_of(camera_policy, state, condition, now_us),
        )
        until_us = holds_until_us(activity, heartbeat, camera_policy, state, now_us, self._thresholds)
        if seen is not None and seen.last_at_us > now_us:  # what lies ahead counts once the clock is there
            until_us = now_us - 1
        return _Held(now_us, min(until_us, now_us + _TRUSTED_US + hash(report.camera) % _TRUSTED_US), report)

    def _with_duplicates(self, reports: list[CameraReport], now_us: int) -> list[CameraReport]:
        """The reports, with two agents as the cause where a camera has them."""
        known = self.duplicate_agents.known(now_us)
        if not known:
            return reports
        found = []
        for report in reports:
            since_us = known.get((report.site, report.camera))
            if since_us is not None and report.condition.state == "ok":
                condition = replace(report.condition, cause="two_agents", since=instant(since_us))
                report = replace(report, condition=condition)
            found.append(report)
        return found


def _last_heartbeat(kept: StoredHeartbeat | None) -> LastHeartbeat | None:
    return None if kept is None else LastHeartbeat(instant(kept.received_at_us), decode_heartbeat(kept.body))


def _last_burst(recent: Sequence[BurstSpan]) -> LastBurst | None:
    if not recent:
        return None
    newest = recent[0]
    return LastBurst(newest.burst_id, *map(instant, (newest.first_at_us, newest.last_at_us, newest.received_at_us)))
