"""Every failure as RFC 9457 `application/problem+json`. This module alone chooses the HTTP status of an error.

A problem has `type`, `title`, `status`, `detail` and `instance`, a fresh `urn:uuid:` that the log line carries too, so
that a user's report leads to its line. Where one frame is at fault, `errors` is `[{"frame": index, "reason": text}]`.
429 and 503 carry `Retry-After`. Nothing internal is shown: an unforeseen exception is a bare 500, with its traceback
in the log only. Under `/v2` the answer has the Open Inference Protocol's form: `{"error": detail}`.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

import msgspec
from flask import Flask, Response, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import ClientDisconnected, HTTPException

from server.domain.errors import (
    ConfigurationError,
    Conflict,
    DatabaseUnavailable,
    Forbidden,
    Incomplete,
    Malformed,
    NoLongerKept,
    NotAcceptable,
    OtherEnsemble,
    OverQuota,
    RetryLater,
    SectorwatchError,
    TooLarge,
    TooMuchWork,
    Unauthorized,
    Unknown,
    Unprocessable,
    WrongType,
)
from server.web.json_http import json_response

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:sectorwatch:problem:"

_STATUS: dict[type[SectorwatchError], tuple[str, HTTPStatus, str]] = {
    Malformed: ("malformed", HTTPStatus.BAD_REQUEST, "The request is malformed"),
    Unauthorized: ("unauthorized", HTTPStatus.UNAUTHORIZED, "A valid token is needed"),
    Forbidden: ("forbidden", HTTPStatus.FORBIDDEN, "The token does not permit this"),
    Unknown: ("unknown", HTTPStatus.NOT_FOUND, "Not found"),
    NotAcceptable: ("not-acceptable", HTTPStatus.NOT_ACCEPTABLE, "No accepted form can be made here"),
    NoLongerKept: ("no-longer-kept", HTTPStatus.GONE, "No longer kept"),
    Conflict: ("conflict", HTTPStatus.CONFLICT, "The request conflicts with the server's state"),
    OtherEnsemble: ("other-ensemble", HTTPStatus.PRECONDITION_FAILED, "Another ensemble is in service"),
    TooLarge: ("too-large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The request is too large"),
    TooMuchWork: ("too-much-work", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Judging the request would take too long"),
    WrongType: ("wrong-type", HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Another media type is expected"),
    Unprocessable: ("unusable", HTTPStatus.UNPROCESSABLE_ENTITY, "The request cannot be processed"),
    Incomplete: ("incomplete", HTTPStatus.REQUEST_TIMEOUT, "The request did not arrive whole"),
    OverQuota: ("over-quota", HTTPStatus.TOO_MANY_REQUESTS, "The client's quota is used up for now"),
    RetryLater: ("later", HTTPStatus.SERVICE_UNAVAILABLE, "Not possible now; try again later"),
    ConfigurationError: ("broken", HTTPStatus.INTERNAL_SERVER_ERROR, "The server needs its operator"),
}
"""Error -> the last part of `type`, which is on the wire and never changes, the status, and the title."""

_PASSED_HEADERS = frozenset({"allow", "retry-after", "content-range", "www-authenticate"})


def install(app: Flask) -> None:
    """Make every error that leaves a view of `app`, or that Flask itself raises, a problem document."""
    app.register_error_handler(SectorwatchError, _sectorwatch_error)
    app.register_error_handler(ClientDisconnected, _incomplete)
    app.register_error_handler(HTTPException, http_problem)
    app.register_error_handler(Exception, _unforeseen)


def status_of(error: SectorwatchError) -> tuple[str, HTTPStatus]:
    """The title and the status of an error, for a page that shows it."""
    _, status, title = _problem_of(error)
    return title, status


def _problem_of(error: SectorwatchError) -> tuple[str, HTTPStatus, str]:
    return next(_STATUS[kind] for kind in (*type(error).__mro__, ConfigurationError) if kind in _STATUS)


def _sectorwatch_error(error: SectorwatchError) -> Response:
    name, status, title = _problem_of(error)
    errors = {} if error.frame is None else {"errors": [{"frame": error.frame, "reason": error.detail}]}
    level = logging.WARNING if isinstance(error, DatabaseUnavailable) else logging.INFO
    response = _answer(TYPE_PREFIX + name, title, status, error.detail, errors, level)
    if isinstance(error, RetryLater):
        response.headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = 'Bearer realm="sectorwatch"'
    return response


def _incomplete(error: ClientDisconnected) -> ResponseReturnValue:
    """A body's declared end did not come: not the sender's fault, so not a 400, after which nothing is sent again."""
    if request.content_length is None:
        return http_problem(error)  # chunks that are none
    return _sectorwatch_error(
        Incomplete("the body ended before its declared length, or came too slowly: send it again")
    )


def http_problem(error: HTTPException) -> ResponseReturnValue:
    """What Flask itself raises, as a problem document."""
    if error.code is None or error.code < HTTPStatus.BAD_REQUEST:
        return error.get_response()  # a redirect
    status = HTTPStatus(error.code)
    response = _answer("about:blank", status.phrase, status, error.description or status.phrase)
    response.headers.update(header for header in error.get_headers() if header[0].lower() in _PASSED_HEADERS)
    return response


def _unforeseen(error: Exception) -> Response:
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    detail = "An unforeseen error; the server's log has it under `instance`."
    return _answer("about:blank", status.phrase, status, detail, exception=error)


def _answer(
    type_: str,
    title: str,
    status: HTTPStatus,
    detail: str,
    errors: Mapping[str, object] = MappingProxyType({}),
    level: int = logging.INFO,
    exception: Exception | None = None,
) -> Response:
    """The problem in the form that the requested path uses, logged in one line: as an error if 500, else at `level`."""
    shown = {"status": status.value, "detail": detail, "instance": uuid.uuid4().urn}
    is_fault = status == HTTPStatus.INTERNAL_SERVER_ERROR
    if request.path == "/readyz":  # probes ask every few seconds
        level = logging.DEBUG
    log.log(
        logging.ERROR if is_fault else level,
        "request failed" if is_fault else "request refused",
        extra=shown | {"method": request.method, "path": request.path, "client": request.remote_addr},
        exc_info=exception,
    )
    if request.path == "/v2" or request.path.startswith("/v2/"):
        return json_response({"error": detail}, status.value)
    return Response(
        msgspec.json.encode({"type": type_, "title": title, **shown, **errors}),
        status.value,
        content_type=MEDIA_TYPE,
    )
