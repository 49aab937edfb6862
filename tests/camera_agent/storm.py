"""Real agents and a real server with a bad link between them, in pieces of random kind and length.

One agent has the default settings (memory first) and is left alone. The other writes every burst to the disk at once
and is killed (`kill -9`) now and then. Both use one camera that never gives the same picture twice. At the end, the
server's database must hold every burst that the agents logged as taken, once and in order.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import requests

from server.store import open_store
from tests.camera_agent.chaos import BAD, Fault, Proxy
from tests.camera_agent.conftest import CHECKOUT, AgentProcess, picture

SITE = "yard"
SPARED, KILLED = "spared", "killed"
_PATIENCE_S = 60.0
_DRAIN_S = 180.0


@dataclass(frozen=True)
class Storm:
    """The faults to inject. Lengths are drawn evenly between the two bounds."""

    duration_s: float
    shortest_s: float
    longest_s: float
    spacing_s: float
    read_timeout_s: float
    kill_every_s: float
    seed: int


@dataclass
class Outcome:
    """The result. Each entry of `wrong` is a sentence."""

    wrong: list[str] = field(default_factory=list)
    taken: dict[str, int] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)
    frames: int = 0
    kills: int = 0
    pieces: Counter[Fault] = field(default_factory=Counter)
    connections: int = 0
    failures: int = 0
    revivals: int = 0
    """Good pieces long enough to see that the agent came back to life in them."""


def weather(storm: Storm, folder: Path) -> Outcome:
    """Run the storm in `folder`."""
    chance = random.Random(storm.seed)
    outcome = Outcome()
    now: list[Fault] = ["none"]
    with (
        server_process(folder) as url,
        changing_camera() as camera_url,
        Proxy(url, iter(lambda: now[0], None), storm.seed) as proxy,
    ):
        crew = _Crew(storm, folder, proxy.url, camera_url)
        try:
            crew.wait_for_bursts()
            end_s, kill_s = time.monotonic() + storm.duration_s, storm.kill_every_s
            deck: list[Fault] = []
            while time.monotonic() < end_s:
                deck = deck or chance.sample(BAD, len(BAD))
                for kind in (deck.pop(), "none"):
                    mark = crew.turn(proxy, now, kind, chance)
                    outcome.pieces[kind] += 1
                    length_s = chance.uniform(storm.shortest_s, storm.longest_s)
                    kill_s -= length_s
                    if kill_s < 0:
                        threading.Event().wait(length_s * chance.random())
                        kill_s += storm.kill_every_s
                        crew.kill()
                        outcome.kills += 1
                    threading.Event().wait(length_s)
                    if kind == "none":
                        crew.judge_revival(mark, outcome)
            now[0] = "none"
            crew.stop_when_sent(folder)
        finally:
            crew.end()
        crew.compare(folder, outcome)
        outcome.connections = len(proxy.met)
    return outcome


class _Crew:
    """The two agents."""

    def __init__(self, storm: Storm, folder: Path, url: str, camera_url: str) -> None:
        self._settings = {
            name: _settings(storm, folder / f"{name}.toml", name, url, camera_url) for name in (SPARED, KILLED)
        }
        self._lives = {name: [AgentProcess(["run", str(path)])] for name, path in self._settings.items()}

    def wait_for_bursts(self) -> None:
        for lives in self._lives.values():
            lives[0].wait_for_line("burst_sent")

    def turn(self, proxy: Proxy, now: list[Fault], kind: Fault, chance: random.Random) -> int:
        """Set the state of the link; open connections end, freeze, or continue. Returns the number of log lines of the
        spared agent.
        """
        now[0] = kind
        chance.choice((proxy.break_off, proxy.freeze, lambda: None))()
        return len(self._spared.lines)

    def kill(self) -> None:
        self._lives[KILLED][-1].kill()
        assert self._lives[KILLED][-1].wait() == -signal.SIGKILL
        self._lives[KILLED].append(AgentProcess(["run", str(self._settings[KILLED])]))

    def judge_revival(self, mark: int, outcome: Outcome) -> None:
        """After the link became good, only the request under way may have failed; after one backoff, sending must
        succeed.
        """
        lines = [line for line in self._spared.lines[mark:] if "sending_failed" in line or "=burst_sent" in line]
        failures = len(list(itertools.takewhile(lambda line: "sending_failed" in line, lines)))
        if failures > 1:
            outcome.wrong.append(f"the link was good and {failures} sendings failed: {lines[:failures]}")
        outcome.revivals += failures < len(lines)

    def stop_when_sent(self, folder: Path) -> None:
        """Stop both agents once all bursts taken by now are sent; later ones may stay in the spools."""
        taken = {name: _logged(lives, "burst_taken") for name, lives in self._lives.items()}
        deadline_s = time.monotonic() + _DRAIN_S
        for name, lives in self._lives.items():
            while time.monotonic() < deadline_s and not taken[name] <= set(_stored(folder, name)):
                threading.Event().wait(0.2)
            lives[-1].stop()
            assert lives[-1].wait(30.0) == 0

    def compare(self, folder: Path, outcome: Outcome) -> None:
        for name, lives in self._lives.items():
            taken, stored = _logged(lives, "burst_taken"), _stored(folder, name)
            outcome.taken[name], outcome.stored[name] = len(taken), len(stored)
            left = {path.name.split(".")[-2] for path in (folder / name / "spool").iterdir()}
            if lost := taken - set(stored) - left:
                outcome.wrong.append(f"{name}: lost {sorted(lost)}")
            if stored != sorted(stored):
                outcome.wrong.append(f"{name}: not in the order in which they were taken")
            given_up = ("burst_dropped", "burst_not_kept", "burst_refused")
            outcome.wrong += [
                line for life in lives for line in life.lines if any(f" {event} " in line for event in given_up)
            ]
        outcome.failures = sum("sending_failed" in line for line in self._spared.lines)
        outcome.frames, pictures = _frames(folder)
        if outcome.frames != pictures:
            outcome.wrong.append(f"{outcome.frames - pictures} frames are there twice")

    def end(self) -> None:
        for lives in self._lives.values():
            if lives[-1].process.poll() is None:
                lives[-1].kill()
            for life in lives:
                life.wait()
                assert life.process.stdout is not None
                life.process.stdout.close()

    @property
    def _spared(self) -> AgentProcess:
        return self._lives[SPARED][0]


def _settings(storm: Storm, path: Path, name: str, url: str, camera_url: str) -> Path:
    sync = "late" if name == SPARED else "always"
    path.write_text(
        f'site = "{SITE}"\nstate_dir = "{name}"\n[spool]\nsync = "{sync}"\n'
        f'[server]\nurl = "{url}"\nheartbeat_s = 5\n'
        f"connect_timeout_s = {storm.read_timeout_s}\nread_timeout_s = {storm.read_timeout_s}\n"
        f'[[cameras]]\nname = "{name}"\nsnapshot = "{camera_url}"\n'
        f"burst = {{ frames = 3, spacing_s = {storm.spacing_s} }}\n"
    )
    return path


def _logged(lives: list[AgentProcess], event: str) -> set[str]:
    """The bursts of the log lines with this event."""
    marks = (line.split("burst=")[1] for life in lives for line in life.lines if f" {event} " in line)
    return {mark.split()[0] for mark in marks}


def _stored(folder: Path, camera: str) -> list[str]:
    """A camera's bursts on the server in order of arrival; their ids sort by the instant of taking."""
    with closing(open_store(f"sqlite:///{folder}/data/sectorwatch.sqlite")) as store:
        sites = [head.site for head in store.cameras() if head.camera == camera]
        found = [burst for site in sites for burst in store.past.bursts(site, camera, 0, 1 << 62)]
        return [burst.burst_id for burst in sorted(found, key=lambda burst: burst.received_at_us)]


def _frames(folder: Path) -> tuple[int, int]:
    """How many frames the server has, and how many different ones of each camera."""
    with closing(open_store(f"sqlite:///{folder}/data/sectorwatch.sqlite")) as store:
        heads = store.cameras()
        frames = [
            (head.camera, seen.frame_sha256) for head in heads for seen in store.observations(head.site, head.camera)
        ]
        return len(frames), len(set(frames))


@contextmanager
def server_process(folder: Path) -> Iterator[str]:
    """The real server on a free port, with the one model that needs no weights; its data is in `folder`."""
    (folder / "sites").mkdir()
    (folder / "sites" / f"{SITE}.toml").write_text(f'site = "{SITE}"\n')
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    arguments = ["serve", "--port", str(port), "--data-dir", str(folder / "data"), "--sites", str(folder / "sites")]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "SECTORWATCH_MODELS": "frame-change"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "server", *arguments],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(30.0)
            except subprocess.TimeoutExpired:  # it waits for the rest of a body that never comes
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            if requests.get(f"{url}/readyz", timeout=1.0).ok:
                return
        except requests.RequestException:
            threading.Event().wait(0.1)
    raise AssertionError("the server did not become ready")


@contextmanager
def changing_camera() -> Iterator[str]:
    """A camera whose snapshots of 320x240, of some 15 kB, all differ."""
    count = itertools.count()
    noise = np.random.default_rng(5).integers(0, 24, (240, 320, 3), np.uint8)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            number = next(count)
            image = picture(number, width=320, height=240) + np.roll(noise, number, axis=1)
            cv2.putText(image, str(number), (10, 40), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 2)
            body = cv2.imencode(".jpg", image)[1].tobytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:  # an agent was killed
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/snap.jpg"
    finally:
        server.shutdown()
        server.server_close()
