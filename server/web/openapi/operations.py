"""The parts of which the operations of the OpenAPI document are made."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from server.web.json_http import JSON
from server.web.openapi.schemas import REF
from server.web.problem_json import MEDIA_TYPE as PROBLEM

_GUARDED: list[dict[str, list[str]]] = [{"token": []}, {}]
UPLOAD_ERRORS = (400, 401, 403, 408, 412, 413, 415, 422, 429, 500, 503)
TAG_HEADERS = {
    "ETag": {"description": "Digest of the ensemble that answered, in quotes.", "schema": {"type": "string"}},
    "X-Ensemble": {"description": "The same digest without quotes.", "schema": {"type": "string"}},
}


def operation(
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


def ref(name: str) -> dict[str, str]:
    return {"$ref": REF + name}


def answer(description: str, schema: dict[str, Any], *, tagged: bool = False) -> dict[str, Any]:
    """A successful answer in JSON; `tagged` with the ensemble that gave it."""
    response: dict[str, Any] = {"description": description, "content": {JSON: {"schema": schema}}}
    return response | {"headers": TAG_HEADERS} if tagged else response


def problems(*statuses: int) -> dict[str, Any]:
    """Errors as problem documents; temporary ones with `Retry-After`."""
    return {str(status): _problem(HTTPStatus(status)) for status in statuses}


def _problem(status: HTTPStatus) -> dict[str, Any]:
    response: dict[str, Any] = {"description": status.phrase, "content": {PROBLEM: {"schema": ref("Problem")}}}
    if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        response["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return response


def parameter(where: str, name: str, description: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "in": where, "description": description, "schema": schema, **more}


def query(name: str, description: str, schema: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return parameter("query", name, description, schema or {"type": "string"}, **more)


def json_body(schema: str) -> dict[str, Any]:
    return {"required": True, "content": {JSON: {"schema": ref(schema)}}}


def files(**limits: int) -> dict[str, Any]:
    """A multipart form of JPEG or PNG images under the one name `file`."""
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1, **limits}
    schema = {"type": "object", "properties": {"file": files}, "required": ["file"]}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def open_get(name: str, tag: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"get": operation(name, tag, summary, responses, guarded=False)}


IF_MATCH = parameter(
    "header",
    "If-Match",
    "Digest of the ensemble that must answer, in quotes: 412 while another one is in service.",
    {"type": "string"},
)
