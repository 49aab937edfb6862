"""Heartbeats, notifications to systemd, metrics, and `doctor`."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import pytest
import requests

from camera_agent import atomic_files
from camera_agent.__main__ import command
from camera_agent.cameras.health import CameraHealth, Condition
from camera_agent.config.settings import ServerSettings
from camera_agent.imaging.frame import CameraFailure, Frame
from camera_agent.reporting.sd_notify import notify, watchdog_every_s
from camera_agent.status import Status, StatusCounters
from camera_agent.uplink.byte_budget import ByteBudget
from camera_agent.uplink.heartbeat import Heartbeats, HeartbeatSource
from camera_agent.uplink.http_client import HttpClient
from camera_agent.wall_clock import WallClock
from tests.camera_agent.cameras.test_cameras import answering, serving
from tests.camera_agent.conftest import AgentProcess, HandClock, jpeg
from tests.camera_agent.scenes import Yard
from tests.camera_agent.spool.test_spool import burst, spool_in
from tests.camera_agent.stand_in import Answer, StandIn

Write = Callable[..., Path]
Start = Callable[..., AgentProcess]


class Bench:
    def __init__(self, folder: Path, server: StandIn, clock: HandClock) -> None:
        server.unix_s = clock.unix_s
        self.clock, self.server = clock, server
        self.health = CameraHealth(clock.monotonic_s(), stuck_after_s=60.0)
        self.spool = spool_in(folder)
        time = WallClock(clock, lambda: 0.01)
        self.budget = ByteBudget(None, clock.monotonic_s)
        self.stop = threading.Event()
        self.condition = self.health.read
        self.heartbeats = Heartbeats(
            "yard",
            {"gate": HeartbeatSource(lambda: self.condition(), lambda: "s3cret", self.budget, 60.0)},
            self.spool,
            HttpClient(ServerSettings(url=server.url), time),
            StatusCounters(Status()),
            time,
            clock,
            self.stop,
        )

    def after(self, seconds: float) -> int:
        """Let time pass and send what is due; return the number of heartbeats that the server has by then."""
        self.clock.now_s += seconds
        self.heartbeats.send_due()
        return len(self.server.heartbeats)


@pytest.fixture
def bench(tmp_path: Path, server: StandIn, clock: HandClock) -> Bench:
    return Bench(tmp_path, server, clock)


def test_a_heartbeat_carries_the_cameras_condition_and_its_backlog(bench: Bench) -> None:
    bench.spool.put(burst(1))
    bench.health.check(Frame(b"x", bench.clock.now_s, Yard().grey()))
    bench.health.expect_burst_by(bench.clock.now_s + 20.0)
    bench.after(2.0)
    heartbeat = bench.server.heartbeats[0]
    assert heartbeat["agent"].pop("version")
    assert heartbeat["agent"].pop("boot_id")
    assert heartbeat == {
        "site": "yard",
        "camera": "gate",
        "agent": {"sent_at": "2027-01-15T08:00:02.000Z", "started_at": "2027-01-15T08:00:00.000Z", "every_s": 60.0},
        "clock": {"synced": True, "uncertainty_s": 0.01},
        "state": "watching",
        "cause": None,
        "detail": None,
        "since": "2027-01-15T08:00:00.000Z",
        "last_frame_at": "2027-01-15T08:00:00.000Z",
        "next_burst_by": "2027-01-15T08:00:20.000Z",
        "waiting": {"bursts": 1, "bytes": bench.spool.held_bytes, "oldest_at": burst(1).envelope.captured_at},
        "counts": {
            "bursts": 0,
            "dropped": 0,
            "refused": 0,
            "uploaded_bytes": 0,
            "camera_bytes": 0,
            "damaged": 0,
            "mended": 0,
        },
    }
    assert 900 < bench.budget.spent_bytes < 2000


def test_heartbeats_are_sent_every_minute_and_at_every_change(bench: Bench) -> None:
    assert [bench.after(0.0), bench.after(30.0), bench.after(30.0)] == [1, 1, 2]
    bench.health.record_failure(CameraFailure("lens cap", "camera_covered"), bench.clock.now_s)
    assert bench.after(1.0) == 3
    heartbeat = bench.server.heartbeats[-1]
    assert (heartbeat["state"], heartbeat["cause"], heartbeat["detail"]) == ("blind", "camera_covered", "lens cap")
    assert bench.after(1.0) == 3


@pytest.mark.parametrize("status", [404, 405])
def test_a_server_without_the_endpoint_gets_a_heartbeat_an_hour_later_and_one_log_line(
    bench: Bench, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    bench.server.heartbeat_status = status
    assert bench.after(0.0) == 1
    bench.health.record_failure(CameraFailure("lens cap"), bench.clock.now_s)
    assert bench.after(3500.0) == 1
    assert bench.after(200.0) == 2
    assert caplog.text.count("heartbeat_not_taken") == 1


def test_an_unreachable_server_costs_only_the_heartbeat(bench: Bench) -> None:
    bench.server.__exit__()
    assert bench.after(0.0) == 0


def test_started_at_stays_the_same_under_small_corrections_of_the_clock(bench: Bench) -> None:
    for _ in range(4):
        bench.after(60.0)
        bench.clock.ahead_s += 0.0021
    assert len({heartbeat["agent"]["started_at"] for heartbeat in bench.server.heartbeats}) == 1
    bench.clock.ahead_s += 3600.0
    bench.after(60.0)
    assert bench.server.heartbeats[-1]["agent"]["started_at"] == "2027-01-15T09:00:00.008Z"


def test_an_unexpected_error_is_logged_and_the_next_heartbeat_is_sent(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    faults = [RuntimeError("nobody foresaw this")]

    def condition() -> Condition:
        if faults:
            raise faults.pop()
        bench.stop.set()
        return bench.health.read()

    bench.condition = condition
    bench.heartbeats.run()
    assert "heartbeat_failed" in caplog.text
    assert [heartbeat["state"] for heartbeat in bench.server.heartbeats] == ["stopped"]


def test_an_agent_reports_an_unreachable_camera_and_its_own_stop(
    server: StandIn, write_settings: Write, start_agent: Start
) -> None:
    agent = start_agent("run", write_settings('snapshot = "http://127.0.0.1:9/snap.jpg"'))
    server.wait_for(lambda: any(heartbeat["state"] == "blind" for heartbeat in server.heartbeats))
    agent.stop()
    assert agent.wait(60.0) == 0
    blind = next(heartbeat for heartbeat in server.heartbeats if heartbeat["state"] == "blind")
    assert (blind["cause"], blind["next_burst_by"]) == ("camera_failed", None)
    assert server.heartbeats[-1]["state"] == "stopped"


def test_systemd_is_notified_of_ready_watchdog_and_stopping(
    tmp_path: Path, server: StandIn, write_settings: Write, start_agent: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind(str(tmp_path / "notify"))
        door.settimeout(20.0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        with serving(answering(jpeg(3))) as url:
            agent = start_agent("run", write_settings(f'snapshot = "{url}"'))
            assert door.recv(100) == b"READY=1"
            assert door.recv(100) == b"WATCHDOG=1"
            assert door.recv(100) == b"WATCHDOG=1"
            agent.stop()
            while (message := door.recv(100)) != b"STOPPING=1":
                assert message == b"WATCHDOG=1"
        assert agent.wait(60.0) == 0


def test_without_systemd_no_notification_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    assert notify(ready=1) is False
    assert watchdog_every_s() is None


def test_the_text_file_for_prometheus_holds_the_counts(
    tmp_path: Path, server: StandIn, footage: Path, start_agent: Start
) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(
        f'site = "yard"\nstate_dir = "state"\nmetrics_file = "agent.prom"\n[server]\nurl = "{server.url}"\n'
        f'[[cameras]]\nname = "gate"\nvideo = "{footage}"\nspeed = 0\n'
    )
    assert start_agent("run", path).wait() == 0
    lines = (tmp_path / "agent.prom").read_text().splitlines()
    assert "sectorwatch_agent_bursts_sent_total 2" in lines
    assert 'sectorwatch_agent_camera_watching{camera="gate"} 0' in lines
    assert not list(tmp_path.glob("*.part"))


def test_the_collector_can_read_the_text_file_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        atomic_files.write(tmp_path / "agent.prom", [b""], is_durable=False, mode=0o644)
    finally:
        os.umask(before)
    assert (tmp_path / "agent.prom").stat().st_mode & 0o777 == 0o644


def test_metrics_are_served_on_a_port(server: StandIn, write_settings: Write, start_agent: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        address = f"127.0.0.1:{door.getsockname()[1]}"
    with serving(answering(jpeg(3))) as url:
        text = f'snapshot = "{url}"\nburst = {{ frames = 1, spacing_s = 0.1 }}'
        agent = start_agent("run", write_settings(text, more=f'metrics_listen = "{address}"'))
        server.wait_for(lambda: len(server.bursts) > 2)
        answer = requests.get(f"http://{address}/metrics", timeout=10.0)
        agent.stop()
        assert agent.wait(60.0) == 0
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "sectorwatch_agent_link_up 1" in answer.text.splitlines()


def test_damaged_and_mended_pictures_are_counted_in_status_metrics_and_heartbeats(
    tmp_path: Path, server: StandIn, write_settings: Write, start_agent: Start
) -> None:
    """Every second picture of the camera is cut off, and the others have no end marker."""
    pictures = itertools.count()

    def respond(handler: BaseHTTPRequestHandler) -> None:
        number = next(pictures)
        answering(jpeg(number)[: -200 if number % 2 else -2])(handler)

    with serving(respond) as url:
        text = f'snapshot = "{url}"\nburst = {{ frames = 2, spacing_s = 0.1 }}'
        agent = start_agent("run", write_settings(text, more=f'metrics_file = "{tmp_path / "agent.prom"}"'))
        server.wait_for(lambda: sum(len(burst.frames) for burst in server.bursts.values()) > 5)
        agent.stop()
        assert agent.wait(60.0) == 0
    status = msgspec.json.decode((tmp_path / "state/status.json").read_bytes(), type=Status)
    assert status.mended == status.frames > 5
    assert status.mended - 1 <= status.damaged <= status.mended
    metrics = (tmp_path / "agent.prom").read_text().splitlines()
    assert f'sectorwatch_agent_damaged_pictures_total{{camera="gate"}} {status.damaged}' in metrics
    assert f'sectorwatch_agent_mended_pictures_total{{camera="gate"}} {status.mended}' in metrics
    counts = server.heartbeats[-1]["counts"]
    assert (counts["damaged"], counts["mended"]) == (status.damaged, status.mended)
    assert all(frame.endswith(b"\xff\xd9") for seen in server.arrivals for frame in seen.frames)


def test_a_port_in_use_is_logged_and_stops_nothing(
    server: StandIn, footage: Path, write_settings: Write, start_agent: Start
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        more = f'metrics_listen = "127.0.0.1:{door.getsockname()[1]}"'
        agent = start_agent("run", write_settings(f'video = "{footage}"\nspeed = 0', more=more))
        assert agent.wait() == 0
    assert "in use" in agent.wait_for_line("metrics_not_served")
    assert server.bursts


def test_doctor_names_each_fault_and_what_to_do(
    server: StandIn, footage: Path, write_settings: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["doctor", str(write_settings(f'video = "{footage}"'))]) == 0
    out = capsys.readouterr().out
    assert "ok   camera gate: video" in out
    assert f"ok   server: {server.url} answers, and accepts the token for camera gate of site yard" in out
    server.heartbeat_status = 404
    assert command(["doctor", str(write_settings(f'video = "{footage}"'))]) == 1
    assert "this is no Sectorwatch server; check `server.url`" in capsys.readouterr().out
    server.heartbeat_status = 403
    assert command(["doctor", str(write_settings(f'video = "{footage}"'))]) == 1
    out = capsys.readouterr().out
    assert "either set `site` (now `yard`) and the camera's `name` (now `gate`) in the settings file" in out
    assert "`sectorwatch tokens add --site yard --camera gate` on the server prints one" in out
    server.heartbeat_status = 401
    assert command(["doctor", str(write_settings("device = 99"))]) == 1
    out = capsys.readouterr().out
    assert "NOT  server:" in out
    assert "`sectorwatch tokens add --site yard --camera gate` on the server prints one" in out
    assert "NOT  camera gate: device 99: cannot be opened" in out


def test_doctor_names_damaged_pictures_and_faulty_edges(
    write_settings: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = itertools.count()
    with serving(lambda handler: answering(jpeg(3)[: -2 if next(pictures) % 2 else -200])(handler)) as url:
        assert command(["doctor", str(write_settings(f'snapshot = "{url}"'))]) == 0
    out = capsys.readouterr().out
    assert "2 damaged pictures were passed over (not a whole image: image file is truncated" in out
    assert "its JPEGs have a faulty start or end, which the agent mends" in out


def test_the_status_is_written_to_the_runtime_folder(
    tmp_path: Path,
    server: StandIn,
    footage: Path,
    write_settings: Write,
    start_agent: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    server.answers.append(Answer(503))
    assert start_agent("run", write_settings(f'video = "{footage}"\nspeed = 0')).wait() == 0
    status = msgspec.json.decode((tmp_path / "run/status.json").read_bytes(), type=Status)
    assert (status.sent, status.cameras) == (2, {"gate": "finished"})
    assert status.wire_bytes > status.bytes_sent
    assert not (tmp_path / "state/status.json").exists()
