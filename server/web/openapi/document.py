"""The API as an OpenAPI 3.1 document, served at `/openapi.json`.

The operations are written by hand (`own_paths`, `frame_paths`, `inference_paths`); those of the console's pages come
from the types that answer them (`twins`), and the schemas of the bodies from the types that decode them (`schemas`).
Tests hold the document against the application: it describes every route and nothing else, and answers have the
described form.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from flask import Blueprint, Response

from server.web.json_http import json_response
from server.web.openapi.frame_paths import FRAME_PATHS
from server.web.openapi.inference_paths import INFERENCE_PATHS
from server.web.openapi.own_paths import OPERATORS_PATHS, OWN_PATHS
from server.web.openapi.schemas import components
from server.web.openapi.twins import Twin, paths_of

_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "Made by `sectorwatch tokens add`: of one camera, to send; or of a reader. Until the first token is "
    "made, programs on the server's own machine need none.",
}


def routes(version: str, twins: tuple[Twin, ...]) -> Blueprint:
    """`GET /openapi.json`, for anyone who can reach the server: it reveals nothing about this installation."""
    blueprint = Blueprint("openapi", __name__)

    @blueprint.get("/openapi.json")
    def openapi() -> Response:
        return json_response(document(version, twins))

    return blueprint


@cache
def document(version: str, twins: tuple[Twin, ...]) -> dict[str, Any]:
    """The document, for this version of the server and these pages of the console."""
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Sectorwatch",
            "version": version,
            "summary": "Bursts of stills in, presence and movement events out.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": OWN_PATHS | FRAME_PATHS | paths_of(twins) | INFERENCE_PATHS | OPERATORS_PATHS,
        "components": {
            "schemas": components([twin.answer for twin in twins]),
            "securitySchemes": {"token": _BEARER},
        },
        "tags": [
            {"name": "camera agents"},
            {"name": "readers"},
            {"name": "console", "description": "The pages of the console as JSON."},
            {"name": "FlexServe", "description": "FlexServe's three endpoints, in their published forms."},
            {"name": "Open Inference Protocol", "description": "Version 2, as Triton and KServe speak it."},
            {"name": "operation"},
        ],
    }
