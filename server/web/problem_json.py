"""Every failure as RFC 9457 `application/problem+json`. This module alone chooses the HTTP status of an error.

A problem has `type`, `title`, `status`, `detail` and `instance`, a fresh `urn:uuid:` that the log line carries too, so
that a user's report leads to its line. Where one frame is at fault, `errors` is `[{"frame": index, "reason": text}]`.
429 and 503 carry `Retry-After`. Nothing internal is shown: an unforeseen exception is a bare 500, with its traceback
in the log only. Under `/v2` the answer has the Open Inference Protocol's form: `{"error": detail}`.
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
from server.web.json_http import JSON

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:sectorwatch:problem:"

_STATUS: dict[type[SectorwatchError], tuple[str, HTTPStatus, str]] = {
    Malformed: ("malformed", HTTPStatus.BAD_REQUEST, "The request is malformed"),
    Unauthorized: ("unauthorized", HTTPStatus.UNAUTHORIZED, "A valid token is needed"),
    Forbidden: ("forbidden", HTTPStatus.FORBIDDEN, "The token does not permit this"),
    Unknown: ("unknown", HTTPStatus.NOT_FOUND, "Not found"),
    Conflict: ("conflict", HTTPStatus.CONFLICT, "The request conflicts with the server's state"),
    OtherEnsemble: ("other-ensemble", HTTPStatus.PRECONDITION_FAILED, "Another ensemble is in service"),
    TooLarge: ("too-large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The request is too large"),
    WrongType: ("wrong-type", HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Another media type is expected"),
    Unprocessable: ("unusable", HTTPStatus.UNPROCESSABLE_ENTITY, "The request cannot be processed"),
    OverQuota: ("over-quota", HTTPStatus.TOO_MANY_REQUESTS, "The client's quota is used up for now"),
    RetryLater: ("later", HTTPStatus.SERVICE_UNAVAILABLE, "Not possible now; try again later"),
    ConfigurationError: ("broken", HTTPStatus.INTERNAL_SERVER_ERROR, "The server needs its operator"),
}
"""Error -> the last part of `type`, which is on the wire and never changes, the status, and the title."""

_PASSED_HEADERS = frozenset({"allow", "retry-after", "content-range", "www-authenticate"})


def install(app: Flask) -> None:
    """Make every error that leaves a view of `app`, or that Flask itself raises, a problem document."""
    app.register_error_handler(SectorwatchError, _sectorwatch_error)
    app.register_error_handler(HTTPException, _http_exception)
    app.register_error_handler(Exception, _unforeseen)


def _sectorwatch_error(error: SectorwatchError) -> Response:
    name, status, title = next(_STATUS[kind] for kind in (*type(error).__mro__, ConfigurationError) if kind in _STATUS)
    problem = _problem(TYPE_PREFIX + name, title, status, error.detail)
    if error.frame is not None:
        problem["errors"] = [{"frame": error.frame, "reason": error.detail}]
    response = _response(problem)
    if isinstance(error, RetryLater):
        response.headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = 'Bearer realm="sectorwatch"'
    _log(problem, level=logging.WARNING if isinstance(error, DatabaseUnavailable) else logging.INFO)
    return response


def _http_exception(error: HTTPException) -> ResponseReturnValue:
    if error.code is None or error.code < HTTPStatus.BAD_REQUEST:
        return error.get_response()  # a redirect
    status = HTTPStatus(error.code)
    problem = _problem("about:blank", status.phrase, status, error.description or status.phrase)
    response = _response(problem)
    for name, value in error.get_headers():
        if name.lower() in _PASSED_HEADERS:
            response.headers[name] = value
    _log(problem)
    return response


def _unforeseen(error: Exception) -> Response:
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    detail = "An unforeseen error; the server's log has it under `instance`."
    problem = _problem("about:blank", status.phrase, status, detail)
    _log(problem, error)
    return _response(problem)


def _problem(type_: str, title: str, status: HTTPStatus, detail: str) -> dict[str, Any]:
    instance = uuid.uuid4().urn
    return {"type": type_, "title": title, "status": status.value, "detail": detail, "instance": instance}


def _response(problem: dict[str, Any]) -> Response:
    """The problem in the form that the requested path uses."""
    if request.path == "/v2" or request.path.startswith("/v2/"):
        media_type, body = JSON, msgspec.json.encode({"error": problem["detail"]})
    else:
        media_type, body = MEDIA_TYPE, msgspec.json.encode(problem)
    return Response(body, problem["status"], content_type=media_type)


def _log(problem: dict[str, Any], error: Exception | None = None, level: int = logging.INFO) -> None:
    """One log line: an error for a 500, else of `level`."""
    is_fault = problem["status"] == HTTPStatus.INTERNAL_SERVER_ERROR
    if request.path == "/readyz":  # probes ask every few seconds
        level = logging.DEBUG
    fields = {key: problem[key] for key in ("status", "detail", "instance")}
    log.log(
        logging.ERROR if is_fault else level,
        "request failed" if is_fault else "request refused",
        extra=fields | {"method": request.method, "path": request.path, "client": request.remote_addr},
        exc_info=error,
    )
