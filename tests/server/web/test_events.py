"""What can be asked of the server: its models, its events, its health."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from policies.events import microseconds
from server.app import runtime_of
from server.domain.keeping import Keep
from server.web.auth import ANY_SITE, new_token
from tests.server.web_client import NOW_US, BrightnessEnsemble, body, envelope, jpeg, make_app


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    app = make_app(tmp_path, BrightnessEnsemble())
    yield app
    runtime_of(app).store.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def eventful(app: Flask, client: FlaskClient) -> FlaskClient:
    """A client of a server on which someone came to the gate and went, some seconds later."""
    for camera in ("gate", "door"):
        frames = [jpeg(grey) for grey in (0, 1, *range(200, 212), *range(2, 42))]
        burst = envelope(frames, burst_id=f"0197-burst-{camera}", camera=camera)
        assert client.post("/v1/bursts", data=body(burst, frames)).status_code == 201
    return client


def kinds(answer: Any) -> list[str]:
    return [event["kind"] for event in answer.get_json()["events"]]


def token(app: Flask, site: str, camera: str | None = None) -> dict[str, str]:
    made = new_token()
    runtime_of(app).store.add_token(made.id, "test", site, camera, made.hash)
    return {"Authorization": f"Bearer {made.token}"}


def test_models_say_what_each_of_them_can_see(client: FlaskClient) -> None:
    content = client.get("/v1/models").get_json()
    assert content["ensemble"] == "e" * 64
    assert content["models"] == [
        {"name": "light.v1", "kind": "classifier", "votes": True, "classes": ["bright", "dark"]},
        {"name": "people", "kind": "detector", "votes": True, "classes": ["person"]},
    ]


def test_events_come_with_everything_the_schema_promises(eventful: FlaskClient) -> None:
    events = eventful.get("/v1/events?camera=gate").get_json()["events"]
    assert [event["kind"] for event in events if event["kind"].startswith("presence")] == [
        "presence_started",
        "presence_ended",
    ]
    promised = {
        "id",
        "kind",
        "site",
        "camera",
        "sector",
        "label",
        "started_at",
        "confirmed_at",
        "late",
        "provenance",
    }
    assert all(promised <= event.keys() for event in events)
    assert events[0]["provenance"]["ensemble"] == "e" * 64


def test_events_are_filtered_by_camera_kind_and_time(eventful: FlaskClient) -> None:
    assert set(kinds(eventful.get("/v1/events?kind=presence_ended"))) == {"presence_ended"}
    cameras = {event["camera"] for event in eventful.get("/v1/events?camera=door").get_json()["events"]}
    assert cameras == {"door"}
    assert kinds(eventful.get("/v1/events?until=2027-01-15T07:59:00Z")) == []
    assert kinds(eventful.get("/v1/events?since=2027-01-15T09:00:00%2B01:00")) == []
    assert kinds(eventful.get("/v1/events?site=other")) == []


def test_going_on_with_next_gives_every_event_once(eventful: FlaskClient) -> None:
    everything = [event["id"] for event in eventful.get("/v1/events").get_json()["events"]]
    assert len(everything) > 2
    seen: list[str] = []
    after = 0
    for _ in range(len(everything) + 1):
        page = eventful.get(f"/v1/events?limit=1&after={after}").get_json()
        seen += [event["id"] for event in page["events"]]
        after = page["next"]
    assert seen == everything
    assert eventful.get(f"/v1/events?after={after}").get_json() == {"events": [], "next": after}


def test_whoever_asks_about_one_camera_goes_on_behind_what_was_said_of_others(eventful: FlaskClient) -> None:
    newest = eventful.get("/v1/events").get_json()["next"]
    assert [eventful.get(f"/v1/events?camera={name}").get_json()["next"] for name in ("gate", "door", "shed")] == [
        newest
    ] * 3
    assert eventful.get(f"/v1/events?camera=shed&limit=1&after={newest}").get_json()["next"] == newest


def test_a_cursor_ahead_of_the_log_is_refused(eventful: FlaskClient) -> None:
    newest = eventful.get("/v1/events").get_json()["next"]
    assert eventful.get(f"/v1/events?after={newest}").status_code == 200
    answer = eventful.get(f"/v1/events?after={newest + 1}")
    assert (answer.status_code, answer.content_type) == (409, "application/problem+json")
    assert f"the log ends at {newest}" in answer.get_json()["detail"]


def test_the_next_page_is_linked_while_there_is_one(eventful: FlaskClient) -> None:
    first = eventful.get("/v1/events?limit=1&camera=gate")
    link = first.headers["Link"]
    assert link.endswith('>; rel="next"')
    assert "camera=gate" in link
    assert "Link" not in eventful.get("/v1/events").headers
    following = eventful.get(link[1:].partition(">")[0]).get_json()["events"]
    assert following[0]["id"] != first.get_json()["events"][0]["id"]


def test_events_come_one_per_line_where_that_is_asked_for(eventful: FlaskClient) -> None:
    lines = eventful.get("/v1/events", headers={"Accept": "application/x-ndjson"})
    assert lines.content_type == "application/x-ndjson"
    events = [json.loads(line) for line in lines.text.splitlines()]
    assert events == eventful.get("/v1/events").get_json()["events"]
    assert lines.headers["X-Next"] == str(eventful.get("/v1/events").get_json()["next"])


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("sicne=2027-01-15T07:59:00Z", "did you mean `since`"),
        ("since=yesterday", "since"),
        ("since=2027-01-15T07:59:00", "since"),
        ("since=2027", "since"),
        ("until=1795330800", "until"),
        ("after=1e3", "after"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("kind=arrived", "presence_started"),
        ("after=-1", "after"),
        ("site=a&site=b", "2 times"),
    ],
)
def test_a_question_that_cannot_be_meant_is_refused(client: FlaskClient, query: str, complaint: str) -> None:
    answer = client.get(f"/v1/events?{query}")
    assert (answer.status_code, answer.content_type) == (400, "application/problem+json")
    assert complaint in answer.get_json()["detail"]


def test_a_reader_of_one_site_sees_no_other(app: Flask, eventful: FlaskClient) -> None:
    assert kinds(eventful.get("/v1/events", headers=token(app, "north-yard")))
    assert kinds(eventful.get("/v1/events", headers=token(app, "other"))) == []
    assert kinds(eventful.get("/v1/events", headers=token(app, ANY_SITE)))
    assert eventful.get("/v1/events?site=north-yard", headers=token(app, "other")).status_code == 403
    assert eventful.get("/v1/events", headers=token(app, "north-yard", "gate")).status_code == 403
    assert eventful.get("/v1/events").status_code == 401


def test_probes_need_no_token(app: Flask, client: FlaskClient) -> None:
    token(app, ANY_SITE)
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").get_json() == {"status": "ready", "ensemble": "e" * 64}


def test_a_server_whose_ensemble_is_loading_lives_but_is_not_ready(tmp_path: Path) -> None:
    client = make_app(tmp_path).test_client()
    assert client.get("/livez").status_code == 200
    answer = client.get("/readyz")
    assert (answer.status_code, answer.content_type) == (503, "application/problem+json")


def test_a_server_whose_database_is_gone_is_not_ready(tmp_path: Path) -> None:
    app = make_app(tmp_path, BrightnessEnsemble())
    store = runtime_of(app).store
    store.close()
    for path in tmp_path.glob("sectorwatch.sqlite*"):
        path.unlink()
    (tmp_path / "sectorwatch.sqlite").mkdir()
    assert app.test_client().get("/readyz").status_code == 503


def test_an_address_that_is_not_there_is_a_problem_too(client: FlaskClient) -> None:
    answer = client.get("/v9/events")
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")
    answer = client.get("/batch")
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}


def test_frames_are_identified_by_the_bytes_that_came(eventful: FlaskClient) -> None:
    provenance = eventful.get("/v1/events?camera=gate").get_json()["events"][0]["provenance"]
    sent = {hashlib.sha256(jpeg(grey)).hexdigest() for grey in range(200, 212)}
    assert sent.issuperset(provenance["frame_sha256"])


def test_what_is_no_longer_kept_is_named_in_the_words_of_the_command_and_only_where_it_is_asked_for(
    app: Flask, eventful: FlaskClient
) -> None:
    store = runtime_of(app).store
    events = eventful.get("/v1/events?camera=gate").get_json()["events"]
    kinds_of_all = [event["kind"] for event in events]
    last_at = datetime.fromisoformat(events[-1]["confirmed_at"])
    [gate] = [each for each in eventful.get("/v1/cameras").get_json()["cameras"] if each["camera"] == "gate"]
    kept = datetime.fromisoformat(gate["last_burst"]["last_at"]) - last_at
    store.retention.sweep(lambda _site: Keep(events_days=kept / timedelta(days=1)))
    page = eventful.get("/v1/events?camera=gate")
    border = page.get_json()["kept_since"]
    line = f"north-yard/gate, events before {border}: no longer kept (keep_events_days, max_bytes)"
    assert page.get_json()["not_kept"] == [line]
    assert page.headers["X-Kept-Since"] == border
    assert datetime.fromisoformat(border) == last_at
    kept_kinds = [event["kind"] for event in events if event["confirmed_at"] == events[-1]["confirmed_at"]]
    assert kinds(page) == kept_kinds != kinds_of_all
    lines = eventful.get("/v1/events", headers={"Accept": "application/x-ndjson"})
    assert lines.headers["X-Kept-Since"] >= border
    later = eventful.get(f"/v1/events?camera=gate&since={quote(border)}")
    assert (set(later.get_json()), "X-Kept-Since" in later.headers) == ({"events", "next"}, False)


def test_a_poll_takes_as_many_queries_with_many_cameras_as_with_few(app: Flask, eventful: FlaskClient) -> None:
    counts: list[int] = []
    for cameras in ((), ("shed", "roof", "well")):
        for camera in cameras:
            frames = [jpeg(0)]
            burst = envelope(frames, burst_id=f"0197-burst-{camera}", camera=camera)
            assert eventful.post("/v1/bursts", data=body(burst, frames)).status_code == 201
        runtime_of(app).store.retention.sweep(lambda _site: Keep())
        counts.append(0)

        def count(*_statement: object) -> None:
            counts[-1] += 1

        engine = runtime_of(app).store._engine
        event.listen(engine, "before_cursor_execute", count)
        assert eventful.get("/v1/events").status_code == 200
        event.remove(engine, "before_cursor_execute", count)
    assert counts[0] == counts[1]


def test_an_erasure_is_named_where_the_stretch_that_is_asked_for_meets_it(app: Flask, eventful: FlaskClient) -> None:
    runtime_of(app).store.retention.erase("north-yard", "gate", NOW_US - 1_000_000, NOW_US, author="me")
    page = eventful.get("/v1/events").get_json()
    assert [line.partition(",")[0] for line in page["not_kept"]] == ["north-yard/gate"]
    assert "erased on request (erasure 1)" in page["not_kept"][0]
    assert microseconds(datetime.fromisoformat(page["kept_since"])) == NOW_US
    assert "not_kept" not in eventful.get("/v1/events?until=2027-01-01T00:00:00Z").get_json()
    assert "not_kept" not in eventful.get("/v1/events?camera=door").get_json()
