"""What cameras notice when a node of a Ray cluster dies: requests that fail, the log, and the time to both replicas.

    python -m tests.benchmarks.serving.ray_node_loss [--cameras 8]

A cluster of three nodes on this machine, one processor each, holds two replicas. Cameras send bursts as fast as they
are answered, to a server in this process. Then one node with a replica gets SIGKILL, with all its processes. The
cameras stop once two replicas answer again. A server without Ray then gets the same bursts, undisturbed: both logs are
equal.
"""

from __future__ import annotations

import io
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import msgspec
import psutil
from flask import Flask
from PIL import Image

from server.domain.errors import RetryLater
from server.ray_serving.messages import Lost
from tests.server.ray_serving.bright import load
from tests.server.ray_serving.clusters import cluster, readiness, served_by, wait_until
from tests.server.web_client import NOW_US, body, envelope
from tests.stand_ins import RecordingChannel

FRAMES = 4
BACK_WITHIN_S = 15.0

_REPLICAS = 2
_BURSTS_BEFORE = 10
_RESEND_S = 0.2


@dataclass
class Camera:
    """Sends bursts of somebody who walks through the picture again and again, until `done`. It has its own thread."""

    number: int
    app: Flask
    done: threading.Event
    accepted_at: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def run(self) -> None:
        while not self.done.is_set():
            self.send(len(self.accepted_at))

    def send(self, burst: int) -> None:
        """Send one burst until it is accepted. An answer that does not ask for that ends the camera."""
        frames = [_walker(burst * FRAMES + index + 7 * self.number) for index in range(FRAMES)]
        began_at = datetime.fromtimestamp(NOW_US / 1e6, UTC) - timedelta(hours=1) + timedelta(seconds=2 * burst)
        sent = envelope(
            frames,
            burst_id=f"burst-{self.number}-{burst:05d}",
            camera=f"gate{self.number}",
            captured_at=began_at.isoformat().replace("+00:00", "Z"),
        )
        while True:
            answer = self.app.test_client().post("/v1/bursts", data=body(sent, frames))
            if answer.status_code == 201:
                self.accepted_at.append(time.monotonic())
                return
            if answer.status_code != 503 or int(answer.headers["Retry-After"]) < 1:
                raise AssertionError(f"{answer.status_code}: {answer.get_data(as_text=True)}")
            self.failed.append(answer.get_json()["detail"])
            threading.Event().wait(_RESEND_S)


@dataclass(frozen=True)
class Outcome:
    """`before` is in images per second, `after` for each second from the kill on; `back_s` is the time from the kill
    until two replicas answer again.
    """

    before: float
    after: tuple[float, ...]
    back_s: float
    bursts: int
    failed: tuple[str, ...]
    logs_are_equal: bool
    events: int


def lose_a_node(folder: Path, *, cameras: int) -> Outcome:
    """Run both servers. Raises AssertionError for an answer that does not ask to be sent again."""
    done = threading.Event()
    with (
        cluster(1, 1, 1) as nodes,
        served_by(folder / "ray", load, ensemble="ray", ray_address=nodes.address, ray_min_replicas=2) as ray,
    ):
        app, channel, runtime = ray
        wait_until(lambda: not readiness(app), "the server is ready")
        senders = [Camera(number, app, done) for number in range(cameras)]
        threads = [threading.Thread(target=sender.run) for sender in senders]
        began_at = time.monotonic()
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: all(len(each.accepted_at) >= _BURSTS_BEFORE for each in senders), "bursts are accepted")
            killed_at = time.monotonic()
            _kill_a_node_with_a_replica(nodes, runtime)
            wait_until(lambda: len(_replicas(runtime)) < _REPLICAS, "a replica is lost")
            wait_until(lambda: len(_replicas(runtime)) == _REPLICAS, "there is another one")
            back_s = time.monotonic() - killed_at
        finally:
            done.set()
            for thread in threads:
                thread.join()
        disturbed = log_of(runtime, channel)
    before = _speed(senders, killed_at - began_at, killed_at)
    after = tuple(_speed(senders, 1.0, killed_at + second) for second in range(1, int(back_s) + 1))
    failed = tuple(detail for sender in senders for detail in sender.failed)
    bursts = sum(len(sender.accepted_at) for sender in senders)
    undisturbed = undisturbed_log(folder / "local", senders)
    return Outcome(before, after, back_s, bursts, failed, disturbed == undisturbed, len(undisturbed))


def undisturbed_log(folder: Path, senders: Sequence[Camera]) -> list[bytes]:
    """The log of a server without Ray that gets the accepted bursts of these cameras."""
    with served_by(folder, load) as (app, channel, runtime):
        wait_until(lambda: not readiness(app), "the server is ready")
        for sender in senders:
            alone = Camera(sender.number, app, threading.Event())
            for burst in range(len(sender.accepted_at)):
                alone.send(burst)
        return log_of(runtime, channel)


def _walker(step: int) -> bytes:
    """A dark picture in which somebody bright walks from left to right in 20 steps, and is away for 20."""
    picture = Image.new("L", (160, 120), 20)
    if step % 40 < 20:
        picture.paste(250, (8 * (step % 40), 40, 8 * (step % 40) + 20, 100))
    out = io.BytesIO()
    picture.save(out, "JPEG")
    return out.getvalue()


def _speed(senders: Sequence[Camera], seconds: float, until: float) -> float:
    """Images per second in the `seconds` before `until`."""
    return FRAMES * sum(until - seconds <= at < until for each in senders for at in each.accepted_at) / seconds


def _replicas(runtime: Any) -> list[str]:
    """Where those are that answer."""
    try:
        return [report.replica for report in runtime.service.current().handle.replicas.reports()]
    except (Lost, TimeoutError, RetryLater):
        return []


def _kill_a_node_with_a_replica(nodes: Any, runtime: Any) -> None:
    replicas = [
        int(replica.rpartition(":")[2]) for replica in _replicas(runtime) if replica.startswith(socket.gethostname())
    ]
    of_raylet = {psutil.Process(pid).ppid(): pid for pid in replicas}
    for node in list(nodes.worker_nodes):
        raylet = node.all_processes["raylet"][0].process.pid
        if raylet in of_raylet:
            victims = [process.pid for process in psutil.Process(raylet).children(recursive=True)]
            nodes.remove_node(node, allow_graceful=False)
            for pid in victims:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return
    raise AssertionError("no node but the head has a replica")


def log_of(runtime: Any, channel: RecordingChannel) -> list[bytes]:
    """The events, by their ids: cameras are independent, so their events may be sent in any order."""
    count = -1
    while count != len(channel.sent):
        count = len(channel.sent)
        runtime.dispatcher.drain_once()
    return sorted(msgspec.json.encode((each.what, each.logged.event)) for each in channel.sent)


@click.command()
@click.option("--cameras", default=8)
def main(cameras: int) -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = lose_a_node(Path(folder), cameras=cameras)
    click.echo(
        f"{outcome.bursts} bursts of {FRAMES}; {outcome.before:.1f} images/s before; in the seconds after the kill "
        f"{', '.join(f'{speed:.0f}' for speed in outcome.after)}; two replicas again after {outcome.back_s:.1f} s; "
        f"{len(outcome.failed)} requests failed and were sent again: {set(outcome.failed)}; "
        f"{outcome.events} events, logs equal: {outcome.logs_are_equal}"
    )


if __name__ == "__main__":
    main()
