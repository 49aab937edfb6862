"""Every error is a problem document with the right status, and nothing internal leaves the server."""

from __future__ import annotations

import logging
from http import HTTPStatus

import pytest
from flask import Flask, abort

from server.domain.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    Forbidden,
    Malformed,
    RetryLater,
    SectorwatchError,
    TooLarge,
    Unauthorized,
    Unknown,
    Unprocessable,
    WrongType,
)
from server.web import problem_json


def app_that_raises(error: Exception) -> Flask:
    app = Flask("raising", static_folder=None)
    problem_json.install(app)

    @app.get("/")
    def fail() -> str:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Malformed("x"), 400),
        (Unauthorized("x"), 401),
        (Forbidden("x"), 403),
        (Unknown("x"), 404),
        (TooLarge("x"), 413),
        (WrongType("x"), 415),
        (Unprocessable("x"), 422),
        (RetryLater("x"), 503),
        (ConfigurationError("x"), 500),
        (SectorwatchError("x"), 500),
    ],
)
def test_each_error_of_ours_has_one_status(error: SectorwatchError, status: int) -> None:
    answer = app_that_raises(error).test_client().get("/")
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    body = answer.get_json()
    assert (body["status"], body["detail"]) == (status, "x")
    assert body["type"].startswith("urn:sectorwatch:problem:")
    assert body["instance"].startswith("urn:uuid:")


def test_a_subclass_takes_the_status_of_its_nearest_ancestor() -> None:
    class FarTooLarge(TooLarge):
        pass

    assert app_that_raises(FarTooLarge("x")).test_client().get("/").status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


def test_the_frame_at_fault_is_named() -> None:
    answer = app_that_raises(Unprocessable("not a JPEG", frame=3)).test_client().get("/")
    assert answer.get_json()["errors"] == [{"frame": 3, "reason": "not a JPEG"}]


def test_later_says_when_to_come_back() -> None:
    answer = app_that_raises(RetryLater("busy", retry_after_s=7)).test_client().get("/")
    assert answer.headers["Retry-After"] == "7"


def test_unauthorized_says_how_to_identify_oneself() -> None:
    answer = app_that_raises(Unauthorized("who")).test_client().get("/")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("POST", "/", 405)])
def test_flask_s_own_errors_are_problems_too(method: str, path: str, status: int) -> None:
    answer = app_that_raises(Malformed("x")).test_client().open(path, method=method)
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    assert answer.get_json()["type"] == "about:blank"
    assert status != 405 or "GET" in answer.headers["Allow"]


def test_aborts_keep_their_text() -> None:
    app = Flask("aborting", static_folder=None)
    problem_json.install(app)

    @app.get("/")
    def gone() -> str:
        abort(410, "it was here once")

    assert app.test_client().get("/").get_json()["detail"] == "it was here once"


def test_the_unforeseen_shows_nothing_but_an_id_that_the_log_has_with_the_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR, logger="server.web.problem_json"):
        answer = app_that_raises(ZeroDivisionError("secret path /home/x")).test_client().get("/")
    assert answer.status_code == 500
    assert "secret" not in answer.get_data(as_text=True)
    (record,) = caplog.records
    assert vars(record)["instance"] == answer.get_json()["instance"]
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize(
    ("error", "level", "message"),
    [
        (Malformed("bad"), "INFO", "request refused"),
        (RetryLater("bad"), "INFO", "request refused"),
        (DatabaseUnavailable("bad"), "WARNING", "request refused"),
        (ConfigurationError("bad"), "ERROR", "request failed"),
    ],
)
def test_what_says_itself_what_is_wrong_is_logged_without_a_traceback(
    error: SectorwatchError, level: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="server.web.problem_json"):
        app_that_raises(error).test_client().get("/")
    (record,) = caplog.records
    assert (record.levelname, record.getMessage(), vars(record)["detail"]) == (level, message, "bad")
    assert record.exc_info is None
