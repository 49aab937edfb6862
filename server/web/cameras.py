"""Is anybody watching? `POST /v1/heartbeats` from agents, `GET /v1/cameras` for those who want to know.

A heartbeat is taken from whoever may send its camera's bursts; the newest of each camera is kept. The list tells of
every camera that ever sent a burst or a heartbeat how it stands, when its next burst is due, and of each of its
sectors whether it is occupied, clear, or not observed (see `server.camera_status.status`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
from flask import Blueprint, Response, request
from msgspec.structs import replace

from policies.events import instant, microseconds
from policies.fold import decode_state
from policies.site.site_policy import SitePolicy
from server.camera_status.duplicate_agents import DuplicateAgents
from server.camera_status.heartbeat import Aware, Heartbeat, decode_heartbeat, heartbeat_source
from server.camera_status.status import Condition, SectorState, StatusThresholds, condition_of, sectors_of
from server.domain.clock import Clock
from server.domain.errors import Malformed, TooLarge, WrongType
from server.domain.records import BurstSpan, CameraActivity, StoredHeartbeat
from server.web.auth import Doorkeeper

log = logging.getLogger(__name__)

JSON = "application/json"
_MOST_BYTES = 65_536


class Kept(Protocol):
    """The heartbeats in the store; see `server.store.heartbeats`."""

    def keep(self, heartbeat: StoredHeartbeat) -> bool: ...
    def activities(self, site: str | None = None) -> Sequence[CameraActivity]: ...


class Store(Protocol):
    @property
    def heartbeats(self) -> Kept: ...

    def policy(self, digest: str) -> SitePolicy: ...


class Told(Protocol):
    def __call__(self, heartbeat: Heartbeat) -> None: ...


class LastBurst(msgspec.Struct, frozen=True):
    """The newest burst: its instants, and when it came by the server's clock."""

    burst_id: str
    first_at: Aware
    last_at: Aware
    received_at: Aware


class LastHeartbeat(msgspec.Struct, frozen=True):
    """The newest heartbeat, and when it came by the server's clock."""

    received_at: Aware
    heartbeat: Heartbeat = msgspec.field(name="beat")


class CameraReport(msgspec.Struct, frozen=True):
    """One camera, as `GET /v1/cameras` tells it."""

    site: str
    camera: str
    condition: Condition
    last_burst: LastBurst | None
    last_heartbeat: LastHeartbeat | None
    sectors: tuple[SectorState, ...]


class CameraList(msgspec.Struct, frozen=True):
    """All cameras, by site and name, at the instant `at` of the server's clock."""

    at: Aware
    cameras: list[CameraReport]


def routes(
    store: Store,
    site: Callable[[str], object],
    doorkeeper: Doorkeeper,
    clock: Clock,
    thresholds: StatusThresholds,
    told: Told,
) -> Blueprint:
    """The endpoints. `site` raises for a site that has no policy; `told` hears of every heartbeat."""
    blueprint = Blueprint("heartbeats", __name__, url_prefix="/v1")
    duplicate_agents = DuplicateAgents()

    @blueprint.post("/heartbeats")
    def heartbeats() -> Response:
        grant = doorkeeper.admit(request)
        grant.to_send()
        body = _body()
        whose = heartbeat_source(body)
        grant.to_send_for(whose.site, whose.camera)
        site(whose.site)
        heartbeat = decode_heartbeat(body)
        if duplicate_agents.heard(heartbeat, clock()):
            todo = "give one of them a camera name, or a token, of its own"
            log.warning(
                "two agents send as one camera",
                extra={"site": heartbeat.site, "camera": heartbeat.camera, "todo": todo},
            )
        if store.heartbeats.keep(_row(heartbeat)):
            told(heartbeat)
        return Response(status=204)

    @blueprint.get("/cameras")
    def cameras() -> Response:
        grant = doorkeeper.admit(request)
        unknown = request.args.keys() - {"site"}
        if unknown:
            raise Malformed(f"unknown parameter `{min(unknown)}`; known here: site")
        now_us = clock()
        activities = store.heartbeats.activities(grant.to_read(request.args.get("site") or None))
        reports = [_report(store, activity, now_us, thresholds, duplicate_agents) for activity in activities]
        return Response(msgspec.json.encode(CameraList(instant(now_us), reports)), content_type=JSON)

    return blueprint


def _body() -> bytes:
    if request.mimetype != JSON:
        raise WrongType(f"expected {JSON}, not {request.mimetype or 'a body without a type'}")
    if (request.content_length or 0) > _MOST_BYTES:
        raise TooLarge(f"a heartbeat holds at most {_MOST_BYTES} bytes")
    return request.get_data(cache=False)


def _row(heartbeat: Heartbeat) -> StoredHeartbeat:
    return StoredHeartbeat(
        site=heartbeat.site,
        camera=heartbeat.camera,
        started_at_us=microseconds(heartbeat.agent.started_at),
        sent_at_us=microseconds(heartbeat.agent.sent_at),
        received_at_us=0,  # the store's clock says
        body=msgspec.json.encode(heartbeat).decode(),
    )


def _report(
    store: Store, activity: CameraActivity, now_us: int, thresholds: StatusThresholds, duplicate_agents: DuplicateAgents
) -> CameraReport:
    kept, newest, seen = activity.heartbeat, next(iter(activity.recent), None), activity.seen
    heartbeat = None if kept is None else decode_heartbeat(kept.body)
    condition = condition_of(activity, heartbeat, now_us, thresholds)
    two_us = duplicate_agents.since_us(activity.site, activity.camera, now_us)
    if condition.state == "ok" and two_us is not None:
        condition = replace(condition, cause="two_agents", since=instant(two_us))
    policy = None if seen is None else store.policy(seen.policy).camera(activity.camera)
    state = None if seen is None else decode_state(seen.state)
    return CameraReport(
        site=activity.site,
        camera=activity.camera,
        condition=condition,
        last_burst=None if newest is None else _told(newest),
        last_heartbeat=None
        if kept is None or heartbeat is None
        else LastHeartbeat(instant(kept.received_at_us), heartbeat),
        sectors=sectors_of(policy, state, condition, now_us),
    )


def _told(span: BurstSpan) -> LastBurst:
    first_at, last_at, received_at = map(instant, (span.first_at_us, span.last_at_us, span.received_at_us))
    return LastBurst(span.burst_id, first_at, last_at, received_at)
