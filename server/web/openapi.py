"""The API as an OpenAPI 3.1 document, served at `/openapi.json`.

The operations are written by hand here; the schemas of the bodies come from the types that decode them
(`openapi_schemas`). Tests hold the document against the application: it describes every route and nothing else, and
answers have the described form.
"""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response

from policies.events import ORDER
from server.web.json_http import JSON, json_response
from server.web.openapi_schemas import REF, components
from server.web.problem_json import MEDIA_TYPE as PROBLEM

_BINARY = "application/octet-stream"
_GUARDED: list[dict[str, list[str]]] = [{"token": []}, {}]
_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "Made by `sectorwatch tokens add`: of one camera, to send; or of a reader. Until the first token is "
    "made, programs on the server's own machine need none.",
}
_UPLOAD_ERRORS = (400, 401, 403, 408, 412, 413, 415, 422, 429, 500, 503)
_TAG_HEADERS = {
    "ETag": {"description": "Digest of the ensemble that answered, in quotes.", "schema": {"type": "string"}},
    "X-Ensemble": {"description": "The same digest without quotes.", "schema": {"type": "string"}},
}


def routes(version: str) -> Blueprint:
    """`GET /openapi.json`, for anyone who can reach the server: it reveals nothing about this installation."""
    blueprint = Blueprint("openapi", __name__)

    @blueprint.get("/openapi.json")
    def openapi() -> Response:
        return json_response(document(version))

    return blueprint


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
        "paths": _PATHS,
        "components": {
            "schemas": components(),
            "securitySchemes": {"token": _BEARER},
        },
        "tags": [
            {"name": "camera agents"},
            {"name": "readers"},
            {"name": "FlexServe", "description": "FlexServe's three endpoints, in their published forms."},
            {"name": "Open Inference Protocol", "description": "Version 2, as Triton and KServe speak it."},
            {"name": "operation"},
        ],
    }


def _operation(
    name: str, tag: str, summary: str, responses: dict[str, Any], *, guarded: bool = True, **more: Any
) -> dict[str, Any]:
    security = _GUARDED if guarded else []
    return {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "security": security,
        **more,
        "responses": responses,
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": REF + name}


def _answer(description: str, schema: dict[str, Any], *, tagged: bool = False) -> dict[str, Any]:
    """A successful answer in JSON; `tagged` with the ensemble that gave it."""
    response: dict[str, Any] = {"description": description, "content": {JSON: {"schema": schema}}}
    return response | {"headers": _TAG_HEADERS} if tagged else response


def _problems(*statuses: int) -> dict[str, Any]:
    """Errors as problem documents; temporary ones with `Retry-After`."""
    return {str(status): _problem(HTTPStatus(status)) for status in statuses}


def _problem(status: HTTPStatus) -> dict[str, Any]:
    response: dict[str, Any] = {"description": status.phrase, "content": {PROBLEM: {"schema": _ref("Problem")}}}
    if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        response["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return response


def _parameter(where: str, name: str, description: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "in": where, "description": description, "schema": schema, **more}


def _query(name: str, description: str, schema: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return _parameter("query", name, description, schema or {"type": "string"}, **more)


def _json_body(schema: str) -> dict[str, Any]:
    return {"required": True, "content": {JSON: {"schema": _ref(schema)}}}


def _files(**limits: int) -> dict[str, Any]:
    """A multipart form of JPEG or PNG images under the one name `file`."""
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1, **limits}
    schema = {"type": "object", "properties": {"file": files}, "required": ["file"]}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def _burst_form() -> dict[str, Any]:
    form = _files()
    content = form["content"]["multipart/form-data"]
    content["schema"]["properties"] = {"burst": _ref("Envelope"), **content["schema"]["properties"]}
    content["schema"]["required"] = ["burst", "file"]
    content["encoding"] = {"burst": {"contentType": JSON}, "file": {"contentType": "image/jpeg"}}
    return form


_IF_MATCH = _parameter(
    "header",
    "If-Match",
    "Digest of the ensemble that must answer, in quotes: 412 while another one is in service.",
    {"type": "string"},
)
_SITE = _query("site", "Only of this site.")

_AGENT_PATHS: dict[str, Any] = {
    "/v1/bursts": {
        "post": _operation(
            "sendBurst",
            "camera agents",
            "Send a burst: the part `burst`, then one part `file` per frame, in order.",
            {
                "201": _answer("The burst is new and was judged.", _ref("Receipt"), tagged=True),
                "200": _answer("The burst is known; this is its answer.", _ref("Receipt"), tagged=True),
                **_problems(*_UPLOAD_ERRORS),
            },
            description="Sending the same `burst_id` again is always safe.",
            parameters=[_IF_MATCH],
            requestBody=_burst_form(),
        )
    },
    "/v1/heartbeats": {
        "post": _operation(
            "sendHeartbeat",
            "camera agents",
            "Report the state of a camera; only the newest heartbeat counts.",
            {
                "204": {"description": "The heartbeat was accepted."},
                **_problems(400, 401, 403, 408, 413, 415, 500, 503),
            },
            requestBody=_json_body("Heartbeat"),
        )
    },
    "/v1/site-policy": {
        "get": _operation(
            "readSitePolicy",
            "camera agents",
            "What the server makes of the site's file, for one camera; for that camera and for readers of its site.",
            {"200": _answer("What is in force.", _ref("SitePolicyReport")), **_problems(400, 401, 403, 503)},
            parameters=[_query("site", "The site.", required=True), _query("camera", "The camera.", required=True)],
        )
    },
}

_LIST_EVENTS = _operation(
    "listEvents",
    "readers",
    "List events in the order in which they were logged, a page at a time.",
    {
        "200": {
            "description": "A page; as one JSON object per line for `Accept: application/x-ndjson`.",
            "headers": {
                "Link": {"description": "The next page.", "schema": {"type": "string"}},
                "X-Next": {"description": "The `after` of the next request.", "schema": {"type": "integer"}},
                "X-Kept-Since": {
                    "description": "From then on all events are kept; present where older ones are asked for.",
                    "schema": {"type": "string", "format": "date-time"},
                },
            },
            "content": {
                JSON: {"schema": _ref("EventPage")},
                "application/x-ndjson": {"schema": {"type": "string"}},
            },
        },
        **_problems(400, 401, 403, 409, 503),
    },
    parameters=[
        _query("since", "Confirmed at or after this instant.", {"type": "string", "format": "date-time"}),
        _query("until", "Confirmed before this instant.", {"type": "string", "format": "date-time"}),
        _SITE,
        _query("camera", "Only of this camera."),
        _query("kind", "Only of this kind.", {"type": "string", "enum": sorted(ORDER)}),
        _query("after", "Only what was logged after this `next`.", {"type": "integer", "minimum": 0, "maximum": 2**62}),
        _query("limit", "Most events of a page.", {"type": "integer", "minimum": 1, "maximum": 1000}),
    ],
)

_READER_PATHS: dict[str, Any] = {
    "/v1/events": {"get": _LIST_EVENTS},
    "/v1/models": {
        "get": _operation(
            "listModels",
            "readers",
            "List the models in service, with what each can see.",
            {"200": _answer("The models.", _ref("Models"), tagged=True), **_problems(401, 403, 503)},
        )
    },
    "/v1/cameras": {
        "get": _operation(
            "listCameras",
            "readers",
            "List the condition of every camera and of each of its sectors.",
            {"200": _answer("The cameras.", _ref("CameraList")), **_problems(400, 401, 403, 503)},
            parameters=[_SITE],
        )
    },
    "/v1/annotations": {
        "get": _operation(
            "listAnnotations",
            "readers",
            "List annotations in the order they were made, a page at a time.",
            {"200": _answer("A page.", _ref("AnnotationPage")), **_problems(400, 401, 403, 503)},
            parameters=[
                _SITE,
                _query("after", "Only what was added after this `next`.", {"type": "integer", "minimum": 0}),
                _query("limit", "Most annotations of a page.", {"type": "integer", "minimum": 1, "maximum": 1000}),
            ],
        ),
        "post": _operation(
            "annotate",
            "readers",
            "Mark an event as true or false, or add a fact that no event reported.",
            {
                "201": _answer("The annotation was kept.", _ref("KeptAnnotation")),
                **_problems(400, 401, 403, 404, 408, 413, 415, 422, 503),
            },
            requestBody=_json_body("AnnotationBody"),
        ),
    },
}


def _flexserve(name: str, summary: str, body: dict[str, Any], label: dict[str, Any]) -> dict[str, Any]:
    labels = {"type": "object", "description": "Model to its answer.", "additionalProperties": label}
    responses = {"200": _answer("The labels.", labels, tagged=True), **_problems(*_UPLOAD_ERRORS)}
    return {"post": _operation(name, "FlexServe", summary, responses, parameters=[_IF_MATCH], requestBody=body)}


_LABEL = {"type": "string"}

_FLEXSERVE_PATHS: dict[str, Any] = {
    "/classify": _flexserve("classify", "One image: the class that each model gives.", _files(maxItems=1), _LABEL),
    "/batch": _flexserve(
        "batch",
        "Images: each model's class for each image, in order.",
        _files(),
        {"type": "array", "items": _LABEL},
    ),
    "/models": {
        "get": _operation(
            "nameModels",
            "FlexServe",
            "List the names of the models, by `model 0`, `model 1`, ...",
            {
                "200": _answer("The names.", {"type": "object", "additionalProperties": _LABEL}, tagged=True),
                **_problems(401, 403, 503),
            },
        )
    },
}


def _oip_errors(*statuses: int) -> dict[str, Any]:
    """Errors in the Open Inference Protocol's own form."""
    content = {JSON: {"schema": _ref("InferenceError")}}
    return {str(status): {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


_OIP = "Open Inference Protocol"
_LENGTH = _parameter(
    "header",
    "Inference-Header-Content-Length",
    "How many of the body's bytes are JSON; the binary data of the tensors follows.",
    {"type": "integer", "minimum": 0},
)
_MODEL = _parameter(
    "path", "model", "`ensemble`, or one of its models.", {"type": "string"}, required=True, example="ensemble"
)
_VERSION = _parameter("path", "digest", "Digest of the ensemble in service.", {"type": "string"}, required=True)


def _infer(name: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    length = {_LENGTH["name"]: {"description": _LENGTH["description"], "schema": _LENGTH["schema"]}}
    answer = _answer("Labels and scores.", _ref("InferAnswer"), tagged=True)
    answer["content"][_BINARY] = binary
    answer["headers"] = _TAG_HEADERS | length
    return _operation(
        name,
        _OIP,
        "Encoded images in; the best label of each model for each image out.",
        {"200": answer, **_oip_errors(400, 401, 403, 404, 408, 412, 413, 415, 422, 429, 500, 503)},
        parameters=[*parameters, _LENGTH, _IF_MATCH],
        requestBody={"required": True, "content": {JSON: {"schema": _ref("InferRequest")}, _BINARY: binary}},
    )


def _model_paths(under: str, name: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    """The operations on a model, or on a version of it."""

    def get(what: str, summary: str, schema: str, *, tagged: bool = False) -> dict[str, Any]:
        answers = {"200": _answer(summary, _ref(schema), tagged=tagged), **_oip_errors(401, 403, 404, 503)}
        return {"get": _operation(f"v2{name}{what}", _OIP, summary, answers, parameters=parameters)}

    return {
        under: get("Metadata", "A model's inputs and outputs.", "ModelMetadata", tagged=True),
        f"{under}/ready": get("Ready", "Whether a model is ready.", "ModelReady"),
        f"{under}/config": get("Config", "A model's configuration, as Triton gives it.", "ModelConfig", tagged=True),
        f"{under}/stats": get("Statistics", "How often a model was asked over this protocol.", "Statistics"),
        f"{under}/infer": {"post": _infer(f"v2{name}Infer", parameters)},
    }


def _open_get(name: str, tag: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"get": _operation(name, tag, summary, responses, guarded=False)}


_OIP_PATHS: dict[str, Any] = {
    "/v2": _open_get(
        "v2Server",
        _OIP,
        "The server's name, version and extensions.",
        {"200": _answer("The metadata.", _ref("ServerMetadata"))},
    ),
    "/v2/health/live": _open_get(
        "v2Live", _OIP, "Whether the server is alive.", {"200": _answer("The server is alive.", _ref("ServerLive"))}
    ),
    "/v2/health/ready": _open_get(
        "v2Ready",
        _OIP,
        "Whether all models are ready.",
        {
            "200": _answer("All models are ready.", _ref("ServerReady")),
            "503": _answer("Not ready now.", _ref("ServerReady")),
        },
    ),
    "/v2/repository/index": {
        "post": _operation(
            "v2Index",
            _OIP,
            "The models that are in service.",
            {
                "200": _answer("The models.", {"type": "array", "items": _ref("ListedInRepository")}, tagged=True),
                **_oip_errors(400, 401, 403, 413, 415, 503),
            },
            requestBody={"required": False, "content": {JSON: {"schema": _ref("IndexRequest")}}},
        )
    },
    "/v2/models/stats": {
        "get": _operation(
            "v2Statistics",
            _OIP,
            "How often each model was asked over this protocol.",
            {"200": _answer("The statistics.", _ref("Statistics")), **_oip_errors(401, 403, 503)},
        )
    },
    **_model_paths("/v2/models/{model}", "Model", [_MODEL]),
    **_model_paths("/v2/models/{model}/versions/{digest}", "Version", [_MODEL, _VERSION]),
}

_OPERATION_PATHS: dict[str, Any] = {
    "/livez": _open_get(
        "live", "operation", "Whether the process is alive.", {"200": _answer("It is alive.", _ref("Alive"))}
    ),
    "/readyz": _open_get(
        "ready",
        "operation",
        "Whether the server can judge a burst.",
        {"200": _answer("It can.", _ref("Ready")), **_problems(503)},
    ),
    "/metrics": {
        "get": _operation(
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
                **_problems(401, 403),
            },
        )
    },
    "/openapi.json": _open_get(
        "openapi", "operation", "This document.", {"200": _answer("OpenAPI 3.1.", {"type": "object"})}
    ),
}

_PATHS = _AGENT_PATHS | _READER_PATHS | _FLEXSERVE_PATHS | _OIP_PATHS | _OPERATION_PATHS
