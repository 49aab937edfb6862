"""The agent's spool and uplink against a real server: what one camera sends never keeps another's bursts back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from camera_agent.burst import Burst, ClockReading, Still, make_burst
from camera_agent.clock import Clock
from camera_agent.config.settings import ServerSettings as AgentServerSettings
from camera_agent.spool.spool import Spool
from camera_agent.status import Status, StatusCounters
from camera_agent.uplink.http_client import HttpClient
from camera_agent.uplink.uplink import Uplink
from camera_agent.wall_clock import WallClock
from server.app import create_app, runtime_of
from server.settings import ServerSettings
from tests.camera_agent.spool.test_spool import spool_in
from tests.paced import paced
from tests.server.launched import PATIENCE_S
from tests.server.web_client import SITE, jpeg

ANSWER_WITHIN_S = 1.0
IMAGE_S = 0.05


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A server that judges twenty images a second and must answer within a second."""
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites/yard.toml").write_text(SITE.replace("north-yard", "yard"), encoding="utf-8")
    settings = ServerSettings(data_dir=tmp_path, inference_threads=1, answer_within_s=ANSWER_WITHIN_S)
    app = create_app(settings, channels=[], loading=partial(paced, IMAGE_S))
    runtime = runtime_of(app)
    runtime.store.upgrade()
    http = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    loaded = threading.Event()
    runtime.start(on_failure=lambda _error: loaded.set())
    try:
        until_s = time.monotonic() + PATIENCE_S
        while app.test_client().get("/readyz").status_code != 200:
            assert not loaded.wait(0.02)
            assert time.monotonic() < until_s, "the server is not ready"
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        thread.join()
        runtime.stop()
        http.server_close()


def burst(number: int, *, camera: str, frames: int) -> Burst:
    return make_burst(
        [Still(jpeg=jpeg(index), at_ms=500 * index) for index in range(frames)],
        burst_id=f"burst-{number:04d}",
        site="yard",
        camera=camera,
        captured_ms=1_700_000_000_000 + 60_000 * number,
        clock=ClockReading(synced=True, boot_id="b", monotonic_ms=number),
    )


def uplink_to(url: str, spool: Spool, counters: StatusCounters) -> Uplink:
    clock = Clock()
    client = HttpClient(AgentServerSettings(url=url), WallClock(clock))
    return Uplink(spool, client, {}, counters, clock, threading.Event())


def test_a_burst_that_can_never_be_judged_in_time_is_refused_once_and_keeps_no_camera_back(
    url: str, tmp_path: Path
) -> None:
    spool, counters = spool_in(tmp_path / "agent"), StatusCounters(Status())
    spool.put(burst(1, camera="gate", frames=60))
    for number in range(10, 14):
        spool.put(burst(number, camera="door", frames=2))
    spool.put(burst(2, camera="gate", frames=2))
    uplink = uplink_to(url, spool, counters)
    for _ in range(6):
        assert uplink.send_next() == 0.0
    status = counters.read()
    assert (status.sent, status.refused, len(spool)) == (5, 1, 0)
    [reason] = [path.read_text() for path in (tmp_path / "agent").rglob("*.txt")]
    assert reason.startswith("HTTP 413 Judging the request would take too long: 60 frames take")
    assert "`answer_within_s`" in reason
