"""Heartbeats come in, and the list of cameras tells who is watching."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from policies.events import instant
from server.app import create_app, runtime_of
from server.domain.records import StoredHeartbeat
from server.settings import ServerSettings
from server.store import Store
from server.web.auth import new_token
from tests.server import new_sqlite
from tests.server.scenes import Yard
from tests.server.web_client import NOW_US, SITE, BrightnessEnsemble, body, envelope, jpeg
from tests.stand_ins import ManualClock

NOW = instant(NOW_US)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW_US)


@pytest.fixture
def app(tmp_path: Path, clock: ManualClock) -> Iterator[Flask]:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "north-yard.toml").write_text(SITE, encoding="utf-8")
    new_sqlite.provide(tmp_path / "sectorwatch.sqlite")
    app = create_app(ServerSettings(data_dir=tmp_path), ensemble=BrightnessEnsemble(), channels=[], clock=clock)
    yield app
    runtime_of(app).store.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def iso(seconds: float) -> str:
    """So many seconds after the beginning of the test."""
    return (NOW + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def heartbeat(**changes: Any) -> dict[str, Any]:
    """A heartbeat as the agent sends it."""
    agent = {"version": "0.1.0", "sent_at": iso(0), "started_at": iso(-3600), "boot_id": "b", "every_s": 60.0}
    return {
        "site": "north-yard",
        "camera": "gate",
        "agent": agent | changes.pop("agent", {}),
        "clock": {"synced": True, "uncertainty_s": 0.012},
        "state": "watching",
        "cause": None,
        "detail": None,
        "since": iso(-1800),
        "last_frame_at": iso(-1),
        "next_burst_by": iso(15),
        "waiting": {"bursts": 0, "bytes": 0, "oldest_at": None},
        "counts": {"bursts": 360, "dropped": 0, "refused": 0, "uploaded_bytes": 41234567, "camera_bytes": 41234567},
    } | changes


def post(client: FlaskClient, content: Any, **more: Any) -> TestResponse:
    return client.post("/v1/heartbeats", json=content, **more)


def cameras(client: FlaskClient, **query: str) -> list[dict[str, Any]]:
    answer = client.get("/v1/cameras", query_string=query)
    assert answer.status_code == 200, answer.text
    listed: list[dict[str, Any]] = answer.get_json()["cameras"]
    return listed


def send(client: FlaskClient, ago_s: float, greys: list[int], **changes: Any) -> None:
    """A burst of one frame a second whose last frame is so long ago."""
    frames = [jpeg(grey) for grey in greys]
    burst = envelope(
        frames,
        captured_at=iso(-ago_s - len(greys) + 1),
        offsets_ms=[1000 * index for index in range(len(greys))],
        **changes,
    )
    assert client.post("/v1/bursts", data=body(burst, frames)).status_code == 201


def test_a_heartbeat_is_taken_and_the_camera_is_listed_with_it(client: FlaskClient):
    answer = post(client, heartbeat())
    assert (answer.status_code, answer.data) == (204, b"")
    [listed] = cameras(client)
    assert (listed["site"], listed["camera"], listed["last_burst"], listed["sectors"]) == (
        "north-yard",
        "gate",
        None,
        [],
    )
    assert listed["last_heartbeat"]["received_at"] == iso(0)
    assert listed["last_heartbeat"]["beat"]["counts"]["bursts"] == 360


def test_a_camera_that_sends_bursts_in_time_tells_how_its_sectors_stand(client: FlaskClient):
    send(client, 5, [1, 2, 3, *range(200, 212)])
    post(client, heartbeat())
    [listed] = cameras(client)
    assert listed["condition"] == {"state": "ok", "cause": None, "since": None, "next_burst_by": iso(55)}
    assert listed["last_burst"] == {
        "burst_id": "0197-burst-0001",
        "first_at": iso(-19),
        "last_at": iso(-5),
        "received_at": iso(0),
    }
    [view] = listed["sectors"]
    assert (view["sector"], view["target"], view["state"], view["cause"]) == ("view", "person", "occupied", None)


def test_two_agents_under_one_cameras_name_are_told_once_in_the_log_and_in_the_list(
    client: FlaskClient, clock: ManualClock, caplog: pytest.LogCaptureFixture
):
    def causes(*boots: str) -> list[str | None]:
        causes_seen = []
        for boot in boots:
            clock.advance(30)
            later = (clock() - NOW_US) / 1e6
            agent = {"boot_id": boot, "sent_at": iso(later)}
            post(client, heartbeat(agent=agent, next_burst_by=iso(later + 15)))
            causes_seen.append(cameras(client)[0]["condition"]["cause"])
        return causes_seen

    assert causes("a", "b", "b", "b") == [None] * 4, "it was started anew"
    assert causes("c", "b", "c", "b") == [None, "two_agents", "two_agents", "two_agents"]
    assert cameras(client)[0]["condition"]["since"] == iso(180)
    assert causes(*"bbbbbbb") == ["two_agents"] * 5 + [None] * 2, "one of them is switched off"
    assert caplog.text.count("two agents send as one camera") == 1


def test_an_agent_that_said_that_it_stopped_may_be_started_again_elsewhere_and_here(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
):
    for boot, state in (("a", "watching"), ("a", "stopped"), ("b", "watching"), ("b", "stopped"), ("a", "watching")):
        post(client, heartbeat(agent={"boot_id": boot}, state=state))
    assert "two agents" not in caplog.text


def test_when_the_plug_is_pulled_a_camera_is_late_and_then_silent_and_its_sectors_are_unobserved(
    client: FlaskClient, clock: ManualClock
):
    send(client, 15, [1, 2, 3, 4], burst_id="0197-burst-0001")
    send(client, 5, [1, 2, 3, 4], burst_id="0197-burst-0002")
    post(client, heartbeat())
    states = []
    for seconds in (0, 60, 60, 60):
        clock.advance(seconds)
        [listed] = cameras(client)
        [view] = listed["sectors"]
        states.append((listed["condition"]["state"], listed["condition"]["cause"], view["state"], view["cause"]))
    assert states == [
        ("ok", None, "clear", None),
        ("late", "no_bursts", "unobserved", "no_bursts"),
        ("late", "no_bursts", "unobserved", "no_bursts"),
        ("silent", "agent_silent", "unobserved", "agent_silent"),
    ]


def test_a_blind_camera_is_unobserved_at_once_with_the_agents_own_cause(client: FlaskClient):
    send(client, 5, [1, 2, 3, 4])
    post(
        client,
        heartbeat(state="blind", cause="camera_covered", detail="one even tone", since=iso(-2), next_burst_by=None),
    )
    [listed] = cameras(client)
    assert (listed["condition"]["state"], listed["condition"]["cause"]) == ("silent", "camera_covered")
    assert listed["condition"]["since"] == iso(-2)
    assert {(s["state"], s["cause"], s["since"]) for s in listed["sectors"]} == {
        ("unobserved", "camera_covered", iso(-5))
    }


def test_only_the_newest_heartbeat_of_a_run_counts_and_a_new_run_always_does(client: FlaskClient):
    post(client, heartbeat(agent={"sent_at": iso(10), "version": "second"}))
    assert post(client, heartbeat(agent={"sent_at": iso(5), "version": "first"})).status_code == 204
    assert cameras(client)[0]["last_heartbeat"]["beat"]["agent"]["version"] == "second"
    post(client, heartbeat(agent={"sent_at": iso(1), "started_at": iso(0), "version": "anew"}))
    assert cameras(client)[0]["last_heartbeat"]["beat"]["agent"]["version"] == "anew"


def test_a_newer_agent_may_say_more_and_use_words_we_do_not_know(client: FlaskClient):
    content = heartbeat(state="dreaming", cause="of_electric_sheep", colour="red", agent={"mood": "good"})
    assert post(client, content).status_code == 204
    assert cameras(client)[0]["last_heartbeat"]["beat"]["state"] == "dreaming"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"site": "North Yard"}, 400),
        ({"camera": "gate\n"}, 400),
        ({"state": "WATCHING"}, 400),
        ({"since": "2026-11-22T07:00:00"}, 400),
        ({"agent": {"every_s": -1}}, 400),
        ({"next_burst_by": "9999-12-31T23:59:59Z"}, 400),
        ({"waiting": {"bursts": -1}}, 400),
        ({"counts": {"camera_bytes": 10**400}}, 400),
        ({"detail": "x" * 301}, 400),
        ({"detail": "x" * 70_000}, 413),
        ({"site": "elsewhere"}, 503),
    ],
)
def test_a_heartbeat_that_cannot_be_is_refused(client: FlaskClient, changes: dict[str, Any], status: int):
    answer = post(client, heartbeat(**changes))
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json"), answer.text
    assert cameras(client) == []


def test_a_heartbeat_of_undeclared_length_is_refused_above_the_bound(client: FlaskClient):
    def chunked(size: int) -> int:
        return client.post(
            "/v1/heartbeats",
            input_stream=io.BytesIO(b" " * size + msgspec.json.encode(heartbeat())),
            content_type="application/json",
            headers={"Transfer-Encoding": "chunked"},
            environ_overrides={"wsgi.input_terminated": True},
        ).status_code

    assert chunked(0) == 204
    assert chunked(5_000_000) == 413


def test_the_agents_doctor_hears_that_a_site_has_no_policy(client: FlaskClient):
    answer = post(client, {"site": "elsewhere", "camera": "gate"})
    assert (answer.status_code, answer.get_json()["detail"][:24]) == (503, "unknown site `elsewhere`")
    assert post(client, {"site": "north-yard", "camera": "gate"}).status_code == 400


@pytest.mark.parametrize("data", [b"", b"[]", b'{"x": ' + b"[" * 60_000, b"\xff", b'{"site": "\xff"}'])
def test_what_is_not_a_heartbeat_is_refused(client: FlaskClient, data: bytes):
    assert client.post("/v1/heartbeats", data=data, content_type="application/json").status_code == 400
    assert client.post("/v1/heartbeats", data=data, content_type="text/plain").status_code == 415


def test_only_the_cameras_own_token_may_send_and_only_a_reader_may_look(app: Flask, client: FlaskClient):
    def token(site: str, camera: str | None) -> dict[str, str]:
        made = new_token()
        runtime_of(app).store.add_token(made.id, "test", site, camera, made.hash)
        return {"Authorization": f"Bearer {made.token}"}

    gate, door, reader = token("north-yard", "gate"), token("north-yard", "door"), token("north-yard", None)
    assert post(client, heartbeat()).status_code == 401
    assert post(client, heartbeat(), headers=door).status_code == 403
    assert post(client, heartbeat(), headers=reader).status_code == 403
    whose = {"site": "north-yard", "camera": "gate"}  # what the agent's doctor asks
    assert [post(client, whose, headers=sender).status_code for sender in (door, gate)] == [403, 400]
    assert post(client, heartbeat(), headers=gate).status_code == 204
    assert client.get("/v1/cameras", headers=gate).status_code == 403
    assert len(client.get("/v1/cameras", headers=reader).get_json()["cameras"]) == 1
    elsewhere = token("south-yard", None)
    assert client.get("/v1/cameras", headers=elsewhere).get_json()["cameras"] == []
    assert client.get("/v1/cameras?site=north-yard", headers=elsewhere).status_code == 403


def test_cameras_are_listed_by_site_and_an_unknown_filter_is_refused(client: FlaskClient):
    post(client, heartbeat())
    assert len(cameras(client, site="north-yard")) == 1
    assert cameras(client, site="south-yard") == []
    assert client.get("/v1/cameras?camera=gate").status_code == 400


def test_a_camera_without_heartbeats_is_listed_by_its_bursts(client: FlaskClient):
    send(client, 5, [1, 2, 3, 4])
    [listed] = cameras(client)
    assert (listed["last_heartbeat"], listed["condition"]["state"]) == (None, "ok")


def test_a_heartbeat_is_in_the_metrics(client: FlaskClient):
    post(client, heartbeat(waiting={"bursts": 3, "bytes": 4096, "oldest_at": iso(-60)}))
    text = client.get("/metrics").text
    assert 'sectorwatch_agent_spool_bursts{camera="gate",site="north-yard"} 3.0' in text
    assert 'sectorwatch_agent_uploaded_bytes{camera="gate",site="north-yard"} 4.1234567e+07' in text


def test_the_store_knows_a_cameras_newest_bursts_and_which_are_held(tmp_path: Path, store: Store):
    clock = ManualClock(NOW_US)
    yard = Yard(tmp_path / "sites", store, clock)
    assert store.heartbeats.activities() == []
    assert store.heartbeats.keep(StoredHeartbeat("yard", "gate", 1, 2, 0, "{}"))
    assert not store.heartbeats.keep(StoredHeartbeat("yard", "gate", 1, 1, 0, "{}"))
    for n in range(10):
        yard.pipeline.process(yard.walk(n, lambda _: 0.25, n * 2.0))
    [activity] = store.heartbeats.activities("yard")
    assert store.heartbeats.activities("other") == []
    ends = [span.last_at_us for span in activity.recent]
    assert len(ends) == 8
    assert ends == sorted(ends, reverse=True)
    assert activity.seen is not None
    assert activity.seen.last_at_us == ends[0]
    assert activity.heartbeat is not None
    assert not activity.is_ahead
