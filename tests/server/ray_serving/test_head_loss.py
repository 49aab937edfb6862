"""A server lives without its cluster: it waits for one, and goes on when a head that was lost is back.

Takes two minutes on a busy machine: a head starts twice.
"""

from __future__ import annotations

import threading
from pathlib import Path

from tests.benchmarks.serving.ray_node_loss import Camera, log_of, undisturbed_log
from tests.server.ray_serving.bright import load
from tests.server.ray_serving.clusters import Head, readiness, served_by, wait_until
from tests.server.swaps import Doing
from tests.server.web_client import files, jpeg

BURSTS = 20


def test_a_server_waits_for_its_head_says_so_and_loses_nothing_when_the_head_dies(tmp_path: Path) -> None:
    head = Head()
    settings = {"ensemble": "ray", "ray_address": head.address, "ray_cpus": 0.5}
    try:
        with served_by(tmp_path / "ray", load, **settings) as (app, channel, runtime):
            wait_until(lambda: f"no Ray cluster answers at {head.address}" in readiness(app), "it says what it lacks")
            head.start()
            wait_until(lambda: not readiness(app), "it is ready")
            camera = Camera(0, app, threading.Event())
            for burst in range(BURSTS):
                camera.send(burst)
            head.kill()
            wait_until(lambda: f"no Ray cluster answers at {head.address}" in readiness(app), "it says what it lost")
            refused = app.test_client().post("/batch", data={"file": files([jpeg(1)])})
            assert (refused.status_code, int(refused.headers["Retry-After"]) >= 1) == (503, True)
            sending = Doing(lambda: camera.send(BURSTS))
            head.start()
            wait_until(lambda: not readiness(app), "it is ready again")
            sending.join()
            for burst in range(BURSTS + 1, 2 * BURSTS):
                camera.send(burst)
            assert camera.failed, "no burst came while the head was away"
            disturbed = log_of(runtime, channel)
    finally:
        head.remove()
    assert disturbed == undisturbed_log(tmp_path / "local", [camera])
    assert disturbed
