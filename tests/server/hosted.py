"""A hosted server with an ensemble that answers on request, for the tests of how a server stops and refuses.

    python -m tests.server.hosted FOLDER [SETTINGS as JSON [PATIENCE]]

PATIENCE is the time limit in seconds for a request's head and for pauses in its body. Prints `port N` once it listens
and `asked` for each call of its ensemble, which answers after one more line on standard input.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from flask import Flask

from policies.observation import Box, Prediction
from server.app import create_app
from server.hosting import deadlines
from server.hosting.gunicorn_app import host
from server.settings import ServerSettings
from tests.server.web_client import NOW_US, BrightnessEnsemble, make_app


class WaitingEnsemble(BrightnessEnsemble):
    def answer(
        self, images: Sequence[bytes], crops: Mapping[str, Box] | None = None, enlarged: Sequence[Box] = ()
    ) -> list[dict[str, tuple[Prediction, ...] | None]]:
        _print_line("asked")
        sys.stdin.readline()
        return super().answer(images, crops, enlarged)


def _print_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _app(settings: ServerSettings) -> Flask:
    return create_app(settings, ensemble=WaitingEnsemble(), channels=[], clock=lambda: NOW_US)


def main(folder: Path, settings: str, patience_s: float) -> None:
    deadlines.HEAD_S = deadlines.BODY_S = patience_s
    make_app(folder)  # the database and the site
    listener = socket.create_server(("127.0.0.1", 0))
    _print_line(f"port {listener.getsockname()[1]}")
    changes = msgspec.json.decode(settings, type=dict[str, Any])
    host(ServerSettings(data_dir=folder, graceful_timeout_s=20, **changes), listener, _app)


if __name__ == "__main__":
    given = dict(enumerate(sys.argv))
    main(Path(given[1]), given.get(2, "{}"), float(given.get(3, deadlines.HEAD_S)))
