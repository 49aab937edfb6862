"""What the agent costs: `python -m tests.benchmarks.agent [--seconds 60] [FOOTAGE]`.

Real agent processes on a real link to a stand-in server, pictures of 640x480 out of the footage (or made here) at ten a
second: start to first burst, resident memory, CPU with the gate at two looks a second, disk writes while the link is
up. CPU is what the kernel charged the process, user and system, over the time on the clock. Beside it, where it is
installed, Debian's `motion` on the same stream. Exit code 1 when one of the agent's bounds is passed. How its memory
grows: `tests.benchmarks.agent.growth`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import psutil

from tests.camera_agent.conftest import CHECKOUT, picture
from tests.camera_agent.stand_in import StandIn

STREAM_PER_S = 10.0
MAX_CPU = 0.03
MAX_START_S = 3.0
SOURCES = {
    "snapshot": 'snapshot = "{url}/snap.jpg"',
    "mjpeg": 'mjpeg = "{url}/stream"',
    "opencv": 'rtsp = "{url}/stream"',
}
MAX_BYTES = {"snapshot": 60_000_000, "mjpeg": 60_000_000, "opencv": 95_000_000}


def pictures(footage: Path | None, *, width: int = 640, height: int = 480) -> list[bytes]:
    """A minute of JPEGs at most, of that size."""
    found = []
    if footage is None:
        found = [picture(index, width=width, height=height) for index in range(100)]
    else:
        video = cv2.VideoCapture(str(footage))
        while len(found) < 600 and video.grab():
            found.append(cv2.resize(video.retrieve()[1], (width, height)))
    return [cv2.imencode(".jpg", image)[1].tobytes() for image in found]


@contextmanager
def camera(jpegs: list[bytes], *, per_s: float = STREAM_PER_S) -> Iterator[str]:
    """A camera with `/snap.jpg` and `/stream`, both playing the pictures at that rate."""
    over, begun_s = threading.Event(), time.monotonic()

    def now() -> bytes:
        return jpegs[int((time.monotonic() - begun_s) * per_s) % len(jpegs)]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            if self.path == "/snap.jpg":
                body = now()
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
            self.end_headers()
            self.close_connection = True
            while not over.wait(1 / per_s):
                body = now()
                head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
                try:
                    self.wfile.write(head.encode() + body + b"\r\n")
                except ConnectionError:
                    return

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        over.set()
        server.shutdown()
        server.server_close()


class Measured:
    """An agent on one camera, its status in memory as under systemd, measured from outside."""

    def __init__(self, folder: Path, server: StandIn, camera_lines: str) -> None:
        self._folder = folder
        settings = folder / "agent.toml"
        settings.write_text(
            f'site = "yard"\nstate_dir = "{folder}/state"\n[server]\nurl = "{server.url}"\n'
            f'[[cameras]]\nname = "gate"\n{camera_lines}\n'
        )
        memory = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "RUNTIME_DIRECTORY": str(memory)}
        self._memory = memory
        self.begun_s = time.monotonic()
        self.process = psutil.Popen(
            [sys.executable, "-m", "camera_agent", "run", str(settings)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def cpu_s(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def resident_bytes(self) -> int:
        return int(self.process.memory_info().rss)

    def status(self) -> dict[str, object]:
        return dict(json.loads((self._memory / "status.json").read_text()))

    def written_bytes(self) -> int:
        return int(self.process.io_counters().write_bytes)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self._memory)


def steady(kind: str, url: str, seconds: float, told: Callable[[str, float, float, str], None]) -> None:
    """The gate at two looks a second on one kind of camera, for so long after its first burst."""
    with tempfile.TemporaryDirectory() as folder, StandIn() as server:
        agent = Measured(Path(folder), server, SOURCES[kind].format(url=url) + "\n[cameras.gate]\n")
        server.wait_for(lambda: bool(server.bursts))
        told(f"{kind}: start to first burst", time.monotonic() - agent.begun_s, MAX_START_S, "s")
        begun_s, cpu_s, written = time.monotonic(), agent.cpu_s(), agent.written_bytes()
        threading.Event().wait(seconds)
        share = (agent.cpu_s() - cpu_s) / (time.monotonic() - begun_s)
        told(f"{kind}: CPU of one core, gate at 2 looks/s", share * 100, MAX_CPU * 100, "%")
        told(f"{kind}: resident memory", agent.resident_bytes() / 1e6, MAX_BYTES[kind] / 1e6, "MB")
        told(f"{kind}: disk writes with the link up", agent.written_bytes() - written, 0, "bytes")
        agent.stop()


def motion(url: str, seconds: float) -> str:
    """CPU and memory of Debian's `motion` on the same stream, or why there is none."""
    program = shutil.which("motion")
    if program is None:
        return "motion is not installed here: `apt install motion` to compare"
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "motion.conf"
        settings.write_text(
            f"daemon off\nnetcam_url {url}/stream\nwidth 640\nheight 480\nframerate 2\ntarget_dir {folder}\n"
            "picture_output first\nmovie_output off\nstream_port 0\nwebcontrol_port 0\n"
        )
        process = psutil.Popen(
            [program, "-n", "-c", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        threading.Event().wait(5.0)
        begun_s, times = time.monotonic(), process.cpu_times()
        threading.Event().wait(seconds)
        now = process.cpu_times()
        share = (now.user + now.system - times.user - times.system) / (time.monotonic() - begun_s)
        resident = process.memory_info().rss / 1e6
        process.terminate()
        process.wait(20)
        return f"motion, 2 looks/s: {share:.1%} of one core, {resident:.0f} MB"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("footage", nargs="?", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    passed: list[bool] = []

    def told(name: str, value: float, bound: float, unit: str) -> None:
        passed.append(value <= bound)
        verdict = "" if passed[-1] else "   TOO MUCH"
        sys.stdout.write(f"{name:45} {value:8.2f} {unit:6} (at most {bound:g}){verdict}\n")
        sys.stdout.flush()

    with camera(pictures(options.footage)) as url:
        for kind in SOURCES:
            steady(kind, url, options.seconds, told)
        sys.stdout.write(motion(url, options.seconds) + "\n")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
