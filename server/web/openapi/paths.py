"""Every operation: what it takes, what it answers, and which refusals to expect."""

from __future__ import annotations

from typing import Any

from policies.events import ORDER
from server.web.openapi import cameras, inference_v2
from server.web.openapi.operations import GUARDED, IF_MATCH, JSON, OPEN, UPLOAD_REFUSALS, answer, problems, query, ref


def _files(fewest: int, most: int | None = None) -> dict[str, Any]:
    """A multipart form of JPEG (or PNG) images under the one name `file`."""
    image = {"type": "string", "format": "binary"}
    many: dict[str, Any] = {"type": "array", "items": image, "minItems": fewest}
    schema = {"type": "object", "properties": {"file": many}, "required": ["file"]}
    if most is not None:
        many["maxItems"] = most
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def _burst_form() -> dict[str, Any]:
    form = _files(1)
    content = form["content"]["multipart/form-data"]
    content["schema"]["properties"] = {"burst": ref("Envelope"), **content["schema"]["properties"]}
    content["schema"]["required"] = ["burst", "file"]
    content["encoding"] = {"burst": {"contentType": JSON}, "file": {"contentType": "image/jpeg"}}
    return form


_BURSTS = {
    "post": {
        "operationId": "sendBurst",
        "tags": ["camera agents"],
        "summary": "Send a burst: the part `burst`, then one part `file` per frame, in order.",
        "description": "Sending the same `burst_id` again is always safe.",
        "security": GUARDED,
        "parameters": [IF_MATCH],
        "requestBody": _burst_form(),
        "responses": {
            "201": answer("It is new, and was judged.", ref("Receipt"), tagged=True),
            "200": answer("It was known; this is its answer.", ref("Receipt"), tagged=True),
            **problems(*UPLOAD_REFUSALS),
        },
    }
}

_EVENTS = {
    "get": {
        "operationId": "listEvents",
        "tags": ["readers"],
        "summary": "Events in the order in which they were said, a page at a time.",
        "security": GUARDED,
        "parameters": [
            query("since", "Confirmed at or after this instant.", {"type": "string", "format": "date-time"}),
            query("until", "Confirmed before this instant.", {"type": "string", "format": "date-time"}),
            query("site", "Only of this site.", {"type": "string"}),
            query("camera", "Only of this camera.", {"type": "string"}),
            query("kind", "Only of this kind.", {"type": "string", "enum": sorted(ORDER)}),
            query(
                "after",
                "Only what was said after this, a page's `next`.",
                {"type": "integer", "minimum": 0, "maximum": 2**62},
            ),
            query("limit", "Most events of a page.", {"type": "integer", "minimum": 1, "maximum": 1000}),
        ],
        "responses": {
            "200": {
                "description": "A page; as one JSON object per line for `Accept: application/x-ndjson`.",
                "headers": {
                    "Link": {"description": "The next page.", "schema": {"type": "string"}},
                    "X-Next": {"description": "What to give as `after` to go on.", "schema": {"type": "integer"}},
                },
                "content": {
                    JSON: {"schema": ref("EventPage")},
                    "application/x-ndjson": {"schema": {"type": "string"}},
                },
            },
            **problems(400, 401, 403, 409, 503),
        },
    }
}

_MODELS = {
    "get": {
        "operationId": "listModels",
        "tags": ["readers"],
        "summary": "The ensemble in service, and what each of its models can see.",
        "security": GUARDED,
        "responses": {"200": answer("The models.", ref("Models"), tagged=True), **problems(401, 403, 503)},
    }
}


def _flexserve(operation: str, summary: str, body: dict[str, Any], each: dict[str, Any]) -> dict[str, Any]:
    said = {"type": "object", "description": "Model to its answer.", "additionalProperties": each}
    return {
        "post": {
            "operationId": operation,
            "tags": ["FlexServe"],
            "summary": summary,
            "security": GUARDED,
            "parameters": [IF_MATCH],
            "requestBody": body,
            "responses": {"200": answer("The labels.", said, tagged=True), **problems(*UPLOAD_REFUSALS)},
        }
    }


_FLEXSERVE_MODELS = {
    "get": {
        "operationId": "nameModels",
        "tags": ["FlexServe"],
        "summary": "The names of the models, by `model 0`, `model 1`, ...",
        "security": GUARDED,
        "responses": {
            "200": answer("The names.", {"type": "object", "additionalProperties": {"type": "string"}}, tagged=True),
            **problems(401, 403, 503),
        },
    }
}


def _operation(operation: str, summary: str, responses: dict[str, Any], *, guarded: bool = False) -> dict[str, Any]:
    return {
        "get": {
            "operationId": operation,
            "tags": ["operation"],
            "summary": summary,
            "security": GUARDED if guarded else OPEN,
            "responses": responses,
        }
    }


_METRICS = {
    "200": {
        "description": "Prometheus' text form, or OpenMetrics where `Accept` prefers it.",
        "content": {
            "text/plain": {"schema": {"type": "string"}},
            "application/openmetrics-text": {"schema": {"type": "string"}},
        },
    },
    **problems(401, 403),
}

_ANY_OBJECT = {"type": "object"}
_LABEL = {"type": "string"}

PATHS: dict[str, Any] = {
    **cameras.PATHS,
    **inference_v2.PATHS,
    "/v1/bursts": _BURSTS,
    "/v1/events": _EVENTS,
    "/v1/models": _MODELS,
    "/classify": _flexserve("classify", "One image: each model's class.", _files(1, 1), _LABEL),
    "/batch": _flexserve(
        "batch", "Images: each model's class for each, in order.", _files(1), {"type": "array", "items": _LABEL}
    ),
    "/models": _FLEXSERVE_MODELS,
    "/livez": _operation("live", "Whether the process lives.", {"200": answer("It does.", ref("Alive"))}),
    "/readyz": _operation(
        "ready", "Whether it can judge a burst.", {"200": answer("It can.", ref("Ready")), **problems(503)}
    ),
    "/metrics": _operation("metrics", "What was counted.", _METRICS, guarded=True),
    "/openapi.json": _operation("openapi", "This document.", {"200": answer("OpenAPI 3.1.", _ANY_OBJECT)}),
}
