"""The console's server in a process of its own: the real application under the real Gunicorn worker.

    python -m tests.browser.console FOLDER

FOLDER is a data folder that `tests.browser.filling` has filled. Prints `port N` once it listens. Its clock starts at
NOW_US of the filled day and goes on; its ensemble sees who stands in painted pictures.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask import Flask

from server.app import create_app
from server.hosting.gunicorn_app import host
from server.settings import ServerSettings
from server.settings.channels import WebhookSettings
from tests.browser.filling import NOW_US, PHONE
from tests.browser.painting import PaintedEnsemble
from tests.server.launched import Running

_BEGAN_NS = time.monotonic_ns()


def _now_us() -> int:
    return NOW_US + (time.monotonic_ns() - _BEGAN_NS) // 1000


def _app(settings: ServerSettings) -> Flask:
    return create_app(settings, ensemble=PaintedEnsemble(), channels=[], clock=_now_us)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of such a server, which ends with the block."""
    server = Running(["tests.browser.console", str(folder)])
    try:
        port = server.line(r"port (\d+)")[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.end()


def main(folder: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"port {listener.getsockname()[1]}\n")
    sys.stdout.flush()
    phone = WebhookSettings(url="https://receiver.example.org/events")  # nobody sends: the application has no channel
    host(ServerSettings(data_dir=folder, graceful_timeout_s=5, channels={PHONE: phone}), listener, _app)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
