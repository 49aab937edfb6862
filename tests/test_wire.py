"""The agent's own bytes, read by the server: neither imports the other, so this is where they meet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from camera_agent.uplink.heartbeat import AgentInfo, Backlog, ClockInfo, Counts, Heartbeat
from server.app import runtime_of
from tests.server.web_client import BrightnessEnsemble, make_app

BEAT = Heartbeat(
    site="north-yard",
    camera="gate",
    agent=AgentInfo("0.1.0", "2027-01-15T07:59:59.500Z", "2027-01-15T06:00:00.000Z", "a-boot", 60.0),
    clock=ClockInfo(synced=True, uncertainty_s=0.012),
    state="blind",
    cause="camera_stuck",
    detail="the same frame 12 times",
    since="2027-01-15T07:58:00.000Z",
    last_frame_at="2027-01-15T07:57:59.000Z",
    next_burst_by=None,
    waiting=Backlog(bursts=2, bytes=81234, oldest_at="2027-01-15T07:57:00.000Z"),
    counts=Counts(bursts=360, dropped=0, refused=0, uploaded_bytes=41234567, camera_bytes=31234567),
)


def keys(value: Any) -> Any:
    return {key: keys(inner) for key, inner in value.items()} if isinstance(value, dict) else None


def test_the_server_reads_an_agents_heartbeat_to_the_last_field(tmp_path: Path):
    app = make_app(tmp_path, BrightnessEnsemble())
    client = app.test_client()
    sent = msgspec.json.encode(BEAT)
    assert client.post("/v1/heartbeats", data=sent, content_type="application/json").status_code == 204
    [listed] = client.get("/v1/cameras").get_json()["cameras"]
    assert (listed["condition"]["state"], listed["condition"]["cause"]) == ("silent", "camera_stuck")
    assert keys(listed["last_heartbeat"]["beat"]) == keys(msgspec.json.decode(sent))
    runtime_of(app).store.close()
