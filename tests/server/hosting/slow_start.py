"""A server whose application takes long to load: python -m tests.server.hosting.slow_start FOLDER PORT"""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path

from flask import Flask

from server.hosting.gunicorn_app import host
from server.settings import ServerSettings


def _load(_settings: ServerSettings) -> Flask:
    sys.stdout.write("loading\n")
    sys.stdout.flush()
    threading.Event().wait(60)
    raise SystemExit("nobody ended the worker")


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
    host(ServerSettings(data_dir=Path(sys.argv[1])), listener, _load)
