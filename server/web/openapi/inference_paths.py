"""The operations of FlexServe and of the Open Inference Protocol."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from server.web.json_http import JSON
from server.web.openapi.operations import (
    IF_MATCH,
    TAG_HEADERS,
    UPLOAD_ERRORS,
    answer,
    files,
    open_get,
    operation,
    parameter,
    problems,
    ref,
)

_BINARY = "application/octet-stream"


def _flexserve(name: str, summary: str, body: dict[str, Any], label: dict[str, Any]) -> dict[str, Any]:
    labels = {"type": "object", "description": "Model to its answer.", "additionalProperties": label}
    responses = {"200": answer("The labels.", labels, tagged=True), **problems(*UPLOAD_ERRORS)}
    return {"post": operation(name, "FlexServe", summary, responses, parameters=[IF_MATCH], requestBody=body)}


_LABEL = {"type": "string"}

_FLEXSERVE_PATHS: dict[str, Any] = {
    "/classify": _flexserve("classify", "One image: the class that each model gives.", files(maxItems=1), _LABEL),
    "/batch": _flexserve(
        "batch",
        "Images: each model's class for each image, in order.",
        files(),
        {"type": "array", "items": _LABEL},
    ),
    "/models": {
        "get": operation(
            "nameModels",
            "FlexServe",
            "List the names of the models, by `model 0`, `model 1`, ...",
            {
                "200": answer("The names.", {"type": "object", "additionalProperties": _LABEL}, tagged=True),
                **problems(401, 403, 503),
            },
        )
    },
}


def _oip_errors(*statuses: int) -> dict[str, Any]:
    """Errors in the Open Inference Protocol's own form."""
    content = {JSON: {"schema": ref("InferenceError")}}
    return {str(status): {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


_OIP = "Open Inference Protocol"
_LENGTH = parameter(
    "header",
    "Inference-Header-Content-Length",
    "How many of the body's bytes are JSON; the binary data of the tensors follows.",
    {"type": "integer", "minimum": 0},
)
_MODEL = parameter(
    "path", "model", "`ensemble`, or one of its models.", {"type": "string"}, required=True, example="ensemble"
)
_VERSION = parameter("path", "digest", "Digest of the ensemble in service.", {"type": "string"}, required=True)


def _infer(name: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    length = {_LENGTH["name"]: {"description": _LENGTH["description"], "schema": _LENGTH["schema"]}}
    answered = answer("Labels and scores.", ref("InferAnswer"), tagged=True)
    answered["content"][_BINARY] = binary
    answered["headers"] = TAG_HEADERS | length
    return operation(
        name,
        _OIP,
        "Encoded images in; the best label of each model for each image out.",
        {"200": answered, **_oip_errors(400, 401, 403, 404, 408, 412, 413, 415, 422, 429, 500, 503)},
        parameters=[*parameters, _LENGTH, IF_MATCH],
        requestBody={"required": True, "content": {JSON: {"schema": ref("InferRequest")}, _BINARY: binary}},
    )


def _model_paths(under: str, name: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    """The operations on a model, or on a version of it."""

    def get(what: str, summary: str, schema: str, *, tagged: bool = False) -> dict[str, Any]:
        answers = {"200": answer(summary, ref(schema), tagged=tagged), **_oip_errors(401, 403, 404, 503)}
        return {"get": operation(f"v2{name}{what}", _OIP, summary, answers, parameters=parameters)}

    return {
        under: get("Metadata", "A model's inputs and outputs.", "ModelMetadata", tagged=True),
        f"{under}/ready": get("Ready", "Whether a model is ready.", "ModelReady"),
        f"{under}/config": get("Config", "A model's configuration, as Triton gives it.", "ModelConfig", tagged=True),
        f"{under}/stats": get("Statistics", "How often a model was asked over this protocol.", "Statistics"),
        f"{under}/infer": {"post": _infer(f"v2{name}Infer", parameters)},
    }


_OIP_PATHS: dict[str, Any] = {
    "/v2": open_get(
        "v2Server",
        _OIP,
        "The server's name, version and extensions.",
        {"200": answer("The metadata.", ref("ServerMetadata"))},
    ),
    "/v2/health/live": open_get(
        "v2Live", _OIP, "Whether the server is alive.", {"200": answer("The server is alive.", ref("ServerLive"))}
    ),
    "/v2/health/ready": open_get(
        "v2Ready",
        _OIP,
        "Whether all models are ready.",
        {
            "200": answer("All models are ready.", ref("ServerReady")),
            "503": answer("Not ready now.", ref("ServerReady")),
        },
    ),
    "/v2/repository/index": {
        "post": operation(
            "v2Index",
            _OIP,
            "The models that are in service.",
            {
                "200": answer("The models.", {"type": "array", "items": ref("ListedInRepository")}, tagged=True),
                **_oip_errors(400, 401, 403, 413, 415, 503),
            },
            requestBody={"required": False, "content": {JSON: {"schema": ref("IndexRequest")}}},
        )
    },
    "/v2/models/stats": {
        "get": operation(
            "v2Statistics",
            _OIP,
            "How often each model was asked over this protocol.",
            {"200": answer("The statistics.", ref("Statistics")), **_oip_errors(401, 403, 503)},
        )
    },
    **_model_paths("/v2/models/{model}", "Model", [_MODEL]),
    **_model_paths("/v2/models/{model}/versions/{digest}", "Version", [_MODEL, _VERSION]),
}

INFERENCE_PATHS = _FLEXSERVE_PATHS | _OIP_PATHS
