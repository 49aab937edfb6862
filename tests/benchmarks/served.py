"""The server that is measured: everything `sectorwatch serve` runs, around one of the benchmark's ensembles.

    python -m tests.benchmarks.served ENSEMBLE FOOTAGE FOLDER

Says `ready PORT` on standard output once it answers.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
from pathlib import Path

from flask import Flask

from server.app import create_app, engine_of
from server.engine import Engine
from server.hosting import host
from server.settings import ServerSettings
from server.store import open_store


def main(name: str, footage: Path, folder: Path) -> None:
    settings = ServerSettings(data_dir=folder, log_level="warning")
    (folder / "sites").mkdir(parents=True, exist_ok=True)
    store = open_store(settings.database_url)
    store.upgrade()
    store.close()
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def load() -> Engine:
        from tests.benchmarks.work import ensemble_named  # torch, which must not be loaded before the fork

        return engine_of(ensemble_named(name, footage), settings)

    def app(settings: ServerSettings) -> Flask:
        made = create_app(settings, channels=[], load=load)
        threading.Thread(target=_tell_when_ready, args=(made, port), daemon=True).start()
        return made

    host(settings, listener, app)


def _tell_when_ready(app: Flask, port: int) -> None:
    client, pause = app.test_client(), threading.Event()
    while client.get("/readyz").status_code != 200:
        pause.wait(0.2)
    sys.stdout.write(f"ready {port}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    logging.captureWarnings(True)
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
