"""The interface as an OpenAPI 3.1 document, at `/openapi.json`.

Kept by hand in `paths`; the schemas of what goes over the wire come from the very types that decode it, where there
are such types (`schemas`). The tests hold it against the application: every route is in it and nothing else, and
what the application answers is what it says.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from flask import Blueprint, Response

from server.web.openapi.paths import PATHS
from server.web.openapi.schemas import components


@cache
def document(version: str) -> dict[str, Any]:
    """The document, for this version of the server."""
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Sectorwatch",
            "version": version,
            "summary": "Bursts of stills in, presence and movement events out.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": PATHS,
        "components": {
            "schemas": components(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Made by `sectorwatch tokens add`: of one camera, to send; or of a reader. Until "
                    "the first is made, programs of the server's own machine need none.",
                }
            },
        },
        "tags": [
            {"name": "camera agents"},
            {"name": "readers"},
            {"name": "FlexServe", "description": "Its three endpoints, as they were published."},
            {"name": "Open Inference Protocol", "description": "Version 2, as Triton and KServe speak it."},
            {"name": "operation"},
        ],
    }


def routes(version: str) -> Blueprint:
    """`GET /openapi.json`, for anyone who can reach the server: it tells nothing about this one."""
    blueprint = Blueprint("openapi", __name__)

    @blueprint.get("/openapi.json")
    def openapi() -> Response:
        return Response(msgspec.json.encode(document(version)), content_type="application/json")

    return blueprint
