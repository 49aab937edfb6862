"""The operations of the Open Inference Protocol."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from server.web.openapi.operations import GUARDED, IF_MATCH, JSON, OPEN, TAG_HEADERS, answer, ref

_BINARY = "application/octet-stream"
_LENGTH = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "description": "How many of the body's bytes are JSON; the binary data of the tensors follows.",
    "schema": {"type": "integer", "minimum": 0},
}
_MODEL = {
    "name": "model",
    "in": "path",
    "required": True,
    "description": "`ensemble`, or one of its models.",
    "schema": {"type": "string"},
    "example": "ensemble",
}
_VERSION = {
    "name": "digest",
    "in": "path",
    "required": True,
    "description": "Digest of the ensemble in service.",
    "schema": {"type": "string"},
}


def _errors(*statuses: int) -> dict[str, Any]:
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": {JSON: {"schema": ref("InferenceError")}},
        }
        for status in statuses
    }


def _get(operation: str, summary: str, said: dict[str, Any], *errors: int, **more: Any) -> dict[str, Any]:
    described = {"operationId": operation, "tags": ["Open Inference Protocol"], "summary": summary}
    return {"get": described | {"security": OPEN} | more | {"responses": {"200": said, **_errors(*errors)}}}


def _infer(operation: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    answered = answer("Labels and scores.", ref("InferAnswer"), tagged=True)
    answered["content"][_BINARY] = {"schema": {"type": "string", "format": "binary"}}
    answered["headers"] = TAG_HEADERS | {
        _LENGTH["name"]: {"description": _LENGTH["description"], "schema": _LENGTH["schema"]}
    }
    body = {JSON: {"schema": ref("InferRequest")}, _BINARY: {"schema": {"type": "string", "format": "binary"}}}
    return {
        "post": {
            "operationId": operation,
            "tags": ["Open Inference Protocol"],
            "summary": "Encoded images in; for each, the best label of each model.",
            "security": GUARDED,
            "parameters": [*parameters, _LENGTH, IF_MATCH],
            "requestBody": {"required": True, "content": body},
            "responses": {"200": answered, **_errors(400, 401, 403, 404, 412, 413, 415, 422, 429, 500, 503)},
        }
    }


def _model_paths(under: str, name: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    """The three operations on a model, or on a version of it."""
    known = {"security": GUARDED, "parameters": parameters}
    metadata = answer("The model's tensors.", ref("ModelMetadata"), tagged=True)
    ready = answer("It is.", ref("ModelReady"))
    refusals = (401, 403, 404, 503)
    return {
        under: _get(f"v2{name}Metadata", "What a model takes and gives.", metadata, *refusals, **known),
        f"{under}/ready": _get(f"v2{name}Ready", "Whether a model can be asked.", ready, *refusals, **known),
        f"{under}/infer": _infer(f"v2{name}Infer", parameters),
    }


_NOT_READY = {"503": answer("Not now.", ref("ServerReady"))}

PATHS: dict[str, Any] = {
    "/v2": _get("v2Server", "The server's name, version and extensions.", answer("Them.", ref("ServerMetadata"))),
    "/v2/health/live": _get("v2Live", "Whether the server lives.", answer("It does.", ref("ServerLive"))),
    "/v2/health/ready": _get("v2Ready", "Whether all models are ready.", answer("They are.", ref("ServerReady"))),
    **_model_paths("/v2/models/{model}", "Model", [_MODEL]),
    **_model_paths("/v2/models/{model}/versions/{digest}", "Version", [_MODEL, _VERSION]),
}
PATHS["/v2/health/ready"]["get"]["responses"] |= _NOT_READY
