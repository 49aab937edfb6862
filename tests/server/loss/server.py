"""One of several servers on one PostgreSQL, in a process of its own, whose channel writes to a file that all share.

    python -m tests.server.loss.server FOLDER DATABASE_URL NAME FILE IMAGE_S PORT BELIEVED_S

Listens on PORT (0: any), prints `port N`, then what a server logs. Its ensemble takes IMAGE_S for an image. A lease on
a channel lasts LEASE_S. It is believed to live for BELIEVED_S after a sign of life; it gives that, and does what it
repeats, as much more often as this is less than usual.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from flask import Flask

from policies.observation import Prediction
from server.app import create_app, runtime
from server.delivery import sender
from server.domain.announcements import Announcement, Outgoing
from server.engine.stages import Answer
from server.hosting.gunicorn_app import host
from server.serving.loading import Loaded
from server.settings import ServerSettings
from server.store import fleet
from tests.server.ray_serving.bright import Bright
from tests.server.web_client import SITE

LEASE_S = 3.0


class Line(msgspec.Struct, frozen=True):
    """An announcement as the channel sent it; `event` is its id, empty for a notice."""

    seq: int
    what: str
    event: str


class PacedBright(Bright):
    """Takes `image_s` for each image."""

    def __init__(self, image_s: float) -> None:
        super().__init__()
        self._image_s = image_s

    def infer(self, rows: Sequence[tuple[Prediction, ...]]) -> list[Answer]:
        threading.Event().wait(self._image_s * len(rows))
        return super().infer(rows)


def load(image_s: float, models: Sequence[str], /) -> Loaded[Any]:
    """What `create_app` takes as `loading`, with `image_s` bound."""
    return Loaded(tuple(models), PacedBright(image_s), lambda _answering: None)


class SharedFile:
    """A channel that appends a line for each announcement, in one call of the system."""

    name = "file"

    def __init__(self, file: Path) -> None:
        self._file = file

    def send(self, outgoing: Outgoing) -> None:
        if isinstance(outgoing, Announcement):
            said = Line(outgoing.seq, outgoing.what, outgoing.logged.event.id)
        else:
            said = Line(outgoing.seq, "notice", "")
        line = msgspec.json.encode(said) + b"\n"
        handle = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(handle, line)
        finally:
            os.close(handle)


def hasten(share: float) -> None:
    """Shorten the life that a server is believed to have, and how often it gives signs of life and does its upkeep."""
    fleet._BELIEVED_US, fleet._SAYS_US = round(share * fleet._BELIEVED_US), round(share * fleet._SAYS_US)
    runtime.BEAT_S, runtime._REPEAT_S = share * runtime.BEAT_S, share * runtime._REPEAT_S


def main(folder: Path, url: str, name: str, file: Path, image_s: float, port: int, believed_s: float) -> None:
    sender._LEASE_US = round(LEASE_S * 1_000_000)
    hasten(believed_s * 1e6 / fleet._BELIEVED_US)
    (folder / "sites").mkdir(parents=True, exist_ok=True)
    (folder / "sites" / "north-yard.toml").write_text(SITE, encoding="utf-8")

    def app(settings: ServerSettings) -> Flask:
        return create_app(settings, channels=[SharedFile(file)], loading=partial(load, image_s))

    listener = socket.create_server(("127.0.0.1", port))
    sys.stdout.write(f"port {listener.getsockname()[1]}\n")
    sys.stdout.flush()
    settings = ServerSettings(
        data_dir=folder,
        database_url=url,
        instance=name,
        models=("bright",),
        inference_threads=1,
        golden_every_s=0.0,
        keep_frames="none",
        threads=10,
        admission_limit=8,
        graceful_timeout_s=20,
    )
    host(settings, listener, app)


if __name__ == "__main__":
    of_server, of_url, of_name, of_file, of_image, of_port, of_life = sys.argv[1:]
    main(Path(of_server), of_url, of_name, Path(of_file), float(of_image), int(of_port), float(of_life))
