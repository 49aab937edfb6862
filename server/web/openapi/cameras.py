"""The operations on cameras, and on what people say of events."""

from __future__ import annotations

from typing import Any

from server.web.openapi.operations import GUARDED, JSON, answer, problems, query, ref

_SITE = query("site", "Only of this site.", {"type": "string"})


def _body(schema: str) -> dict[str, Any]:
    return {"required": True, "content": {JSON: {"schema": ref(schema)}}}


_HEARTBEATS = {
    "post": {
        "operationId": "sendHeartbeat",
        "tags": ["camera agents"],
        "summary": "Tell how it stands with a camera; only the newest counts.",
        "security": GUARDED,
        "requestBody": _body("Heartbeat"),
        "responses": {"204": {"description": "It was taken."}, **problems(400, 401, 403, 413, 415, 500, 503)},
    }
}

_CAMERAS = {
    "get": {
        "operationId": "listCameras",
        "tags": ["readers"],
        "summary": "How it stands with every camera, and with each of its sectors.",
        "security": GUARDED,
        "parameters": [_SITE],
        "responses": {"200": answer("The cameras.", ref("CameraList")), **problems(400, 401, 403, 503)},
    }
}

_ANNOTATIONS = {
    "get": {
        "operationId": "listAnnotations",
        "tags": ["readers"],
        "summary": "What people said was true, in the order they said it, a page at a time.",
        "security": GUARDED,
        "parameters": [
            _SITE,
            query("after", "Only what was said after this, a page's `next`.", {"type": "integer", "minimum": 0}),
            query("limit", "Most annotations of a page.", {"type": "integer", "minimum": 1, "maximum": 1000}),
        ],
        "responses": {"200": answer("A page.", ref("AnnotationPage")), **problems(400, 401, 403, 503)},
    },
    "post": {
        "operationId": "annotate",
        "tags": ["readers"],
        "summary": "Say of an event whether it was true, or what no event told.",
        "security": GUARDED,
        "requestBody": _body("AnnotationBody"),
        "responses": {
            "201": answer("It was kept.", ref("KeptAnnotation")),
            **problems(400, 401, 403, 404, 413, 415, 422, 503),
        },
    },
}

PATHS: dict[str, Any] = {
    "/v1/annotations": _ANNOTATIONS,
    "/v1/cameras": _CAMERAS,
    "/v1/heartbeats": _HEARTBEATS,
}
