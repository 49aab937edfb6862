"""What a late burst does to other cameras: `python -m tests.benchmarks.past.late_burst [--days 7] [--stays]`.

A camera has a past of some days, a frame a second in bursts of ten, somebody walking through now and then. A real
server (Gunicorn, SQLite, an ensemble that answers at once) takes bursts of ten small pictures from other cameras, each
one a second. Then the first camera sends one burst that belongs to the begin of its past, and goes on sending. Printed:
how long the others' uploads take before and until the log is corrected, and how long that takes.

With `--stays` somebody is in view all the time, so that the fold has to go on to the camera's newest frame.
"""

from __future__ import annotations

import hashlib
import io
import random
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
import requests
from flask import Flask
from PIL import Image

from policies.events import instant
from policies.site.site_policy import parse_site_policy
from server.app import create_app
from server.domain.folding.refold import refold
from server.domain.times.clock import SECOND_US
from server.hosting.gunicorn_app import host
from server.settings import ServerSettings
from server.store import Store, open_store
from tests.benchmarks.past.replay import BURST, START_US, Answers, answers, site
from tests.benchmarks.past.storage import SCENES, Scene, entry_of
from tests.benchmarks.serving.processes import Hosted
from tests.server.web_client import BrightnessEnsemble

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

DAY_S = 86_400
_TURN = 200
_PERIOD_S = 1.0
_QUIET_S = 20.0
CPU_US = "X-Cpu-Us"
"""The header in which an answer of this server says how much CPU its thread took."""


def _walks(second: int, chance: random.Random) -> Answers:
    return answers(second, "empty", chance)


_WALKS = Scene(_walks)


def fill(store: Store, length_s: int, scene: Scene, cameras: int) -> None:
    """Make the past of the first camera."""
    text, chance = site(cameras), random.Random(7)
    policy = parse_site_policy(text)
    firsts = range(0, length_s, BURST)
    for begin in range(0, len(firsts), _TURN):
        with store.turn("pets", "cam0") as turn:
            for first_s in firsts[begin : begin + _TURN]:
                turn.keep(entry_of(policy, text, "cam0", first_s // BURST, scene, chance))
            admitted = turn.admit(1 << 62)
            assert admitted is not None
            start = turn.rewind(admitted.oldest_us)
            turn.settle(start, refold(turn.observations(start), start, turn.policy, admitted.newest_us))


class _Timed:
    """An application whose answers say in CPU_US how much CPU their thread took."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        began_s = time.thread_time()

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            took_us = round(1e6 * (time.thread_time() - began_s))
            return start_response(status, [*headers, (CPU_US, str(took_us))], *more)

        return self._app(environ, start)


def serve(folder: Path) -> None:
    """The server, until it is ended."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def app(settings: ServerSettings) -> Flask:
        made = create_app(settings, ensemble=BrightnessEnsemble(), channels=[])
        made.wsgi_app = _Timed(made.wsgi_app)  # type: ignore[method-assign]
        sys.stdout.write(f"ready {port} 0\n")
        sys.stdout.flush()
        return made

    host(ServerSettings(data_dir=folder, log_level="warning", threads=48), listener, app)


def _pictures(chance: random.Random) -> list[bytes]:
    pictures = []
    for _ in range(BURST):
        out = io.BytesIO()
        Image.frombytes("L", (64, 48), chance.randbytes(64 * 48)).save(out, "JPEG")
        pictures.append(out.getvalue())
    return pictures


def send(port: int, camera: str, at_us: int, images: Sequence[bytes]) -> float:
    """Upload one burst; the seconds that it took."""
    return upload(port, camera, at_us, images).elapsed.total_seconds()


def upload(port: int, camera: str, at_us: int, images: Sequence[bytes]) -> requests.Response:
    """Upload one burst; the answer to it."""
    envelope = {
        "burst_id": f"{camera}-{at_us}",
        "site": "pets",
        "camera": camera,
        "captured_at": instant(at_us).isoformat(),
        "offsets_ms": [1000 * i for i in range(len(images))],
        "frame_sha256": [hashlib.sha256(image).hexdigest() for image in images],
    }
    files = [("file", (f"{i}.jpg", image, "image/jpeg")) for i, image in enumerate(images)]
    burst = ("burst", (None, msgspec.json.encode(envelope), "application/json"))
    answer = requests.post(f"http://127.0.0.1:{port}/v1/bursts", files=[burst, *files], timeout=60)
    answer.raise_for_status()
    return answer


class Others:
    """Uploads of the other cameras, one a second each, until they are stopped."""

    def __init__(self, port: int, cameras: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._took: list[tuple[float, float]] = []
        self._pool = ThreadPoolExecutor(cameras)
        self._senders = [self._pool.submit(self._send, f"cam{1 + number}", number) for number in range(cameras)]

    def _send(self, camera: str, seed: int) -> None:
        chance = random.Random(seed)
        self._stop.wait(chance.uniform(0, _PERIOD_S))
        while not self._stop.is_set():
            images, now = _pictures(chance), time.time()
            took_s = send(self._port, camera, round((now - BURST) * SECOND_US), images)
            self._took.append((now, took_s))
            self._stop.wait(max(0.0, _PERIOD_S - (time.time() - now)))

    def since(self, began: float) -> list[float]:
        return [took_s for at, took_s in self._took if at >= began]

    def stop(self) -> None:
        self._stop.set()
        for sender in self._senders:
            sender.result()
        self._pool.shutdown()


def _spread(took: Sequence[float]) -> str:
    ordered = sorted(took)
    p50, p99 = (1000 * ordered[min(len(ordered) - 1, round(share * len(ordered)))] for share in (0.5, 0.99))
    return f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, longest {1000 * ordered[-1]:.0f} ms of {len(ordered)}"


def measured(folder: Path, days: float, cameras: int, stays: bool, past: Path | None) -> Iterator[str]:
    database = folder / "sectorwatch.sqlite"
    is_made = past is not None and past.exists()
    if past is not None and is_made:
        shutil.copy(past, database)
    store = open_store(f"sqlite:///{database}")
    store.upgrade()
    (folder / "sites").mkdir()
    (folder / "sites" / "pets.toml").write_text(site(cameras + 1), encoding="utf-8")
    began, length_s = time.monotonic(), round(days * DAY_S)
    if not is_made:
        fill(store, length_s, SCENES["stays"] if stays else _WALKS, cameras + 1)
        yield f"{days:g} days of one camera made in {time.monotonic() - began:.0f} s"
        if past is not None:
            store.backup(past)
    chance = random.Random(1)
    with Hosted("tests.benchmarks.past.late_burst", "--serve", str(folder), log=folder / "server.log") as server:
        others = Others(server.port, cameras)
        began = time.time()
        time.sleep(_QUIET_S)
        yield f"before: {_spread(others.since(began))}"
        began, next_us = time.time(), START_US + length_s * SECOND_US
        late_us = START_US + 3600 * SECOND_US + 500_000
        yield f"the late burst is answered in {1000 * send(server.port, 'cam0', late_us, _pictures(chance)):.0f} ms"
        while store.marked():
            send(server.port, "cam0", next_us, _pictures(chance))
            next_us += BURST * SECOND_US
            time.sleep(_PERIOD_S)
        yield f"the log is corrected after {time.time() - began:.1f} s"
        yield f"until then: {_spread(others.since(began))}"
        others.stop()
    with closing(store):
        late = store.kept(f"cam0-{late_us}")
        yield f"the late burst is {late.status}; as of {datetime.now(UTC):%Y-%m-%d}"


@click.command()
@click.option("--days", default=7.0, show_default=True, help="Length of the camera's past.")
@click.option("--cameras", default=10, show_default=True, help="Other cameras.")
@click.option("--stays", is_flag=True, help="Somebody is in view all the time.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to make the database, on a disk.")
@click.option("--past", type=click.Path(path_type=Path), help="A database of that past; made where there is none.")
@click.option("--serve", "served", type=click.Path(path_type=Path), hidden=True)
def main(days: float, cameras: int, stays: bool, folder: Path | None, past: Path | None, served: Path | None) -> None:
    """Measure, and print."""
    if served is not None:
        serve(served)
        return
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        for line in measured(Path(temporary), days, cameras, stays, past):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
