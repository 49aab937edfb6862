"""Version 0.2.0 and this one work together: an old agent with this server, and this agent with an old server.

`tests/fixtures/make_0_2_0.py` recorded what the two of version 0.2.0 say to each other.
"""

from __future__ import annotations

import base64
import json
import lzma
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from camera_agent.__main__ import command as camera_agent
from camera_agent.config.settings import ServerSettings
from camera_agent.uplink.http_client import Accepted, HttpClient, Outcome, RetryLater, Unauthorised
from camera_agent.wall_clock import WallClock
from server.__main__ import command as sectorwatch
from server.app import runtime_of
from server.camera_status.agent_version import is_too_old
from server.domain.records import StoredHeartbeat
from server.store import open_store
from tests.camera_agent.conftest import HandClock
from tests.camera_agent.spool.test_spool import burst, spool_in
from tests.camera_agent.stand_in import Answer, StandIn
from tests.server.web_client import BrightnessEnsemble, make_app

RECORDED: dict[str, Any] = json.loads(
    lzma.decompress((Path(__file__).parents[1] / "fixtures" / "0_2_0" / "wire.json.xz").read_bytes())
)
DIGESTS = ("ensemble", "policy")
"""They name code and rules of a version, not the wire."""


# An agent of 0.2.0 with this server


def test_every_request_of_an_old_agent_gets_the_answer_that_its_own_server_gave_and_perhaps_more(
    tmp_path: Path,
) -> None:
    app = make_app(tmp_path, BrightnessEnsemble())
    client = app.test_client()
    paths = set()
    for exchange in RECORDED["exchanges"]:
        asked, told = exchange["asked"], exchange["answered"]
        headers = {name: value for name, value in asked["headers"].items() if name != "Authorization"}
        body = base64.b64decode(asked["body"])
        answer = client.open(asked["path"], method=asked["method"], headers=headers, data=body)
        assert answer.status_code == told["status"], answer.get_data(as_text=True)
        if asked["path"] == "/v1/bursts":
            was, now = json.loads(told["body"]), answer.get_json()
            assert {key: now[key] for key in was if key not in DIGESTS} == {
                key: value for key, value in was.items() if key not in DIGESTS
            }
        paths.add((asked["path"], told["status"]))
    assert paths == {("/v1/bursts", 201), ("/v1/bursts", 200), ("/v1/heartbeats", 204), ("/v1/heartbeats", 400)}
    [listed] = client.get("/v1/cameras").get_json()["cameras"]
    assert listed["last_heartbeat"]["beat"]["agent"]["version"] == "0.2.0"
    runtime_of(app).store.close()


# This agent with a server of 0.2.0


def told(name: str) -> Answer:
    answer = RECORDED["answers"][name]
    return Answer(answer["status"], answer["body"].encode(), answer["headers"])


def sent(folder: Path, server: StandIn, clock: HandClock, answer: Answer) -> Outcome:
    spool = spool_in(folder)
    spool.put(burst(1))
    waiting = spool.next()
    assert waiting is not None
    server.always = answer
    client = HttpClient(ServerSettings(url=server.url), WallClock(clock))
    try:
        return client.send_burst(waiting, "sw_1_2")
    finally:
        client.close()


@pytest.mark.parametrize("status", [201, 200])
def test_an_old_server_s_receipt_is_read(status: int, tmp_path: Path, server: StandIn, clock: HandClock) -> None:
    answers = [e["answered"] for e in RECORDED["exchanges"] if e["asked"]["path"] == "/v1/bursts"]
    receipt = json.loads(next(answer["body"] for answer in answers if answer["status"] == status))
    receipt["burst_id"] = burst(1).envelope.burst_id  # the one thing that names the sender's own burst
    outcome = sent(tmp_path, server, clock, Answer(status, json.dumps(receipt).encode()))
    assert isinstance(outcome, Accepted)
    assert outcome.known == (status == 200)
    assert outcome.receipt.labels == receipt["labels"]


@pytest.mark.parametrize(("name", "kind"), [("unknown token", Unauthorised), ("stopping", RetryLater)])
def test_an_old_server_s_refusals_mean_the_same(
    name: str, kind: type[Outcome], tmp_path: Path, server: StandIn, clock: HandClock
) -> None:
    outcome = sent(tmp_path, server, clock, told(name))
    assert isinstance(outcome, kind)
    if isinstance(outcome, RetryLater):
        assert outcome.retry_after_s == 10.0


def test_once_and_doctor_work_with_an_old_server(
    server: StandIn,
    footage: Path,
    write_settings: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.site_policy = told("site policy")
    server.heartbeat_status = next(
        e["answered"]["status"] for e in RECORDED["exchanges"] if e["answered"]["status"] == 400
    )
    settings = str(write_settings(f'video = "{footage}"'))
    assert camera_agent(["once", settings, "--out", str(tmp_path / "look")]) == 0
    assert camera_agent(["doctor", settings]) == 0
    assert "NOT" not in capsys.readouterr().out


# What is older than that


@pytest.mark.parametrize(
    ("version", "is_told"),
    [("0.1.0", True), ("0.2.0", False), ("0.3.0", False), ("1.0", False), ("0.0.0+checkout", False)],
)
def test_the_agent_s_doctor_names_a_server_that_is_too_old(
    version: str,
    is_told: bool,
    server: StandIn,
    footage: Path,
    write_settings: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = json.loads(told("name and version").body) | {"version": version}
    server.site_policy = Answer(200, json.dumps(name).encode())  # what it answers to every GET
    camera_agent(["doctor", str(write_settings(f'video = "{footage}"'))])
    out = capsys.readouterr().out
    assert (f"has version {version}, and this agent needs 0.2: upgrade the server" in out) == is_told


def test_the_server_s_doctor_names_agents_that_are_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(f"sqlite:///{tmp_path}/sectorwatch.sqlite")
    store.upgrade()
    beat = next(e["asked"] for e in RECORDED["exchanges"] if e["asked"]["path"] == "/v1/heartbeats")
    body = json.loads(base64.b64decode(beat["body"]))
    at_us = int(datetime.now(UTC).timestamp() * 1_000_000)
    for camera, version in (("gate", "0.1.0"), ("yard", "0.2.0")):
        document = json.dumps(body | {"camera": camera, "agent": body["agent"] | {"version": version}})
        store.heartbeats.keep(StoredHeartbeat("north-yard", camera, at_us, at_us, at_us, document))
    store.close()
    monkeypatch.setenv("SECTORWATCH_MODELS", "frame-change")
    out = CliRunner().invoke(sectorwatch, ["doctor", "--data-dir", str(tmp_path)]).stdout
    assert "warn  agents     camera gate of north-yard: version 0.1.0, and this server needs 0.2" in out
    assert "camera yard" not in out


@pytest.mark.parametrize("version", [None, "", "0.0.0+checkout", "unknown"])
def test_an_agent_that_does_not_say_what_it_is_is_not_called_too_old(version: str | None) -> None:
    assert not is_too_old(version)
