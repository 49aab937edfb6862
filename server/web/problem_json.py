"""Every failure as RFC 9457 `application/problem+json`: one place decides which status each error gets.

A problem has `type`, `title`, `status`, `detail` and `instance` (a fresh `urn:uuid:`, which the log carries
too, so that a report from a user finds its line). Where one frame is at fault, `errors` is
`[{"frame": index, "reason": text}]`. 429 and 503 carry `Retry-After`. Nothing internal is shown: what was not
foreseen is a bare 500 whose traceback is in the log only. Under `/v2` the Open Inference Protocol's own form is used
instead: `{"error": detail}`.
"""

from __future__ import annotations

import logging
import uuid
from http import HTTPStatus
from typing import Any

import msgspec
from flask import Flask, Response, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from server.domain.errors import (
    ConfigurationError,
    Conflict,
    DatabaseUnavailable,
    Forbidden,
    Malformed,
    OtherEnsemble,
    OverQuota,
    RetryLater,
    SectorwatchError,
    TooLarge,
    Unauthorized,
    Unknown,
    Unprocessable,
    WrongType,
)

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:sectorwatch:problem:"

_STATUS: dict[type[SectorwatchError], tuple[HTTPStatus, str]] = {
    Malformed: (HTTPStatus.BAD_REQUEST, "The request is malformed"),
    Unauthorized: (HTTPStatus.UNAUTHORIZED, "A valid token is needed"),
    Forbidden: (HTTPStatus.FORBIDDEN, "This token does not cover that"),
    Unknown: (HTTPStatus.NOT_FOUND, "No such thing here"),
    Conflict: (HTTPStatus.CONFLICT, "This does not go with what the server is doing"),
    OtherEnsemble: (HTTPStatus.PRECONDITION_FAILED, "Another ensemble is in service"),
    TooLarge: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "More than this server takes"),
    WrongType: (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Another media type is expected"),
    Unprocessable: (HTTPStatus.UNPROCESSABLE_ENTITY, "The request cannot be judged"),
    OverQuota: (HTTPStatus.TOO_MANY_REQUESTS, "This client has had its share for now"),
    RetryLater: (HTTPStatus.SERVICE_UNAVAILABLE, "Not now; try again later"),
    ConfigurationError: (HTTPStatus.INTERNAL_SERVER_ERROR, "The server needs its operator"),
}

_TYPES: dict[type[SectorwatchError], str] = {
    Unprocessable: "unusable",
    RetryLater: "later",
    ConfigurationError: "broken",
}
"""Problem types that do not follow from the class's name."""


def install(app: Flask) -> None:
    """Make every error that leaves a view of `app`, or that Flask itself raises, a problem document."""
    app.register_error_handler(SectorwatchError, _ours)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unforeseen)


def status_of(error: SectorwatchError) -> HTTPStatus:
    """The status of the nearest class in the error's ancestry that has one."""
    _, status, _ = _entry(type(error))
    return status


def refusal(
    error: SectorwatchError, method: str, path: str, client: str | None
) -> tuple[HTTPStatus, dict[str, str], bytes]:
    """Status, headers and body of the answer to a request that met `error`, which is noted in the log."""
    kind, status, title = _entry(type(error))
    problem = _problem(f"{TYPE_PREFIX}{_TYPES.get(kind) or _dashed(kind.__name__)}", title, status, error.detail)
    if error.frame is not None:
        problem["errors"] = [{"frame": error.frame, "reason": error.detail}]
    media_type, body = _written(problem, path)
    headers = {"Content-Type": media_type}
    if isinstance(error, RetryLater):
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="sectorwatch"'
    _note(
        problem, method, path, client, level=logging.WARNING if isinstance(error, DatabaseUnavailable) else logging.INFO
    )
    return status, headers, body


def _ours(error: SectorwatchError) -> Response:
    status, headers, body = refusal(error, request.method, request.path, request.remote_addr)
    return Response(body, status, headers)


def _http(error: HTTPException) -> ResponseReturnValue:
    if error.code is None or error.code < HTTPStatus.BAD_REQUEST:
        return error.get_response()  # a redirect
    status = HTTPStatus(error.code)
    problem = _problem("about:blank", status.phrase, status, error.description or status.phrase)
    response = _response(problem)
    for name, value in error.get_headers():
        if name.lower() in {"allow", "retry-after", "content-range", "www-authenticate"}:
            response.headers[name] = value
    _note(problem, request.method, request.path, request.remote_addr)
    return response


def _unforeseen(error: Exception) -> Response:
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    problem = _problem(
        "about:blank", status.phrase, status, "An unforeseen error; the server's log has it under `instance`."
    )
    _note(problem, request.method, request.path, request.remote_addr, error)
    return _response(problem)


def _entry(kind: type[SectorwatchError]) -> tuple[type[SectorwatchError], HTTPStatus, str]:
    for ancestor in kind.__mro__:
        if ancestor in _STATUS:
            return ancestor, *_STATUS[ancestor]
    return ConfigurationError, *_STATUS[ConfigurationError]


def _problem(kind: str, title: str, status: HTTPStatus, detail: str) -> dict[str, Any]:
    instance = uuid.uuid4().urn
    return {"type": kind, "title": title, "status": status.value, "detail": detail, "instance": instance}


def _response(problem: dict[str, Any]) -> Response:
    media_type, body = _written(problem, request.path)
    return Response(body, problem["status"], content_type=media_type)


def _written(problem: dict[str, Any], path: str) -> tuple[str, bytes]:
    """A problem's media type and body, in the form that is usual under `path`."""
    if path == "/v2" or path.startswith("/v2/"):  # the protocol there has a form of its own
        return "application/json", msgspec.json.encode({"error": problem["detail"]})
    return MEDIA_TYPE, msgspec.json.encode(problem)


def _note(
    problem: dict[str, Any],
    method: str,
    path: str,
    client: str | None,
    error: Exception | None = None,
    level: int = logging.INFO,
) -> None:
    """One line in the log, of `level` or louder; with the traceback of what was unforeseen and explains nothing."""
    at_fault = problem["status"] == HTTPStatus.INTERNAL_SERVER_ERROR
    refused = logging.DEBUG if path == "/readyz" else level  # probes ask every few seconds
    fields = {key: problem[key] for key in ("status", "detail", "instance")}
    log.log(
        logging.ERROR if at_fault else refused,
        "request failed" if at_fault else "request refused",
        extra=fields | {"method": method, "path": path, "client": client},
        exc_info=error,
    )


def _dashed(name: str) -> str:
    return "".join(f"-{sign.lower()}" if sign.isupper() else sign for sign in name).lstrip("-")
