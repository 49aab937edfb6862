"""Flask with a lock: one copy of the models, asked by one request thread at a time, on all cores.

python -m tests.benchmarks.serving.peer_flask ENSEMBLE FOOTAGE
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

from flask import Flask, jsonify, request

from tests.benchmarks.serving.peers import Asked, free_port, tell

_THREADS = 32


def made(name: str, footage: str, port: int) -> Flask:
    """For Gunicorn."""
    app, lock, asked = Flask("peer"), threading.Lock(), Asked(name, Path(footage))

    @app.post("/batch")
    def batch() -> Any:
        burst = [part.read() for part in request.files.getlist("file")]
        with lock:
            (labels,) = asked([burst])
        return jsonify(labels)

    tell(port)
    return app


if __name__ == "__main__":
    os.environ.pop("OMP_NUM_THREADS", None)  # one call at a time may have all cores
    port = free_port()
    options = ["-w", "1", "--threads", str(_THREADS), "-b", f"127.0.0.1:{port}", "--timeout", "300"]
    app = f"tests.benchmarks.serving.peer_flask:made({sys.argv[1]!r}, {sys.argv[2]!r}, {port})"
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", *options, "--log-level", "warning", app])
