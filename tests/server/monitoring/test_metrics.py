"""What the server counts, and how Prometheus gets it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client import Histogram
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from policies.events import instant, microseconds
from policies.observation import ModelInfo, Prediction
from server.app import runtime_of
from server.camera_status.heartbeat import Heartbeat, decode_heartbeat
from server.domain.announcements import Announcement, ChannelState, NoticeGiven
from server.domain.errors import Unprocessable
from server.monitoring.metrics import MAX_CAMERAS, Metrics
from server.web.auth import ANY_SITE, new_token
from tests.server.scenes import EYE, NAMER
from tests.server.web.test_cameras import heartbeat
from tests.server.web_client import NOW_US, BrightnessEnsemble, body, envelope, files, jpeg, make_app
from tests.stand_ins import ScriptedEnsemble

CHANNEL_METRICS = (
    "channel_backlog",
    "channel_oldest_undelivered_seconds",
    "channel_paused",
    "channel_failures_total",
    "dead_letters",
    "capture_to_publish_seconds_count",
)
OTHER_EYE = ModelInfo("other", EYE.classes, boxes=True)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    app = make_app(tmp_path, BrightnessEnsemble())
    yield app
    runtime_of(app).store.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def numbers(text: str) -> dict[str, float]:
    """`name{label=value,...}` -> value, labels sorted."""
    return {
        sample.name
        + "{"
        + ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
        + "}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read(client: FlaskClient) -> dict[str, float]:
    return numbers(client.get("/metrics").text)


def metrics() -> Metrics:
    return Metrics(lambda: NOW_US, "1.2.3")


def send(client: FlaskClient, frames: list[bytes], **changes: object) -> None:
    assert client.post("/v1/bursts", data=body(envelope(frames, **changes), frames)).status_code in {200, 201}


def test_bursts_and_frames_are_counted_by_camera_and_a_known_burst_is_counted_as_known_only(client: FlaskClient):
    frames = [jpeg(0), jpeg(0), jpeg(200)]
    send(client, frames)
    send(client, frames)
    samples = read(client)
    gate = "{camera=gate,site=north-yard}"
    assert samples[f"sectorwatch_bursts_received_total{gate}"] == 2
    assert samples[f"sectorwatch_bursts_known_total{gate}"] == 1
    assert samples[f"sectorwatch_frames_total{gate}"] == 3
    assert samples[f"sectorwatch_burst_frames_duplicate_total{gate}"] == 1
    assert samples[f"sectorwatch_bursts_late_total{gate}"] == 0
    assert samples[f"sectorwatch_bursts_held_total{gate}"] == 0
    assert samples[f"sectorwatch_agent_last_burst_timestamp_seconds{gate}"] == NOW_US / 1e6 - 59


def test_late_and_held_bursts_are_counted(client: FlaskClient):
    send(client, [jpeg(0)])
    send(client, [jpeg(1)], burst_id="0197-burst-late", captured_at="2027-01-15T07:00:00.000Z")
    send(client, [jpeg(2)], burst_id="0197-burst-held", captured_at="2027-01-15T09:00:00.000Z")
    samples = read(client)
    assert samples["sectorwatch_bursts_late_total{camera=gate,site=north-yard}"] == 1
    assert samples["sectorwatch_bursts_held_total{camera=gate,site=north-yard}"] == 1


def test_events_and_votes_are_counted_and_an_event_tells_its_latency(client: FlaskClient):
    send(client, [jpeg(grey) for grey in (1, 2, *range(200, 212))])
    samples = read(client)
    started = "{camera=gate,kind=presence_started,label=person,sector=view,site=north-yard}"
    assert samples[f"sectorwatch_events_total{started}"] == 1
    assert samples["sectorwatch_model_votes_total{model=people,vote=for}"] == 12
    assert samples["sectorwatch_capture_to_event_seconds_count{}"] >= 1
    assert (
        50
        < samples["sectorwatch_capture_to_event_seconds_sum{}"]
        / samples["sectorwatch_capture_to_event_seconds_count{}"]
        < 60
    )


def test_inference_is_timed_and_its_images_counted_for_every_endpoint(client: FlaskClient):
    send(client, [jpeg(0), jpeg(1)])
    client.post("/batch", data={"file": files([jpeg(2), jpeg(3), jpeg(4)])})
    samples = read(client)
    assert samples["sectorwatch_answer_seconds_count{}"] == 2
    assert samples["sectorwatch_images_total{}"] == 5


def test_a_model_that_does_not_answer_is_counted_and_a_refused_image_is_nobodys_fault():
    counted = metrics()
    ensemble = ScriptedEnsemble([EYE, NAMER])
    timed = counted.timed(ensemble)
    assert timed.ensemble_info is ensemble.ensemble_info
    timed.answer([ensemble.teach(b"picture", {"eye": None, "namer": ()})])
    with pytest.raises(Unprocessable):
        timed.answer([ensemble.break_(b"broken")])
    samples = numbers(counted.text()[0].decode())
    assert samples["sectorwatch_model_answers_missing_total{model=eye}"] == 1
    assert samples["sectorwatch_model_answers_missing_total{model=namer}"] == 0
    assert samples["sectorwatch_images_total{}"] == 1


def test_the_build_the_ensemble_and_its_models_are_named(client: FlaskClient):
    samples = read(client)
    assert any(name.startswith("sectorwatch_build_info{version=") for name in samples)
    assert samples["sectorwatch_ensemble_info{ensemble=" + "e" * 64 + "}"] == 1
    assert samples["sectorwatch_model_info{model=people,sha256=}"] == 1


def test_another_ensemble_takes_the_place_of_the_first():
    counted = metrics()
    counted.serves(ScriptedEnsemble([EYE], "one").ensemble_info, {"eye": "f" * 64}.get)
    counted.serves(ScriptedEnsemble([NAMER], "two").ensemble_info, {}.get)
    samples = {name for name in numbers(counted.text()[0].decode()) if "_info" in name and "python" not in name}
    assert samples == {
        "sectorwatch_build_info{version=1.2.3}",
        "sectorwatch_ensemble_info{ensemble=two}",
        "sectorwatch_model_info{model=namer,sha256=}",
    }


def test_requests_are_counted_by_the_pattern_of_their_route(client: FlaskClient):
    client.get("/v1/events?site=north-yard")
    client.get("/v1/events?limit=0")
    client.get("/no/such/page")
    client.open("/livez", method="BREW")
    samples = read(client)
    assert samples["sectorwatch_http_requests_total{method=GET,route=/v1/events,status=200}"] == 1
    assert samples["sectorwatch_http_requests_total{method=GET,route=/v1/events,status=400}"] == 1
    assert samples["sectorwatch_http_requests_total{method=GET,route=other,status=404}"] == 1
    assert samples["sectorwatch_http_requests_total{method=other,route=other,status=405}"] == 1


def test_cameras_beyond_the_bound_are_counted_together():
    counted = metrics()
    for number in range(MAX_CAMERAS + 5):
        counted.camera_seen("yard", f"camera-{number}", NOW_US + number)
    counted.camera_seen("yard", "camera-0", NOW_US - 1)
    samples = numbers(counted.text()[0].decode())
    newest = {name: value for name, value in samples.items() if "last_burst" in name}
    assert len(newest) == MAX_CAMERAS + 1
    assert newest["sectorwatch_agent_last_burst_timestamp_seconds{camera=other,site=other}"] == pytest.approx(
        NOW_US / 1e6
    )
    assert newest["sectorwatch_agent_last_burst_timestamp_seconds{camera=camera-0,site=yard}"] == NOW_US / 1e6


def beaten(**counts: int) -> Heartbeat:
    content = heartbeat(waiting={"bursts": 3, "bytes": 4096}, counts=counts)
    return decode_heartbeat(json.dumps(content))


def test_a_heartbeat_tells_what_waits_at_the_agent():
    counted = metrics()
    counted.heartbeat_received(beaten())
    samples = numbers(counted.text()[0].decode())
    assert samples["sectorwatch_agent_spool_bursts{camera=gate,site=north-yard}"] == 3
    assert samples["sectorwatch_agent_spool_bytes{camera=gate,site=north-yard}"] == 4096
    assert samples["sectorwatch_agent_last_heartbeat_timestamp_seconds{camera=gate,site=north-yard}"] == NOW_US / 1e6
    assert not any("uploaded" in name for name in samples)


def test_bursts_that_will_never_come_are_counted_as_the_agent_tells_and_over_its_restarts():
    counted = metrics()

    def missed() -> float:
        return numbers(counted.text()[0].decode())["sectorwatch_bursts_missed_total{camera=gate,site=north-yard}"]

    counted.heartbeat_received(beaten(dropped=10))
    assert missed() == 0  # before this process began: the one before has counted them
    counted.heartbeat_received(beaten(dropped=12, refused=1))
    assert missed() == 3
    counted.heartbeat_received(beaten(dropped=12, refused=1))
    assert missed() == 3
    again = beaten(dropped=2)
    counted.heartbeat_received(
        msgspec.structs.replace(again, agent=msgspec.structs.replace(again.agent, started_at=instant(NOW_US)))
    )
    assert missed() == 5


def test_bursts_missed_by_cameras_that_are_counted_together_are_counted_once():
    counted = metrics()
    for number in range(MAX_CAMERAS):
        counted.camera_seen("yard", f"camera-{number}", NOW_US)
    gate = beaten(dropped=10)
    twin = msgspec.structs.replace(
        gate, camera="door", agent=msgspec.structs.replace(gate.agent, started_at=instant(NOW_US))
    )
    for received in (gate, twin, gate, twin):
        counted.heartbeat_received(received)
    assert numbers(counted.text()[0].decode())["sectorwatch_bursts_missed_total{camera=other,site=other}"] == 0


def test_models_that_vote_against_each_other_show_and_how_far_the_rule_was_from_deciding_otherwise(tmp_path: Path):
    ensemble = ScriptedEnsemble([EYE, OTHER_EYE])
    app = make_app(tmp_path, ensemble)  # type: ignore[arg-type]
    box = (0.4, 0.4, 0.6, 0.8)
    seen = {"eye": (Prediction("person", 0.9, box),), "other": (Prediction("person", 0.9, box),)}
    frames = [jpeg(1), jpeg(2), jpeg(3), jpeg(4)]
    ensemble.teach(frames[0], seen)
    ensemble.teach(frames[1], seen | {"other": ()})
    for frame in frames[2:]:
        ensemble.teach(frame, {"eye": (), "other": ()})
    client = app.test_client()
    send(client, frames)
    samples = read(client)
    assert samples["sectorwatch_model_disagreement_ratio{camera=gate,site=north-yard}"] == 0.25
    margin = "sector=view,site=north-yard"
    assert samples[f"sectorwatch_policy_margin_count{{{margin}}}"] == 2
    up_to = {le: samples[f"sectorwatch_policy_margin_bucket{{le={le},{margin}}}"] for le in ("-0.25", "0.0", "1.0")}
    assert up_to == {"-0.25": 0, "0.0": 1, "1.0": 1}  # just enough; a second model that is sure counts two more
    runtime_of(app).store.close()


def test_each_model_s_calls_are_timed_by_its_name():
    counted = metrics()
    counted.model_called("eye", 0.02)
    counted.model_called("eye", 0.2)
    samples = numbers(counted.text()[0].decode())
    assert samples["sectorwatch_inference_seconds_count{model=eye}"] == 2
    assert samples["sectorwatch_inference_seconds_bucket{le=0.025,model=eye}"] == 1


def test_a_watched_number_is_read_when_somebody_looks():
    counted, line = metrics(), [1, 2]
    counted.watch("queued_images", "Images in the line.", lambda: len(line))
    line.append(3)
    assert numbers(counted.text()[0].decode())["sectorwatch_queued_images{}"] == 3


def test_uploads_in_work_are_watched(app: Flask, client: FlaskClient):
    with runtime_of(app).admission.admitted("me") as upload:
        assert read(client)["sectorwatch_uploads_received{}"] == 1
        upload.begin(1)
        assert read(client)["sectorwatch_uploads_in_work{}"] == 1
    assert read(client)["sectorwatch_uploads_in_work{}"] == 0


def test_a_channel_shows_what_waits_since_when_and_what_failed_also_before_anything_happened():
    metrics = Metrics(lambda: NOW_US, "1")
    state = ChannelState("phone", 3, NOW_US - 90_000_000, None, NOW_US, None, None, 0, 2, 0, None)
    quiet = ChannelState("hook", 0, None, None, None, None, None, 0, 0, 0, None)
    metrics.channels_counted([state, quiet], NOW_US)
    shown = numbers(metrics.text()[0].decode())
    assert {name: shown[f"sectorwatch_{name}{{channel=phone}}"] for name in CHANNEL_METRICS} == {
        "channel_backlog": 3.0,
        "channel_oldest_undelivered_seconds": 90.0,
        "channel_paused": 1.0,
        "channel_failures_total": 0.0,
        "dead_letters": 2.0,
        "capture_to_publish_seconds_count": 0.0,
    }
    assert all(shown[f"sectorwatch_{name}{{channel=hook}}"] == 0.0 for name in CHANNEL_METRICS)
    metrics.channel_failed("phone")
    assert numbers(metrics.text()[0].decode())["sectorwatch_channel_failures_total{channel=phone}"] == 1.0


def test_the_time_to_publish_is_that_of_new_events_that_came_in_time(app: Flask, client: FlaskClient):
    frames = [jpeg(grey) for grey in (1, 2, *range(200, 212))]
    assert client.post("/v1/bursts", data=body(envelope(frames), frames)).status_code == 201
    (logged, *_) = runtime_of(app).store.events()
    metrics = Metrics(lambda: microseconds(logged.event.confirmed_at) + 250_000, "1")
    notice = runtime_of(app).store.notices.add("refused", "e" * 64, ["a"], "differs")
    metrics.published("phone", Announcement(1, "event", logged))
    metrics.published("phone", Announcement(2, "withdrawn", logged))
    metrics.published("phone", Announcement(3, "event", replace(logged, late=True)))
    metrics.published("phone", NoticeGiven(4, notice))
    shown = numbers(metrics.text()[0].decode())
    assert shown["sectorwatch_capture_to_publish_seconds_count{channel=phone}"] == 1.0
    assert shown["sectorwatch_capture_to_publish_seconds_sum{channel=phone}"] == 0.25


def test_prometheus_gets_the_form_it_prefers(client: FlaskClient):
    plain = client.get("/metrics")
    assert plain.content_type.startswith("text/plain; version=")
    accept = {"Accept": "application/openmetrics-text; version=1.0.0,text/plain;q=0.5"}
    assert client.get("/metrics", headers=accept).content_type.startswith("application/openmetrics-text; version=1.0.0")


def test_openmetrics_of_every_metric_is_taken_by_the_official_parser():
    counted = metrics()
    families = [*counted._counters.values(), *counted._gauges.values(), *counted._histograms.values()]
    for family in families:
        for text in ('a"\\\n{} \u00e9', "b"):
            child = family.labels(*(text for _ in family._labelnames)) if family._labelnames else family
            (child.observe if isinstance(family, Histogram) else child.inc)(0.5)
    counted.watch("queued_images", "Images in the line.", lambda: 1)
    body, content_type = counted.text("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    parsed = {family.name: family for family in openmetrics.text_string_to_metric_families(body.decode())}
    assert parsed.keys() >= {family._name for family in families}
    margins = [sample for sample in parsed["sectorwatch_policy_margin"].samples if sample.labels.get("le") == "+Inf"]
    assert [sample.value for sample in margins] == [1.0, 1.0]


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=new", "text/plain; version=", ";;,=", "*/*"])
def test_whoever_asks_for_no_form_that_there_is_gets_the_plain_one(client: FlaskClient, accept: str):
    answer = client.get("/metrics", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=0.0.4")


def test_once_there_are_tokens_the_metrics_are_for_a_reader_of_all_sites(app: Flask, client: FlaskClient):
    def status(site: str, camera: str | None) -> int:
        made = new_token()
        runtime_of(app).store.add_token(made.id, "test", site, camera, made.hash)
        return client.get("/metrics", headers={"Authorization": f"Bearer {made.token}"}).status_code

    assert status(ANY_SITE, None) == 200
    assert client.get("/metrics").status_code == 401
    assert status("north-yard", None) == 403
    assert status("north-yard", "gate") == 403


def test_two_threads_may_count_at_once():
    counted = metrics()
    threads = [
        threading.Thread(target=lambda: [counted.request_answered("GET", "/x", 200) for _ in range(500)]) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    samples = numbers(counted.text()[0].decode())
    assert samples["sectorwatch_http_requests_total{method=GET,route=/x,status=200}"] == 1000
