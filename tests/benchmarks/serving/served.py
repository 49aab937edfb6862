"""The server that is measured: everything `sectorwatch serve` runs, around one of the benchmark's ensembles.

    python -m tests.benchmarks.serving.served ENSEMBLE FOOTAGE FOLDER EXECUTION

ENSEMBLE `paced:0.035` takes so many seconds for an image, and needs neither footage nor torch. Says
`ready PORT ADMIN_PORT` on standard output once it answers.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from flask import Flask

from server.app import create_app
from server.domain.precision import Execution
from server.hosting.gunicorn_app import host
from server.serving.loading import Loaded
from server.settings import ServerSettings
from server.store import open_store
from tests.paced import paced


def main(name: str, footage: Path, folder: Path, execution: Execution) -> None:
    admin_port = _free_port()
    settings = ServerSettings(data_dir=folder, log_level="warning", admin_port=admin_port)
    (folder / "sites").mkdir(parents=True, exist_ok=True)
    store = open_store(settings.database_url)
    store.upgrade()
    store.close()
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def loading(models: Sequence[str]) -> Loaded[Any]:
        if name.startswith("paced:"):
            return paced(float(name.removeprefix("paced:")), models)
        from tests.benchmarks.serving.work import ensemble_named  # torch, which must not be loaded before the fork

        return Loaded(tuple(models), ensemble_named(name, footage, execution), lambda _: None)

    def app(settings: ServerSettings) -> Flask:
        made = create_app(settings, channels=[], loading=loading)
        threading.Thread(target=_tell_when_ready, args=(made, f"ready {port} {admin_port}\n"), daemon=True).start()
        return made

    host(settings, listener, app)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _tell_when_ready(app: Flask, line: str) -> None:
    client, pause = app.test_client(), threading.Event()
    while client.get("/readyz").status_code != 200:
        pause.wait(0.2)
    sys.stdout.write(line)
    sys.stdout.flush()


if __name__ == "__main__":
    logging.captureWarnings(True)
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), cast(Execution, sys.argv[4]))
