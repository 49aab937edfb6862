"""A hosted server whose model never comes back, the first time: for the test of what becomes of it.

    python -m tests.server.engine.stuck FOLDER

Says `port N` once it listens, and `ready` whenever a worker of Gunicorn is.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from flask import Flask

import server.app.composition
from server.app import create_app
from server.domain.ensemble_protocol import Payload
from server.hosting.gunicorn_app import host
from server.serving.loading import Loaded, engine_of
from server.settings import ServerSettings
from tests.server.engine.test_engine import ReadingStages
from tests.server.web_client import NOW_US, make_app

SILENCE_S = 0.5


class StuckOnce(ReadingStages):
    """Its first image takes for ever; in the process after that all is well."""

    def __init__(self, been_here: Path) -> None:
        super().__init__()
        self._been_here = been_here

    def prepare(self, payload: Payload) -> str:
        if not self._been_here.exists():
            self._been_here.touch()
            threading.Event().wait()
        return "word"


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(folder: Path) -> None:
    make_app(folder)  # the database and the site
    listener = socket.create_server(("127.0.0.1", 0))
    _tell(f"port {listener.getsockname()[1]}")

    def loading(models: Sequence[str]) -> Loaded[Any]:
        return Loaded(tuple(models), StuckOnce(folder / "stuck"), lambda _: None)

    def app(settings: ServerSettings) -> Flask:
        return create_app(settings, channels=[], clock=lambda: NOW_US, loading=loading)

    server.app.composition.engine_of = partial(engine_of, silence_s=SILENCE_S)
    host(ServerSettings(data_dir=folder, inference_threads=1), listener, app)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
