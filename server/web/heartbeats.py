"""`POST /v1/heartbeats`: an agent reports the state of one camera. Only the newest heartbeat of a camera is kept."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import msgspec
from flask import Blueprint, Response, request

from policies.events import microseconds
from server.camera_status.duplicate_agents import Rivals
from server.camera_status.heartbeat import Beat, decode_beat, whose_beat
from server.domain.clock import Clock
from server.domain.records import Heartbeat
from server.web.auth import Authenticator
from server.web.json_http import json_body

log = logging.getLogger(__name__)

_TODO = "give one of them a camera name, or a token, of its own"


class Heartbeats(Protocol):
    def beat(self, beat: Heartbeat) -> bool:
        """Keep it, unless a newer one is kept already; whether it was kept."""
        ...


class Store(Protocol):
    @property
    def heartbeats(self) -> Heartbeats: ...


def routes(
    store: Store,
    check_site: Callable[[str], object],
    authenticator: Authenticator,
    clock: Clock,
    duplicate_agents: Rivals,
    on_heartbeat: Callable[[Beat], None],
) -> Blueprint:
    """The endpoint. `check_site` raises for a site without a policy; `on_heartbeat` gets every heartbeat kept."""
    blueprint = Blueprint("heartbeats", __name__, url_prefix="/v1")

    @blueprint.post("/heartbeats")
    def heartbeats() -> Response:
        permissions = authenticator.authenticate(request)
        permissions.to_send()
        body = json_body("a heartbeat")
        source = whose_beat(body)
        permissions.to_send_for(source.site, source.camera)
        check_site(source.site)
        beat = decode_beat(body)
        if duplicate_agents.heard(beat, clock()):
            fields = {"site": beat.site, "camera": beat.camera, "todo": _TODO}
            log.warning("two agents send as one camera", extra=fields)
        if store.heartbeats.beat(_row(beat)):
            on_heartbeat(beat)
        return Response(status=204)

    return blueprint


def _row(beat: Beat) -> Heartbeat:
    return Heartbeat(
        site=beat.site,
        camera=beat.camera,
        started_at_us=microseconds(beat.agent.started_at),
        sent_at_us=microseconds(beat.agent.sent_at),
        received_at_us=0,  # set by the store
        body=msgspec.json.encode(beat).decode(),
    )
