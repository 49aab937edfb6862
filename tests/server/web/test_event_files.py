"""`GET /v1/events` as CSV, JSON lines and Parquet: all that is asked for, as it is read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from server.analysis.exports import MEDIA_TYPES, Form
from server.app import runtime_of
from server.domain.keeping import Keep
from server.web import event_files
from tests.server.analysis.exports.reading import read
from tests.server.web.test_events import token
from tests.server.web_client import BrightnessEnsemble, body, envelope, jpeg, make_app

CSV = {"Accept": "text/csv"}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    app = make_app(tmp_path, BrightnessEnsemble())
    yield app
    runtime_of(app).store.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of a server on which someone came to the gate, and to the door, and went."""
    client = app.test_client()
    for camera in ("gate", "door"):
        come_and_go(client, camera)
    return client


def come_and_go(client: FlaskClient, camera: str) -> None:
    frames = [jpeg(grey) for grey in (0, 1, *range(200, 212), *range(2, 42))]
    burst = envelope(frames, burst_id=f"0197-burst-{camera}", camera=camera)
    assert client.post("/v1/bursts", data=body(burst, frames)).status_code == 201


def ids(answer: Any) -> list[str]:
    return [row["id"] for row in csv.DictReader(io.StringIO(answer.text))]


@pytest.mark.parametrize("form", MEDIA_TYPES)
def test_each_form_holds_the_events_that_json_holds(client: FlaskClient, form: Form) -> None:
    pages = client.get("/v1/events")
    answer = client.get("/v1/events", headers={"Accept": MEDIA_TYPES[form]})
    assert answer.mimetype == MEDIA_TYPES[form]
    assert [row["id"] for row in read(answer.data, form)] == [each["id"] for each in pages.get_json()["events"]]
    assert (answer.headers["X-Next"], answer.headers["Vary"]) == (pages.headers["X-Next"], "Accept")


@pytest.mark.parametrize(
    ("accepted", "type_"),
    [
        ("text/csv;q=0.5, application/x-ndjson", "application/x-ndjson"),
        ("text/csv, */*;q=0.1", "text/csv"),
        ("text/csv; charset=utf-8", "text/csv"),
        ("text/csv; header=present; q=0.5, application/json; q=0.1", "text/csv"),
        ("text/csv;q=0, application/x-ndjson;q=0.1", "application/x-ndjson"),
        ("application/*", "application/json"),
        ("text/*", "text/csv"),
        ("*/*", "application/json"),
        ("text/html", "application/json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json"),
    ],
)
def test_the_client_chooses_and_whoever_does_not_gets_json(client: FlaskClient, accepted: str, type_: str) -> None:
    assert client.get("/v1/events", headers={"Accept": accepted}).mimetype == type_


def test_a_file_is_read_page_by_page_and_the_filters_hold(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = [each["id"] for each in client.get("/v1/events?camera=gate").get_json()["events"]]
    monkeypatch.setattr(event_files, "PAGE", 1)
    assert ids(client.get("/v1/events?camera=gate", headers=CSV)) == everything
    assert ids(client.get("/v1/events?camera=shed", headers=CSV)) == []


def test_a_limit_makes_a_page_of_any_form(client: FlaskClient) -> None:
    everything = ids(client.get("/v1/events", headers=CSV))
    first = client.get("/v1/events?limit=2", headers=CSV)
    assert ids(first) == everything[:2]
    following = client.get(first.headers["Link"][1:].partition(">")[0], headers=CSV)
    assert ids(following) == everything[2:4]


def test_what_is_logged_while_a_file_is_read_comes_after_its_next(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ids(client.get("/v1/events", headers=CSV))
    monkeypatch.setattr(event_files, "PAGE", 1)
    answer = client.get("/v1/events", headers=CSV)
    come_and_go(client, "shed")
    assert ids(answer) == before
    later = ids(client.get(f"/v1/events?after={answer.headers['X-Next']}", headers=CSV))
    assert later
    assert not set(later) & set(before)


def test_a_reader_of_one_site_exports_no_other(app: Flask, client: FlaskClient) -> None:
    assert ids(client.get("/v1/events", headers=token(app, "north-yard") | CSV))
    assert ids(client.get("/v1/events", headers=token(app, "other") | CSV)) == []
    assert client.get("/v1/events?site=north-yard", headers=token(app, "other") | CSV).status_code == 403
    assert client.get("/v1/events", headers=CSV).status_code == 401


def test_only_some_files_are_read_at_once_and_a_place_is_free_again_however_one_ends(
    app: Flask, client: FlaskClient
) -> None:
    asking = [token(app, "north-yard") | CSV for _ in range(event_files.AT_ONCE + 1)]
    held = [client.get("/v1/events", headers=each) for each in asking[:-1]]
    refused = client.get("/v1/events", headers=asking[-1])
    assert (refused.status_code, refused.content_type) == (503, "application/problem+json")
    assert int(refused.headers["Retry-After"]) == event_files.RETRY_AFTER_S
    assert client.get("/v1/events", headers=asking[-1] | {"Accept": "application/json"}).status_code == 200
    assert held[0].data
    held[1].close()
    for each in asking:
        with client.head("/v1/events", headers=each) as head:
            assert (head.status_code, head.data) == (200, b"")
        assert client.get("/v1/events", headers=each).data


def test_one_client_alone_keeps_no_other_from_an_export(app: Flask, client: FlaskClient) -> None:
    slow, other = (token(app, "north-yard") | CSV for _ in range(2))
    with client.get("/v1/events", headers=slow):
        refused = client.get("/v1/events", headers=slow)
        assert (refused.status_code, refused.get_json()["detail"]) == (
            503,
            "an export of this client is being read already",
        )
        assert ids(client.get("/v1/events", headers=other))
    assert ids(client.get("/v1/events", headers=slow))


def test_a_server_without_pyarrow_says_so_unless_another_form_is_accepted(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_files, "fault_of", lambda form: "Install it." if form == "parquet" else None)
    parquet = MEDIA_TYPES["parquet"]
    answer = client.get("/v1/events", headers={"Accept": parquet})
    assert (answer.status_code, answer.content_type) == (406, "application/problem+json")
    assert "Install it." in answer.get_json()["detail"]
    assert client.get("/v1/events", headers={"Accept": f"{parquet}, text/csv;q=0.1"}).mimetype == "text/csv"


def test_what_is_no_longer_kept_is_in_the_header(app: Flask, client: FlaskClient) -> None:
    runtime_of(app).store.retention.sweep(lambda _site: Keep(events_days=1e-4))
    page = client.get("/v1/events?camera=gate").get_json()
    assert client.get("/v1/events?camera=gate", headers=CSV).headers["X-Kept-Since"] == page["kept_since"]
