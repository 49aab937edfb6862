"""Every answer names the ensemble that gave it, and a client may insist on one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from server.app import runtime_of
from tests.server.web_client import BrightnessEnsemble, body, envelope, files, jpeg, make_app

IN_SERVICE = "e" * 64
ENDPOINTS = ["/classify", "/batch", "/v1/bursts"]


class CountingEnsemble(BrightnessEnsemble):
    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def answer(self, images, crops=None, enlarged=()):  # type: ignore[no-untyped-def]
        self.asked += 1
        return super().answer(images, crops, enlarged)


@pytest.fixture
def ensemble() -> CountingEnsemble:
    return CountingEnsemble()


@pytest.fixture
def app(tmp_path: Path, ensemble: CountingEnsemble) -> Iterator[Flask]:
    app = make_app(tmp_path, ensemble)
    yield app
    runtime_of(app).store.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def post(client: FlaskClient, endpoint: str, if_match: str | None = None) -> TestResponse:
    frames = [jpeg(7)]
    data = body(envelope(frames), frames) if endpoint == "/v1/bursts" else {"file": files(frames)}
    return client.post(endpoint, data=data, headers={"If-Match": if_match} if if_match is not None else {})


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_answer_names_its_ensemble(client: FlaskClient, endpoint: str):
    answer = post(client, endpoint)
    assert (answer.headers["ETag"], answer.headers["X-Ensemble"]) == (f'"{IN_SERVICE}"', IN_SERVICE)


@pytest.mark.parametrize("path", ["/models", "/v1/models"])
def test_so_does_the_list_of_models(client: FlaskClient, path: str):
    assert client.get(path).headers["ETag"] == f'"{IN_SERVICE}"'


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("wanted", [f'"{IN_SERVICE}"', IN_SERVICE, "*", f'"other", "{IN_SERVICE}"'])
def test_a_client_that_asks_for_the_ensemble_in_service_gets_its_answer(
    client: FlaskClient, endpoint: str, wanted: str
):
    assert post(client, endpoint, wanted).status_code in {200, 201}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("wanted", ['"' + "d" * 64 + '"', f'W/"{IN_SERVICE}"', "nonsense"])
def test_a_client_that_asks_for_another_ensemble_is_refused_and_no_model_is_asked(
    client: FlaskClient, ensemble: CountingEnsemble, endpoint: str, wanted: str
):
    answer = post(client, endpoint, wanted)
    assert (answer.status_code, answer.content_type) == (412, "application/problem+json")
    assert answer.get_json()["type"] == "urn:sectorwatch:problem:other-ensemble"
    assert IN_SERVICE in answer.get_json()["detail"]
    assert ensemble.asked == 0
    assert post(client, "/v1/bursts").status_code == 201  # nothing was stored


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("wanted", ['"' + "d" * 64, ",", '"'])
def test_a_condition_that_cannot_be_read_is_refused_and_no_model_is_asked(
    client: FlaskClient, ensemble: CountingEnsemble, endpoint: str, wanted: str
):
    answer = post(client, endpoint, wanted)
    assert (answer.status_code, ensemble.asked) == (400, 0)
    assert "`If-Match` names no entity tag" in answer.get_json()["detail"]


def test_a_known_burst_names_the_ensemble_that_judged_it(client: FlaskClient, ensemble: CountingEnsemble):
    first = post(client, "/v1/bursts")
    ensemble.ensemble_info = type(ensemble.ensemble_info)("d" * 64, ensemble.ensemble_info.models)
    again = post(client, "/v1/bursts")
    assert again.status_code == 200
    assert again.headers["ETag"] == first.headers["ETag"] == f'"{first.get_json()["ensemble"]}"'
