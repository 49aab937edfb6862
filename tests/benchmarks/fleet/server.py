"""One server of `fleet`: all that `sectorwatch serve` runs, around an engine that answers from recorded labels.

    python -m tests.benchmarks.fleet.server FOLDER DATABASE_URL NAME IMAGES_PER_S KEEPING

KEEPING is JSON, the settings `keep_...`. Says `ready PORT` once it answers. Its channel is the log, in JSON, which goes
to FOLDER/NAME.events; the instant at which each event left goes to FOLDER/NAME.sent, and how long its transactions
waited to FOLDER/NAME.waits, every second.
"""

from __future__ import annotations

import re
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import msgspec
from flask import Flask

from server.app import create_app
from server.delivery.log_channel import LogChannel
from server.domain.announcements import NoticeGiven, Outgoing
from server.domain.ensemble_protocol import Payload
from server.engine.stages import Answer
from server.hosting.gunicorn_app import host
from server.serving.loading import Loaded
from server.settings import ServerSettings
from server.store import engine as database
from tests.benchmarks.fleet.recorded import recording

_COMMENT = re.compile(rb"\xff\xd8\xff\xfe..fleet (\w+) (\d+) ", re.DOTALL)


class RecordedStages:
    """Answers each picture with the labels that its comment names, at most `images_per_s` of them (0: at once)."""

    on_accelerator = False
    needs_postprocessing = False
    batch_images = 16

    def __init__(self, images_per_s: float) -> None:
        self._image_s = 1 / images_per_s if images_per_s else 0.0
        self._recording = recording()
        self.ensemble_info = self._recording.ensemble_info

    def only(self, model: str) -> RecordedStages:
        return self

    def last_fault(self, model: str) -> str:
        return ""

    def enter(self) -> None:
        pass

    def prepare(self, payload: Payload) -> Answer:
        named = _COMMENT.match(payload[0])
        assert named is not None, "the picture is of another benchmark"
        return self._recording.answers[named[1].decode()][int(named[2])]

    def infer(self, rows: Sequence[Answer]) -> list[Answer]:
        if self._image_s:
            time.sleep(self._image_s * len(rows))
        return list(rows)

    def postprocess(self, inferred: Sequence[Answer], start: int, stop: int) -> list[Answer]:
        return list(inferred[start:stop])

    def answer(self, images: Sequence[bytes]) -> list[Answer]:
        return [self.prepare((image, index, {}, ())) for index, image in enumerate(images)]


class TimedLog(LogChannel):
    """The log channel; another stream gets the instant (s of Unix time) and the id of each event that has left."""

    def __init__(self, lines: TextIO, instants: TextIO) -> None:
        super().__init__("json", lines)
        self._instants = instants

    def send(self, outgoing: Outgoing) -> None:
        super().send(outgoing)
        if not isinstance(outgoing, NoticeGiven):
            self._instants.write(f"{time.time():.6f} {outgoing.logged.event.id}\n")
            self._instants.flush()


class SummedWaits(threading.local):
    """In place of `server.store.engine`'s own: also sums up what all threads have waited for the database's locks."""

    total_s = 0.0
    count = 0
    _own_s = 0.0
    _adding = threading.Lock()

    @property
    def waited_s(self) -> float:
        return self._own_s

    @waited_s.setter
    def waited_s(self, value: float) -> None:
        with self._adding:
            SummedWaits.total_s += value - self._own_s
            SummedWaits.count += 1
        self._own_s = value


class Waits(msgspec.Struct, frozen=True):
    """What transactions that write have waited for a connection, their turn and their lock (s), and how many began."""

    waited_s: float
    count: int


def _tell_waits(file: Path) -> None:
    aside, pause = file.with_suffix(".new"), threading.Event()
    while True:
        aside.write_bytes(msgspec.json.encode(Waits(SummedWaits.total_s, SummedWaits.count)))
        aside.replace(file)
        pause.wait(1)


def _tell_when_ready(app: Flask, line: str) -> None:
    client, pause = app.test_client(), threading.Event()
    while client.get("/readyz").status_code != 200:
        pause.wait(0.2)
    sys.stdout.write(line)
    sys.stdout.flush()


def main(folder: Path, url: str, name: str, images_per_s: float, keeping: dict[str, Any]) -> None:
    own = folder / name
    own.mkdir(exist_ok=True)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    line = f"ready {listener.getsockname()[1]}\n"
    settings = ServerSettings(
        data_dir=own,
        sites_dir=folder / "sites",
        database_url=url,
        instance=name,
        log_level="warning",
        inference_threads=1 if images_per_s else 0,
        **keeping,
    )
    vars(database)["_waits"] = SummedWaits()

    def loading(models: Sequence[str]) -> Loaded[Any]:
        return Loaded(tuple(models), RecordedStages(images_per_s), lambda _answering: None)

    def app(settings: ServerSettings) -> Flask:
        lines, instants = ((folder / f"{name}.{what}").open("w") for what in ("events", "sent"))
        made = create_app(settings, channels=[TimedLog(lines, instants)], loading=loading)
        threading.Thread(target=_tell_when_ready, args=(made, line), daemon=True).start()
        threading.Thread(target=_tell_waits, args=(folder / f"{name}.waits",), daemon=True).start()
        return made

    host(settings, listener, app)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4]), msgspec.json.decode(sys.argv[5]))
