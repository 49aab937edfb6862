"""What the descriptions of operations are made of: who may ask, answers, refusals, parameters."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from server.web.openapi.schemas import REF

JSON = "application/json"
PROBLEM = "application/problem+json"

GUARDED: list[dict[str, list[str]]] = [{"token": []}, {}]
OPEN: list[dict[str, list[str]]] = []

TAG_HEADERS = {
    "ETag": {"description": "The ensemble that answered, in quotes.", "schema": {"type": "string"}},
    "X-Ensemble": {"description": "The same, plain.", "schema": {"type": "string"}},
}
IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": "Digest of the ensemble that is to answer, in quotes: 412 while another is in service.",
    "schema": {"type": "string"},
}
UPLOAD_REFUSALS = (400, 401, 403, 412, 413, 415, 422, 429, 500, 503)


def ref(name: str) -> dict[str, str]:
    return {"$ref": REF + name}


def problems(*statuses: int) -> dict[str, Any]:
    """Refusals as problem documents; those that pass tell when to come back."""
    return {str(status): _problem(HTTPStatus(status)) for status in statuses}


def answer(what: str, schema: dict[str, Any], *, tagged: bool = False) -> dict[str, Any]:
    """One good answer in JSON; `tagged` with the ensemble that gave it."""
    said: dict[str, Any] = {"description": what, "content": {JSON: {"schema": schema}}}
    return said | {"headers": TAG_HEADERS} if tagged else said


def query(name: str, what: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": what, "schema": schema}


def _problem(status: HTTPStatus) -> dict[str, Any]:
    said: dict[str, Any] = {"description": status.phrase, "content": {PROBLEM: {"schema": ref("Problem")}}}
    if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        seconds = {"description": "Seconds.", "schema": {"type": "integer"}}
        said["headers"] = {"Retry-After": seconds}
    return said
