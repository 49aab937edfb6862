"""The operations for agents, readers and operators."""

from __future__ import annotations

from typing import Any

from policies.events import ORDER
from server.analysis.exports import MEDIA_TYPES
from server.web.json_http import JSON
from server.web.openapi.operations import (
    IF_MATCH,
    UPLOAD_ERRORS,
    answer,
    files,
    json_body,
    open_get,
    operation,
    problems,
    query,
    ref,
)

_SITE = query("site", "Only of this site.")


def burst_form() -> dict[str, Any]:
    form = files()
    content = form["content"]["multipart/form-data"]
    content["schema"]["properties"] = {"burst": ref("Envelope"), **content["schema"]["properties"]}
    content["schema"]["required"] = ["burst", "file"]
    content["encoding"] = {"burst": {"contentType": JSON}, "file": {"contentType": "image/jpeg"}}
    return form


_OF_AGENTS: dict[str, Any] = {
    "/v1/bursts": {
        "post": operation(
            "sendBurst",
            "camera agents",
            "Send a burst: the part `burst`, then one part `file` per frame, in order.",
            {
                "201": answer("The burst is new and was judged.", ref("Receipt"), tagged=True),
                "200": answer("The burst is known; this is its answer.", ref("Receipt"), tagged=True),
                **problems(*UPLOAD_ERRORS),
            },
            description="Sending the same `burst_id` again is always safe.",
            parameters=[IF_MATCH],
            requestBody=burst_form(),
        )
    },
    "/v1/heartbeats": {
        "post": operation(
            "sendHeartbeat",
            "camera agents",
            "Report the state of a camera; only the newest heartbeat counts.",
            {
                "204": {"description": "The heartbeat was accepted."},
                **problems(400, 401, 403, 408, 413, 415, 500, 503),
            },
            requestBody=json_body("Heartbeat"),
        )
    },
    "/v1/site-policy": {
        "get": operation(
            "readSitePolicy",
            "camera agents",
            "What the server makes of the site's file, for one camera; for that camera and for readers of its site.",
            {"200": answer("What is in force.", ref("SitePolicyReport")), **problems(400, 401, 403, 503)},
            parameters=[query("site", "The site.", required=True), query("camera", "The camera.", required=True)],
        )
    },
}

_LIST_EVENTS = operation(
    "listEvents",
    "readers",
    "List events in the order in which they were logged, a page at a time, or as a file.",
    {
        "200": {
            "description": "A page of JSON; or all events, as JSON lines, CSV or Parquet, by `Accept`, a page of them "
            "where there is a `limit`. Parquet needs the server's extra `export`.",
            "headers": {
                "Link": {"description": "The next page.", "schema": {"type": "string"}},
                "X-Next": {"description": "The `after` of the next request.", "schema": {"type": "integer"}},
                "X-Kept-Since": {
                    "description": "From then on all events are kept; present where older ones are asked for.",
                    "schema": {"type": "string", "format": "date-time"},
                },
            },
            "content": {
                JSON: {"schema": ref("EventPage")},
                MEDIA_TYPES["jsonl"]: {"schema": {"type": "string"}},
                MEDIA_TYPES["csv"]: {"schema": {"type": "string"}},
                MEDIA_TYPES["parquet"]: {"schema": {"type": "string", "format": "binary"}},
            },
        },
        **problems(400, 401, 403, 406, 409, 503),
    },
    parameters=[
        query("since", "Confirmed at or after this instant.", {"type": "string", "format": "date-time"}),
        query("until", "Confirmed before this instant.", {"type": "string", "format": "date-time"}),
        _SITE,
        query("camera", "Only of this camera."),
        query("kind", "Only of this kind.", {"type": "string", "enum": sorted(ORDER)}),
        query("after", "Only what was logged after this `next`.", {"type": "integer", "minimum": 0, "maximum": 2**62}),
        query("limit", "Most events of a page.", {"type": "integer", "minimum": 1, "maximum": 1000}),
    ],
)

_OF_READERS: dict[str, Any] = {
    "/v1/events": {"get": _LIST_EVENTS},
    "/v1/models": {
        "get": operation(
            "listModels",
            "readers",
            "List the models in service, with what each can see.",
            {"200": answer("The models.", ref("Models"), tagged=True), **problems(401, 403, 503)},
        )
    },
    "/v1/cameras": {
        "get": operation(
            "listCameras",
            "readers",
            "List the condition of every camera and of each of its sectors.",
            {"200": answer("The cameras.", ref("CameraList")), **problems(400, 401, 403, 503)},
            parameters=[_SITE],
        )
    },
    "/v1/annotations": {
        "get": operation(
            "listAnnotations",
            "readers",
            "List annotations in the order they were made, a page at a time.",
            {"200": answer("A page.", ref("AnnotationPage")), **problems(400, 401, 403, 503)},
            parameters=[
                _SITE,
                query("after", "Only what was added after this `next`.", {"type": "integer", "minimum": 0}),
                query("limit", "Most annotations of a page.", {"type": "integer", "minimum": 1, "maximum": 1000}),
            ],
        ),
        "post": operation(
            "annotate",
            "readers",
            "Mark an event as true or false, or add a fact that no event reported.",
            {
                "201": answer("The annotation was kept.", ref("KeptAnnotation")),
                **problems(400, 401, 403, 404, 408, 413, 415, 422, 503),
            },
            requestBody=json_body("AnnotationBody"),
        ),
    },
}

OPERATORS_PATHS: dict[str, Any] = {
    "/livez": open_get(
        "live", "operation", "Whether the process is alive.", {"200": answer("It is alive.", ref("Alive"))}
    ),
    "/readyz": open_get(
        "ready",
        "operation",
        "Whether the server can judge a burst.",
        {"200": answer("It can.", ref("Ready")), **problems(503)},
    ),
    "/metrics": {
        "get": operation(
            "metrics",
            "operation",
            "The server's metrics.",
            {
                "200": {
                    "description": "Prometheus' text format, or OpenMetrics where `Accept` prefers it.",
                    "content": {
                        "text/plain": {"schema": {"type": "string"}},
                        "application/openmetrics-text": {"schema": {"type": "string"}},
                    },
                },
                **problems(401, 403),
            },
        )
    },
    "/openapi.json": open_get(
        "openapi", "operation", "This document.", {"200": answer("OpenAPI 3.1.", {"type": "object"})}
    ),
}

OWN_PATHS = _OF_AGENTS | _OF_READERS
