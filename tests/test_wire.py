"""The agent's own bytes, read by the server: neither imports the other, so this is where they meet."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import msgspec

from camera_agent.cameras.health import Condition
from camera_agent.config.settings import ServerSettings
from camera_agent.status import Status, StatusCounters
from camera_agent.uplink.byte_budget import ByteBudget
from camera_agent.uplink.heartbeat import Heartbeats, HeartbeatSource
from camera_agent.uplink.http_client import HttpClient
from camera_agent.wall_clock import WallClock
from server.app import runtime_of
from tests.camera_agent.conftest import HandClock
from tests.camera_agent.spool.test_spool import burst, spool_in
from tests.server.web_client import BrightnessEnsemble, make_app


def heartbeat(folder: Path) -> dict[str, Any]:
    """The document of a camera that is stuck while a burst waits."""
    clock = HandClock()
    wall_clock = WallClock(clock, lambda: 0.012)
    now_s = clock.monotonic_s()
    condition = Condition("blind", "camera_stuck", "the same frame 12 times", now_s - 60.0, now_s - 61.0, now_s + 5.0)
    source = HeartbeatSource(lambda: condition, lambda: None, ByteBudget(None, clock.monotonic_s), 60.0)
    spool = spool_in(folder)
    spool.put(burst(1))
    client = HttpClient(ServerSettings(url="http://127.0.0.1:9"), wall_clock)
    counters = StatusCounters(Status(bursts=360))
    heartbeats = Heartbeats(
        "north-yard", {"gate": source}, spool, client, counters, wall_clock, clock, threading.Event()
    )
    return heartbeats.document("gate")


def keys(value: Any) -> Any:
    return {key: keys(inner) for key, inner in value.items()} if isinstance(value, dict) else None


def test_the_server_reads_an_agents_heartbeat_to_the_last_field(tmp_path: Path):
    app = make_app(tmp_path, BrightnessEnsemble())
    client = app.test_client()
    sent = msgspec.json.encode(heartbeat(tmp_path / "agent"))
    assert client.post("/v1/heartbeats", data=sent, content_type="application/json").status_code == 204
    [listed] = client.get("/v1/cameras").get_json()["cameras"]
    assert (listed["condition"]["state"], listed["condition"]["cause"]) == ("silent", "camera_stuck")
    assert keys(listed["last_heartbeat"]["beat"]) == keys(msgspec.json.decode(sent))
    runtime_of(app).store.close()
