"""The agent's metrics in the Prometheus text format, version 0.0.4, and a port that serves them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer

from camera_agent.cameras.health import Condition
from camera_agent.status import Status

_COUNTS = (
    ("counter", "bursts_taken_total", "bursts", "Bursts taken."),
    ("counter", "frames_taken_total", "frames", "Frames taken."),
    ("counter", "bursts_sent_total", "sent", "Bursts that the server accepted."),
    ("counter", "bursts_dropped_total", "dropped", "Bursts dropped for lack of room."),
    ("counter", "bursts_refused_total", "refused", "Bursts that the server rejected for good."),
    ("counter", "uploaded_bytes_total", "wire_bytes", "Bytes on the wire in both directions, packet headers included."),
    ("counter", "disk_written_bytes_total", "disk_bytes", "Bytes that the spool wrote to the disk."),
    ("gauge", "spool_bursts", "waiting", "Bursts waiting in the spool."),
    ("gauge", "spool_bytes", "waiting_bytes", "Bytes waiting in the spool."),
)
"""Kind, name, field of `Status`, and help."""


def exposition(status: Status, cameras: Mapping[str, Condition], now_s: float) -> str:
    """All metrics as text. `now_s` is the monotonic instant from which ages are counted."""
    watching = {f'camera="{name}"': int(condition.state == "watching") for name, condition in cameras.items()}
    ages_s = {
        f'camera="{name}"': round(now_s - condition.last_frame_s, 1)
        for name, condition in cameras.items()
        if condition.last_frame_s is not None
    }
    damaged = {f'camera="{name}"': condition.damaged for name, condition in cameras.items()}
    mended = {f'camera="{name}"': condition.mended for name, condition in cameras.items()}
    families = [
        _family("info", "gauge", "The agent's version.", {f'version="{status.version}"': 1}),
        *(_family(name, kind, text, {"": getattr(status, field)}) for kind, name, field, text in _COUNTS),
        _family("link_up", "gauge", "1 while the server answers.", {"": int(status.link == "up")}),
        _family("camera_watching", "gauge", "1 while the camera gives pictures that can be judged.", watching),
        _family("last_frame_age_seconds", "gauge", "Age of the camera's last frame.", ages_s),
        _family("damaged_pictures_total", "counter", "Pictures of the camera that were passed over.", damaged),
        _family("mended_pictures_total", "counter", "Pictures of the camera with a faulty start or end.", mended),
    ]
    return "".join(families)


def serve_metrics(address: str, text: Callable[[], str]) -> HTTPServer:
    """Answer every GET at `host:port` with the present text, on a thread, until `shutdown`. Raises `OSError`."""
    host, _, port = address.rpartition(":")

    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0  # a client that sends nothing must not block the others

        def do_GET(self) -> None:
            body = text().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer((host, int(port)), Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


def _family(name: str, kind: str, help_text: str, samples: Mapping[str, float]) -> str:
    """One metric: its help, its type, and a line per set of labels."""
    name = f"sectorwatch_agent_{name}"
    lines = [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{{{labels}}} {value}" if labels else f"{name} {value}" for labels, value in samples.items()]
    return "\n".join(lines) + "\n"
