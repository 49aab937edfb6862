"""The agent's counts for Prometheus: as a text file that node-exporter's textfile collector reads, or on a port."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from camera_agent import atomic_files
from camera_agent.cameras.health import Condition
from camera_agent.status import Status

_COUNTERS = (
    ("bursts_taken_total", "bursts", "Bursts taken."),
    ("frames_taken_total", "frames", "Frames taken."),
    ("bursts_sent_total", "sent", "Bursts that the server has."),
    ("bursts_dropped_total", "dropped", "Bursts given up for want of room."),
    ("bursts_refused_total", "refused", "Bursts that the server will never take."),
    ("uploaded_bytes_total", "wire_bytes", "Bytes on the wire, both ways, packet heads included."),
    ("disk_written_bytes_total", "disk_bytes", "Bytes that the spool wrote to the disk."),
)
_GAUGES = (
    ("spool_bursts", "waiting", "Bursts waiting."),
    ("spool_bytes", "waiting_bytes", "Bytes waiting."),
)


def exposition(status: Status, cameras: Mapping[str, Condition], now_s: float) -> str:
    """The text format, version 0.0.4; `now_s` is the monotonic instant, from which ages are reckoned."""
    lines = ["# TYPE sectorwatch_agent_info gauge", f'sectorwatch_agent_info{{version="{status.version}"}} 1']
    for kind, table in (("counter", _COUNTERS), ("gauge", _GAUGES)):
        for name, field, told in table:
            lines += [f"# HELP sectorwatch_agent_{name} {told}", f"# TYPE sectorwatch_agent_{name} {kind}"]
            lines.append(f"sectorwatch_agent_{name} {getattr(status, field)}")
    lines.append("# TYPE sectorwatch_agent_link_up gauge")
    lines.append(f"sectorwatch_agent_link_up {int(status.link == 'up')}")
    lines.append("# HELP sectorwatch_agent_camera_watching 1 while the camera gives pictures that can be judged.")
    lines.append("# TYPE sectorwatch_agent_camera_watching gauge")
    for camera, condition in cameras.items():
        is_watching = int(condition.state == "watching")
        lines.append(f'sectorwatch_agent_camera_watching{{camera="{camera}"}} {is_watching}')
    lines.append("# TYPE sectorwatch_agent_last_frame_age_seconds gauge")
    for camera, condition in cameras.items():
        if condition.last_frame_s is not None:
            age_s = now_s - condition.last_frame_s
            lines.append(f'sectorwatch_agent_last_frame_age_seconds{{camera="{camera}"}} {age_s:.1f}')
    return "\n".join(lines) + "\n"


def write_metrics(path: Path, text: str) -> None:
    """Replace the file at once; the collector, another user, never reads half of one. Raises `OSError`."""
    atomic_files.publish(path, text.encode(), mode=0o644)


def serve_metrics(address: str, text: Callable[[], str]) -> HTTPServer:
    """Answer every GET at `host:port` with the text of that moment, on a thread, until `shutdown`. Raises `OSError`."""
    host, _, port = address.rpartition(":")

    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0  # who connects and says nothing is not waited for

        def do_GET(self) -> None:
            body = text().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = HTTPServer((host, int(port)), Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
