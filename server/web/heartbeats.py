"""`POST /v1/heartbeats`: an agent reports the state of one camera. Only the newest heartbeat of a camera is kept."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
from flask import Blueprint, Response, request

from policies.events import microseconds
from server.camera_status.duplicate_agents import DuplicateAgents
from server.camera_status.heartbeat import Heartbeat, decode_heartbeat, heartbeat_source
from server.domain.records import StoredHeartbeat
from server.domain.times.clock import Clock
from server.web.admission import Admission
from server.web.auth import Authenticator
from server.web.json_http import declared_bytes, json_body

log = logging.getLogger(__name__)

_TODO = "give one of them a camera name, or a token, of its own"


def routes(
    keep: Callable[[StoredHeartbeat], bool],
    check_site: Callable[[str], object],
    authenticator: Authenticator,
    admission: Admission,
    clock: Clock,
    duplicate_agents: DuplicateAgents,
    on_heartbeat: Callable[[Heartbeat], None],
) -> Blueprint:
    """The endpoint.

    `keep` stores a heartbeat unless a newer one is stored, and returns whether it did; `check_site` raises for a site
    without a policy; `on_heartbeat` gets every heartbeat kept.
    """
    blueprint = Blueprint("heartbeats", __name__, url_prefix="/v1")

    @blueprint.post("/heartbeats")
    def heartbeats() -> Response:
        permissions = authenticator.authenticate(request)
        permissions.to_send()
        with admission.receiving_json(permissions.client, declared_bytes()):
            body = json_body("a heartbeat")
        source = heartbeat_source(body)
        permissions.to_send_for(source.site, source.camera)
        check_site(source.site)
        heartbeat = decode_heartbeat(body)
        if duplicate_agents.heard(heartbeat, clock()):
            log.warning(
                "two agents send as one camera",
                extra={"site": heartbeat.site, "camera": heartbeat.camera, "todo": _TODO},
            )
        if keep(_row(heartbeat)):
            on_heartbeat(heartbeat)
        return Response(status=204)

    return blueprint


def _row(heartbeat: Heartbeat) -> StoredHeartbeat:
    return StoredHeartbeat(
        site=heartbeat.site,
        camera=heartbeat.camera,
        started_at_us=microseconds(heartbeat.agent.started_at),
        sent_at_us=microseconds(heartbeat.agent.sent_at),
        received_at_us=0,  # set by the store
        body=msgspec.json.encode(heartbeat).decode(),
    )
