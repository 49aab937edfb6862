"""The operations on kept pictures."""

from __future__ import annotations

from typing import Any

from server.web.openapi.operations import answer, operation, parameter, problems, query, ref

_TOKEN_ONLY: list[dict[str, list[str]]] = [{"token": []}]
_INSTANT = {"type": "string", "format": "date-time"}
_DIGEST = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_CACHED = {
    "ETag": {"description": "The picture's SHA-256, and its size where it is not full.", "schema": {"type": "string"}},
    "Cache-Control": {"description": "private, no-cache: ask again with the ETag.", "schema": {"type": "string"}},
}

FRAME_PATHS: dict[str, Any] = {
    "/v1/frames/{sha256}": {
        "get": operation(
            "showFrame",
            "readers",
            "A kept picture: the bytes that the agent sent, which have this SHA-256, or a small view of it.",
            {
                "200": {
                    "description": "The picture.",
                    "headers": _CACHED,
                    "content": {
                        f"image/{kind}": {"schema": {"type": "string", "format": "binary"}}
                        for kind in ("jpeg", "png", "webp", "bmp")
                    },
                },
                "304": {"description": "It is the picture of `If-None-Match`."},
                **problems(400, 401, 403, 404, 410, 503),
            },
            description="Always with a token. 404: never kept, or of another site. 410: it was kept, and is no longer.",
            security=_TOKEN_ONLY,
            parameters=[
                parameter("path", "sha256", "SHA-256 of the picture (hex).", _DIGEST, required=True),
                query("size", "small: 320 pixels wide, as a JPEG.", {"type": "string", "enum": ["full", "small"]}),
            ],
        )
    },
    "/v1/frames": {
        "get": operation(
            "listFrames",
            "readers",
            "List kept frames of a camera.",
            {"200": answer("The frames, the oldest first.", ref("FrameList")), **problems(400, 401, 403, 503)},
            security=_TOKEN_ONLY,
            parameters=[
                query("site", "The site.", required=True),
                query("camera", "The camera.", required=True),
                query("since", "At or after this instant.", _INSTANT),
                query("until", "Before this instant.", _INSTANT),
                query("order", "Which, if not all.", {"type": "string", "enum": ["oldest", "newest"]}),
                query("limit", "Most frames.", {"type": "integer", "minimum": 1, "maximum": 1000}),
            ],
        )
    },
    "/v1/events/{event_id}/frames": {
        "get": operation(
            "listEventFrames",
            "readers",
            "List the frames of an event, each with what became of its picture.",
            {"200": answer("A page.", ref("EventFrames")), **problems(400, 401, 403, 404, 503)},
            security=_TOKEN_ONLY,
            parameters=[
                parameter("path", "event_id", "Id of the event.", {"type": "string"}, required=True),
                query("after", "Only frames after this `next`.", {"type": "integer", "minimum": 0, "maximum": 2**62}),
            ],
        )
    },
}
