"""A camera that speaks RTSP, broken in every way: `python -m tests.benchmarks.agent.rtsp [FOOTAGE] [--seconds 60]`.

A real RTSP server (`rtsp_camera`, GStreamer; its docstring says what to install) sends H.264 of 640x480 at ten
pictures a second to a real agent process. First what the agent costs, as in `agent`. Then the server is killed, killed
for longer, frozen with its connection open, its picture black, then covered: each time the agent must tell the cause
by heartbeat, and send bursts again when the camera is well. Exit code 1 when it does not, or not in time.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

from tests.benchmarks.agent.__main__ import MAX_BYTES, MAX_CPU, MAX_START_S, Measured, pictures
from tests.camera_agent.conftest import CHECKOUT
from tests.camera_agent.stand_in import StandIn

RATE = 10
TIMEOUT_S = 5.0
NOTICE_S = {"killed": 5.0, "away": 5.0, "frozen": TIMEOUT_S + 5.0, "black": 20.0, "covered": 20.0}
CAUSES = {
    "killed": "camera_failed",
    "away": "camera_failed",
    "frozen": "camera_hangs",
    "black": "camera_dark",
    "covered": "camera_covered",
}
AWAY_S = {"killed": 0.0, "away": 15.0, "frozen": 10.0, "black": 5.0, "covered": 5.0}
BACK_S = 20.0
"""Within the next pause of the backoff, whole by then, and the first picture of a new connection."""


class RtspCamera:
    """The server as a process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = 0
        self._start()

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self._port}/yard"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

    def break_it(self, how: str) -> None:
        if how in ("killed", "away"):
            self._kill()
        elif how == "frozen":
            self._process.send_signal(signal.SIGSTOP)
        else:
            self._say(how)

    def mend(self, how: str) -> None:
        if how in ("killed", "away"):
            self._start()
        elif how == "frozen":
            self._process.send_signal(signal.SIGCONT)
        else:
            self._say("play")

    def _start(self) -> None:
        program = CHECKOUT / "tests/benchmarks/agent/rtsp_camera.py"
        self._process = subprocess.Popen(
            ["/usr/bin/python3", program, self._folder, str(RATE), str(self._port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        ready = self._process.stdout.readline()
        if not ready.startswith("ready "):
            raise SystemExit(f"no RTSP server: {RtspCamera.__module__} says what to install")
        self._port = int(ready.split()[1])

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def broken(how: str, camera: RtspCamera, server: StandIn) -> tuple[float, float]:
    """Break the camera and mend it; seconds until the cause was told, and until a burst came again."""
    begun_s = time.monotonic()
    camera.break_it(how)
    server.wait_for(lambda: server.heartbeats[-1]["cause"] == CAUSES[how], 60.0)
    noticed_s = time.monotonic() - begun_s
    threading.Event().wait(AWAY_S[how])
    begun_s, bursts = time.monotonic(), len(server.bursts)
    camera.mend(how)
    server.wait_for(lambda: len(server.bursts) > bursts and server.heartbeats[-1]["state"] == "watching", 90.0)
    return noticed_s, time.monotonic() - begun_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("footage", nargs="?", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    passed: list[bool] = []

    def told(name: str, value: float, bound: float, unit: str) -> None:
        passed.append(value <= bound)
        sys.stdout.write(f"{name:45} {value:8.2f} {unit:3} (at most {bound:g}){'' if passed[-1] else '   TOO MUCH'}\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "pictures"
        folder.mkdir()
        for index, jpeg in enumerate(pictures(options.footage)):
            (folder / f"{index:05d}.jpg").write_bytes(jpeg)
        with RtspCamera(folder) as camera, StandIn() as server:
            lines = f'rtsp = "{camera.url}"\ntimeout_s = {TIMEOUT_S}\n[cameras.gate]\n'
            agent = Measured(Path(scratch), server, lines)
            server.wait_for(lambda: bool(server.bursts) and bool(server.heartbeats))
            told("start to first burst", time.monotonic() - agent.begun_s, MAX_START_S, "s")
            begun_s, cpu_s = time.monotonic(), agent.cpu_s()
            threading.Event().wait(options.seconds)
            share = (agent.cpu_s() - cpu_s) / (time.monotonic() - begun_s)
            told("CPU of one core, gate at 2 looks/s", share * 100, MAX_CPU * 100, "%")
            told("resident memory", agent.resident_bytes() / 1e6, MAX_BYTES["opencv"] / 1e6, "MB")
            for how in CAUSES:
                noticed_s, back_s = broken(how, camera, server)
                told(f"{how}: {CAUSES[how]} told after", noticed_s, NOTICE_S[how], "s")
                told(f"{how}: a burst again after", back_s, BACK_S, "s")
            told("resident memory after all that", agent.resident_bytes() / 1e6, MAX_BYTES["opencv"] / 1e6, "MB")
            agent.stop()
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
