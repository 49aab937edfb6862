"""The OpenAPI document describes the application.

Schemathesis makes valid and invalid requests from the document and checks every answer against it. The answers to real
requests are checked as well, since random bytes are not images.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from server import __version__
from server.app import create_app, runtime_of
from server.console import TWINS
from server.web.openapi import document
from tests.server.web.oip.oip_requests import texts
from tests.server.web.test_cameras import heartbeat
from tests.server.web_client import BrightnessEnsemble, body, envelope, files, jpeg, make_app

EXAMPLES = 6
FIRST_BURST = "0197-openapi-0"


@schemathesis.check
def no_fault_of_the_server(ctx: schemathesis.CheckContext, response: schemathesis.Response, case: Any) -> None:
    """A 503 with `Retry-After` is not a fault."""
    assert response.status_code < 500 or "retry-after" in response.headers, response.text


CHECKS = [
    no_fault_of_the_server,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]
BOUNDED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

schema = schemathesis.openapi.from_dict(document(__version__, TWINS))


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """An application with one burst; no test depends on what another has sent."""
    app = make_app(tmp_path_factory.mktemp("openapi"), BrightnessEnsemble())
    assert app.test_client().post("/v1/bursts", data=eventful(FIRST_BURST)).status_code == 201
    yield app
    runtime_of(app).store.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@schema.parametrize()
@BOUNDED
def test_whatever_is_asked_the_answer_is_as_documented(case: schemathesis.Case, app: Flask) -> None:
    def nearby(environ: dict[str, Any], start_response: Any) -> Any:
        return app.wsgi_app({"REMOTE_ADDR": "127.0.0.1", **environ}, start_response)

    case.call_and_validate(app=nearby, base_url="http://localhost", checks=CHECKS)


def test_every_route_is_documented_and_nothing_else(app: Flask) -> None:
    documented = {
        (path, method) for path, operations in document(__version__, TWINS)["paths"].items() for method in operations
    }
    served = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if not rule.endpoint.startswith("console.")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert documented == served


def test_the_document_is_served_to_anyone(app: Flask, client: FlaskClient) -> None:
    answer = client.get("/openapi.json", environ_base={"REMOTE_ADDR": "192.0.2.7"})
    assert answer.status_code == 200
    assert answer.get_json()["openapi"].startswith("3.1")


def test_every_reference_leads_somewhere_and_every_schema_is_used(client: FlaskClient) -> None:
    text = client.get("/openapi.json").text
    used = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert used == set(client.get("/openapi.json").get_json()["components"]["schemas"])


def test_every_operation_has_a_name_of_its_own_a_summary_and_a_tag(client: FlaskClient) -> None:
    content = client.get("/openapi.json").get_json()
    operations = [operation for path in content["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    assert all(operation["summary"] for operation in operations)
    assert {tag for operation in operations for tag in operation["tags"]} == {tag["name"] for tag in content["tags"]}


def eventful(burst_id: str) -> dict[str, Any]:
    """A burst in which someone comes to the gate."""
    frames = [jpeg(grey) for grey in (1, 2, *range(200, 212))]
    return body(envelope(frames, burst_id=burst_id), frames)


MISSED = {
    "author": "me",
    "missed": {
        "site": "north-yard",
        "camera": "gate",
        "kind": "entered",
        "sector": "view",
        "at": "2027-01-15T07:59:00Z",
    },
}
REAL = [
    ("POST", "/v1/bursts", {"data": lambda: eventful("0197-openapi-1")}, 201),
    ("POST", "/v1/bursts", {"data": lambda: eventful(FIRST_BURST)}, 200),
    ("POST", "/v1/bursts", {"data": lambda: body(envelope([b"no picture"]), [b"no picture"])}, 422),
    ("POST", "/classify", {"data": lambda: {"file": files([jpeg(9)])}}, 200),
    ("POST", "/batch", {"data": lambda: {"file": files([jpeg(9), jpeg(255)])}}, 200),
    ("POST", "/batch", {"data": lambda: {"file": files([jpeg(9)])}, "headers": {"If-Match": '"other"'}}, 412),
    ("POST", "/batch", {"json": {}}, 415),
    ("GET", "/models", {}, 200),
    ("GET", "/v1/models", {}, 200),
    ("GET", "/v1/events", {}, 200),
    ("GET", "/v1/events", {"headers": {"Accept": "application/x-ndjson"}}, 200),
    ("GET", "/v1/events", {"headers": {"Accept": "text/csv"}}, 200),
    ("GET", "/v1/events", {"headers": {"Accept": "application/vnd.apache.parquet"}}, 200),
    ("GET", "/v1/events", {"query_string": {"limit": "0"}}, 400),
    ("GET", "/v1/events", {"environ_base": {"REMOTE_ADDR": "192.0.2.7"}}, 401),
    ("POST", "/v1/heartbeats", {"json": heartbeat()}, 204),
    ("POST", "/v1/heartbeats", {"json": heartbeat(state="")}, 400),
    ("GET", "/v1/cameras", {}, 200),
    ("GET", "/v1/site-policy", {"query_string": {"site": "north-yard", "camera": "gate"}}, 200),
    ("GET", "/v1/site-policy", {"query_string": {"site": "north-yard"}}, 400),
    ("POST", "/v1/annotations", {"json": MISSED}, 201),
    ("POST", "/v1/annotations", {"json": {"author": "me", "event": "0" * 32, "truth": "true"}}, 404),
    ("GET", "/v1/annotations", {}, 200),
    ("GET", "/v2", {}, 200),
    ("GET", "/v2/health/ready", {}, 200),
    ("GET", "/v2/models/ensemble", {}, 200),
    ("GET", "/v2/models/people/ready", {}, 200),
    ("GET", "/v2/models/pepole/ready", {}, 404),
    ("POST", "/v2/models/ensemble/infer", {"json": texts(jpeg(1), jpeg(255))}, 200),
    ("POST", "/v2/models/ensemble/infer", {"json": texts(b"no picture")}, 422),
    ("GET", "/v2/models/ensemble/config", {}, 200),
    ("GET", "/v2/models/stats", {}, 200),
    ("GET", "/v2/models/people/stats", {}, 200),
    ("POST", "/v2/repository/index", {}, 200),
    ("POST", "/v2/repository/index", {"json": {"reday": True}}, 400),
    ("GET", "/livez", {}, 200),
    ("GET", "/readyz", {}, 200),
    ("GET", "/metrics", {}, 200),
    ("GET", "/metrics", {"headers": {"Accept": "application/openmetrics-text; version=1.0.0"}}, 200),
]


@pytest.mark.parametrize(("method", "path", "asked", "status"), REAL, ids=[f"{m} {p} {s}" for m, p, _, s in REAL])
def test_what_a_real_client_gets_is_as_documented(
    client: FlaskClient, method: str, path: str, asked: dict[str, Any], status: int
) -> None:
    made = {key: value() if callable(value) else value for key, value in asked.items()}
    response = client.open(path, method=method, **made)
    assert response.status_code == status
    operation(path, method).validate_response(response)


def operation(path: str, method: str) -> Any:
    """The documented operation behind a path."""
    return schema[re.sub(r"/models/(?!stats$)\w+", "/models/{model}", path) if path.startswith("/v2/") else path][
        method
    ]


def test_while_the_ensemble_loads_the_answers_are_as_documented(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    for path in ("/models", "/v1/models", "/readyz", "/v2/health/ready", "/v2/models/ensemble"):
        response = app.test_client().get(path)
        assert response.status_code == 503
        operation(path, "GET").validate_response(response)
    runtime_of(app).store.close()


def test_the_document_needs_no_database_and_no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECTORWATCH_DATA_DIR", str(tmp_path / "nowhere"))
    assert create_app(channels=[]).test_client().get("/openapi.json").status_code == 200
