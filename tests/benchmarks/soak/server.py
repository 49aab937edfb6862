"""The server of `soak`: all that `sectorwatch serve` runs, with a clock that runs through a day in minutes.

    python -m tests.benchmarks.soak.server FOLDER PORT

FOLDER holds `server.toml`, the sites, and `clock.json` (`DayClock`), which may be written anew at any time. The
ensemble needs no weights: it sees a person where a picture is bright. Retention sweeps every ten minutes of the data,
where the machine allows it.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from flask import Flask
from PIL import Image

from policies.observation import EnsembleInfo, ModelInfo, Prediction
from server import __main__
from server.app import create_app, runtime
from server.commands import serve
from server.domain.ensemble_protocol import Payload
from server.engine.stages import Answer
from server.hosting.gunicorn_app import host
from server.serving.loading import Loaded
from server.settings import ServerSettings

CLOCK = "clock.json"
_BRIGHT = 180
_LEAST_SWEEP_S = 1.0


class Pace(msgspec.Struct, frozen=True):
    """`at_us` is the instant of data at `monotonic_s` of this machine; `speed` seconds of data pass in each second."""

    at_us: int
    monotonic_s: float
    speed: float

    def now_us(self) -> int:
        return self.at_us + round((time.monotonic() - self.monotonic_s) * self.speed * 1e6)


def write_pace(folder: Path, pace: Pace) -> None:
    """Set the clock of the servers in `folder`, now."""
    aside = folder / f"{CLOCK}.new"
    aside.write_bytes(msgspec.json.encode(pace))
    aside.replace(folder / CLOCK)


class DayClock:
    """The server's clock, as `clock.json` says."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / CLOCK
        self._read_ns = -1
        self.pace = self._read()

    def __call__(self) -> int:
        if self._file.stat().st_mtime_ns != self._read_ns:
            self.pace = self._read()
        return self.pace.now_us()

    def _read(self) -> Pace:
        self._read_ns = self._file.stat().st_mtime_ns
        return msgspec.json.decode(self._file.read_bytes(), type=Pace)


class BrightStages:
    """Boxes the bright part of each picture as a person."""

    on_accelerator = False
    needs_postprocessing = False
    batch_images = 16

    def __init__(self) -> None:
        self.ensemble_info = EnsembleInfo("b" * 64, (ModelInfo("bright", frozenset({"person"}), boxes=True),))

    def only(self, model: str) -> BrightStages:
        return self

    def last_fault(self, model: str) -> str:
        return ""

    def enter(self) -> None:
        pass

    def prepare(self, payload: Payload) -> tuple[Prediction, ...]:
        with Image.open(io.BytesIO(payload[0])) as picture:
            width, height = picture.size
            found = picture.convert("L").point(lambda level: 255 * (level >= _BRIGHT)).getbbox()
        if found is None:
            return ()
        left, top, right, bottom = found
        return (Prediction("person", 0.9, (left / width, top / height, right / width, bottom / height)),)

    def infer(self, rows: Sequence[tuple[Prediction, ...]]) -> list[Answer]:
        return [{"bright": row} for row in rows]

    def postprocess(self, inferred: Sequence[Answer], start: int, stop: int) -> list[Answer]:
        return list(inferred[start:stop])

    def answer(self, images: Sequence[bytes]) -> list[Answer]:
        return self.infer([self.prepare((image, index, {}, ())) for index, image in enumerate(images)])


def main(folder: Path, port: int) -> None:
    clock = DayClock(folder)
    speed = max(1.0, clock.pace.speed)
    runtime._SWEEP_S = max(_LEAST_SWEEP_S, runtime._SWEEP_S / speed)

    def loading(models: Sequence[str]) -> Loaded[Any]:
        return Loaded(tuple(models), BrightStages(), lambda _answering: None)

    def app(settings: ServerSettings) -> Flask:
        return create_app(settings, clock=clock, loading=loading)

    vars(serve)["host"] = partial(host, make_app=app)
    sys.argv = ["sectorwatch", "serve", "--config", str(folder / "server.toml"), "--port", str(port)]
    __main__.main()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
