"""`GET /v1/cameras`: the condition of every camera that ever sent a burst or a heartbeat, and of its sectors."""

from __future__ import annotations

import msgspec
from flask import Blueprint, Response, request

from policies.events import instant
from policies.site.toml_errors import ready
from server.camera_status.reports import CameraReport, CameraReports
from server.domain.burst import Aware
from server.domain.times.clock import Clock
from server.web.auth import Authenticator
from server.web.json_http import json_response, query_parameters


class CameraList(msgspec.Struct, frozen=True):
    """All cameras, by site and name, at the instant `at` of the server's clock."""

    at: Aware
    cameras: list[CameraReport]


class CameraQuery(msgspec.Struct, frozen=True):
    """The filter of `GET /v1/cameras`."""

    site: str | None = None


ready(CameraQuery)


def routes(reports: CameraReports, authenticator: Authenticator, clock: Clock) -> Blueprint:
    """The endpoint, for readers, each of its own site."""
    blueprint = Blueprint("cameras", __name__, url_prefix="/v1")

    @blueprint.get("/cameras")
    def cameras() -> Response:
        permissions = authenticator.authenticate(request)
        site = permissions.to_read(query_parameters(CameraQuery).site)
        return json_response(CameraList(instant(clock()), reports.all(site)))

    return blueprint
