"""A full server answers an upload by its first line as the application would, and nothing else."""

from __future__ import annotations

import http.client
import io
import json
import logging
from pathlib import Path
from typing import Any, cast

import pytest
from flask import Flask

from server.app import runtime_of
from server.domain.errors import RetryLater
from server.hosting.turnstile import UPLOADS, Turnstile
from tests.server.web_client import BrightnessEnsemble, make_app

PATHS = (
    "/v1/bursts",
    "/classify",
    "/batch",
    "/v2/models/ensemble/infer",
    f"/v2/models/light.v1/versions/{'e' * 64}/infer",
)


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    made = make_app(tmp_path, BrightnessEnsemble())
    runtime_of(made).admission.close()
    return made


@pytest.fixture
def turnstile(app: Flask) -> Turnstile:
    runtime = runtime_of(app)
    return Turnstile(app.url_map, runtime.admission.knock, runtime.metrics.answered)


class Received:
    """What http.client asks of a socket."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def makefile(self, *_how: object) -> io.BytesIO:
        return io.BytesIO(self._answer)


def told(turnstile: Turnstile, begun: bytes) -> bytes | None:
    full = turnstile.closed()
    assert full is not None
    return turnstile.answer(full, begun, "127.0.0.1")


def asked(path: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localh".encode()


def parsed(answer: bytes | None) -> http.client.HTTPResponse:
    assert answer is not None
    response = http.client.HTTPResponse(cast(Any, Received(answer)))
    response.begin()
    return response


@pytest.mark.parametrize("path", PATHS)
def test_an_upload_gets_the_answer_that_the_application_would_give(app: Flask, turnstile: Turnstile, path: str) -> None:
    ours, theirs = parsed(told(turnstile, asked(path))), app.test_client().post(path)
    assert (ours.status, ours.reason) == (503, theirs.status.partition(" ")[2])
    headers = dict(ours.getheaders())
    assert headers.items() >= dict(theirs.headers).items()
    assert headers.keys() - theirs.headers.keys() == {"Server", "Date", "Connection"}
    assert headers["Connection"] == "close"
    body, expected = json.loads(ours.read()), theirs.get_json()
    for problem in (body, expected):
        problem.pop("instance", None)
    assert body == expected


def test_whoever_knocks_in_the_application_does_so_here(app: Flask, turnstile: Turnstile) -> None:
    names = dict.fromkeys(("model", "digest", "event", "site", "camera", "burst_id", "annotation"), "x")
    refused = set()
    for rule in app.url_map.iter_rules():
        if "POST" in (rule.methods or ()):
            path = rule.build({name: names[name] for name in rule.arguments})[1]
            answer = app.test_client().post(path)
            if answer.status_code == 503:
                refused.add(rule.endpoint)
                assert told(turnstile, asked(path)) is not None
    assert refused == UPLOADS


def test_a_refusal_is_counted_and_logged_as_any_other(
    app: Flask, turnstile: Turnstile, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        told(turnstile, asked("/batch"))
        app.test_client().post("/batch")
    one, other = (vars(record) for record in caplog.records if record.message == "request refused")
    for key in ("status", "detail", "method", "path", "client"):
        assert one[key] == other[key]
    text = runtime_of(app).metrics.text()[0].decode()
    assert 'sectorwatch_http_requests_total{method="POST",route="/batch",status="503"} 2.0' in text


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"POST /ba",
        b"GET /batch HTTP/1.1\r\n",
        b"POST /v1/heartbeats HTTP/1.1\r\n",
        b"POST /nowhere HTTP/1.1\r\n",
        b"POST /batch HTTP/1.0\r\n",
        b"POST /batch HTTP/2.0\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00POST /batch HTTP/1.1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nPOST /batch HTTP/1.1\r\n",
    ],
)
def test_what_is_not_plainly_an_upload_is_left_to_the_application(turnstile: Turnstile, begun: bytes) -> None:
    assert told(turnstile, begun) is None


def test_while_there_is_room_nobody_is_turned_away(tmp_path: Path) -> None:
    app = make_app(tmp_path, BrightnessEnsemble(), admission_limit=1)
    runtime = runtime_of(app)
    turnstile = Turnstile(app.url_map, runtime.admission.knock, runtime.metrics.answered)
    assert turnstile.closed() is None
    with runtime.admission.admitted("me"):
        assert isinstance(turnstile.closed(), RetryLater)
    assert turnstile.closed() is None
