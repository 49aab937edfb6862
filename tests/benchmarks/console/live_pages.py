"""Live pages held open while bursts come in.

    python -m tests.benchmarks.console.live_pages [--minutes 60] [--open 30]

A real server (Gunicorn, SQLite, pictures kept, an ensemble that answers at once) takes bursts of ten cameras, one each
every five seconds. Somebody is in view of each camera for ten of every fifty seconds. The open pages show the day. As
those of browsers, each loads the whole page once, keeps its cookie and its connection, asks for news three seconds
after the last answer, and two seconds after news asks for the live part of its day, with the number that it has heard.

First, rounds with and without open pages take turns: the CPU of the thread that answers an upload, which a busy machine
changes little, and how long uploads take. Then the pages stay open for so many minutes: memory that no file backs,
handles and threads of the server at the begin and after each sixth. `--open 0`: the same without a page, to compare.
"""

from __future__ import annotations

import html
import http.client
import io
import multiprocessing
import random
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import click
from PIL import Image

from server.domain.times.clock import SECOND_US
from server.store import open_store
from tests.benchmarks.past.late_burst import CPU_US, upload
from tests.benchmarks.serving.processes import Hosted, end_on_sigterm

FRAMES = 5
EVERY_S = 5.0
VISIT_BURSTS, PERIOD_BURSTS = 2, 10
_ASKED_EVERY_S, _LOADED_AFTER_S = 3.0, 2.0
_WARM_S = 30.0
_AFTER = re.compile(r'data-after="(\d+)"')
_HEARD = re.compile(r"^id: (\d+)\ndata:", re.MULTILINE)
_PART = re.compile(r'hx-get="([^"]+)"')


def _pictures(is_bright: bool, chance: random.Random) -> list[bytes]:
    """Pictures that all differ: the ensemble sees a person in bright ones."""
    pictures = []
    for _ in range(FRAMES):
        noise = Image.frombytes("L", (64, 48), chance.randbytes(64 * 48)).point(lambda level: level // 4)
        out = io.BytesIO()
        (noise.point(lambda level: level + 160) if is_bright else noise).save(out, "JPEG")
        pictures.append(out.getvalue())
    return pictures


class Upload(NamedTuple):
    """Seconds that an upload took: by the clock, and of CPU of the thread that answered it."""

    wall_s: float
    cpu_s: float


class Cameras:
    """Uploads of some cameras, until they are stopped."""

    def __init__(self, port: int, cameras: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._took: list[tuple[float, Upload]] = []
        self.failed = 0
        self._threads = [threading.Thread(target=self._send, args=(number, cameras)) for number in range(cameras)]
        for thread in self._threads:
            thread.start()

    def _send(self, number: int, cameras: int) -> None:
        chance, due_s = random.Random(number), time.monotonic() + EVERY_S * number / cameras
        for count in range(1_000_000_000):
            if self._stop.wait(max(0.0, due_s - time.monotonic())):
                return
            due_s += EVERY_S
            pictures = _pictures((count + number) % PERIOD_BURSTS < VISIT_BURSTS, chance)
            try:
                answer = upload(self._port, f"cam{number}", round((time.time() - FRAMES) * SECOND_US), pictures)
            except OSError:
                self.failed += 1
            else:
                took = Upload(answer.elapsed.total_seconds(), int(answer.headers[CPU_US]) / 1e6)
                self._took.append((time.monotonic(), took))

    def since(self, began_s: float) -> list[Upload]:
        return [took for at_s, took in self._took if at_s >= began_s]

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


class Pages(NamedTuple):
    """What open pages asked for: how long whole pages, live parts and news took (s), and what failed."""

    loaded: list[float]
    parts: list[float]
    asked: list[float]
    failed: list[str]


class Page:
    """An open page of the day, until `stop`."""

    def __init__(self, port: int, stop: threading.Event, seen: Pages) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._stop, self._seen = stop, seen
        self._cookie: dict[str, str] = {}
        self._address = ""
        self._heard = self._told = ""
        self._asks_s = 0.0
        self._changed_s: float | None = None

    def stay(self, delay_s: float) -> None:
        """Load the page, and keep it new."""
        rest_s = delay_s
        try:
            while not self._stop.wait(rest_s):
                rest_s = self._next()
        finally:
            self._connection.close()

    def _next(self) -> float:
        """Do what is due; how long nothing is due then (s)."""
        try:
            if not self._address:
                self._load()
            elif self._changed_s is not None and time.monotonic() >= self._changed_s:
                self._changed_s = None
                part = {"HX-Request": "true", "Last-Event-ID": self._heard}
                self._get(self._address, self._seen.parts, part)
                return max(0.0, self._asks_s - time.monotonic())
            else:
                self._ask()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self._seen.failed.append(str(error))
        self._asks_s = time.monotonic() + _ASKED_EVERY_S
        return _ASKED_EVERY_S if self._changed_s is None else max(0.0, self._changed_s - time.monotonic())

    def _load(self) -> None:
        page = self._get(f"/day/{datetime.now(UTC):%Y-%m-%d}?site=pets", self._seen.loaded, {})
        after, part = _AFTER.search(page), _PART.search(page)
        if after is None or part is None:
            raise OSError("the page has no live part")
        self._heard = self._told = after[1]
        self._address = html.unescape(part[1])

    def _ask(self) -> None:
        news = self._get(f"/live?site=pets&after={self._told}", self._seen.asked, {"Last-Event-ID": self._told})
        self._told = news.strip().rpartition("id: ")[2]
        if heard := _HEARD.findall(news):
            self._heard = heard[-1]
            self._changed_s = self._changed_s or time.monotonic() + _LOADED_AFTER_S

    def _get(self, path: str, took: list[float], headers: dict[str, str]) -> str:
        begun_s = time.monotonic()
        self._connection.request("GET", path, headers=self._cookie | headers)
        answer = self._connection.getresponse()
        text = answer.read().decode()
        if answer.status != HTTPStatus.OK:
            raise OSError(f"status {answer.status} for {path}")
        if cookie := answer.getheader("Set-Cookie"):
            self._cookie = {"Cookie": cookie.partition(";")[0]}
        took.append(time.monotonic() - begun_s)
        return text


def stay_open(port: int, pages: int, told: Connection) -> None:
    """Pages of the day that are open until `told` says to stop; it is sent what they asked for then."""
    stop, seen = threading.Event(), Pages([], [], [], [])
    delays_s = (each * _ASKED_EVERY_S / pages for each in range(pages))
    threads = [threading.Thread(target=Page(port, stop, seen).stay, args=(delay_s,)) for delay_s in delays_s]
    for thread in threads:
        thread.start()
    told.send(None)
    told.recv()
    stop.set()
    for thread in threads:
        thread.join()
    told.send(tuple(seen))


@contextmanager
def held_open(port: int, pages: int) -> Iterator[Pages]:
    """Pages that are open meanwhile, in a process of their own, so that they hold up nobody who sends bursts. What they
    asked for is there afterwards.
    """
    seen = Pages([], [], [], [])
    if not pages:
        yield seen
        return
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe()
    process = context.Process(target=stay_open, args=(port, pages, its), daemon=True)
    process.start()
    mine.recv()
    try:
        yield seen
    finally:
        mine.send(None)
        for known, more in zip(seen, mine.recv(), strict=True):
            known += more
        process.join()


class Round(NamedTuple):
    """The uploads of a round, and the server's CPU for a burst (s), with all that it did."""

    uploads: list[Upload]
    cpu_s: float


def taken(server: Hosted, cameras: Cameras, lasts_s: float) -> Round:
    """One round."""
    began_s, before_s = time.monotonic(), server.cpu_s()
    time.sleep(lasts_s)
    uploads = cameras.since(began_s)
    return Round(uploads, (server.cpu_s() - before_s) / max(1, len(uploads)))


def compared(server: Hosted, cameras: Cameras, pages: int, rounds: int, round_s: float) -> Iterator[str]:
    """Rounds without and with open pages, in turns."""
    found: dict[bool, list[Round]] = {False: [], True: []}
    for number in range(2 * rounds):
        if number % 2 == 0:
            found[False].append(taken(server, cameras, round_s))
            continue
        with held_open(server.port, pages):
            time.sleep(_ASKED_EVERY_S)  # all are open
            found[True].append(taken(server, cameras, round_s))
    for is_open, name in ((False, "no page open"), (True, f"{pages} pages open")):
        uploads = [each for some in found[is_open] for each in some.uploads]
        wall_ms, own_ms = (sorted(1000 * each[place] for each in uploads) for place in range(2))
        cpu_ms = 1000 * statistics.median(each.cpu_s for each in found[is_open])
        yield (
            f"{name}: {len(uploads)} uploads; CPU of each: mean {statistics.mean(own_ms):.2f} ms, "
            f"median {statistics.median(own_ms):.2f} ms; by the clock: p50 {statistics.median(wall_ms):.1f} ms, "
            f"p95 {wall_ms[round(0.95 * (len(wall_ms) - 1))]:.1f} ms; "
            f"{cpu_ms:.1f} ms of the server's CPU a burst, pages included"
        )
    for place, what in enumerate(("by the clock", "of CPU")):
        ratios = [
            statistics.median(each[place] for each in b.uploads) / statistics.median(each[place] for each in a.uploads)
            for a, b in zip(found[False], found[True], strict=True)
        ]
        shown = ", ".join(f"{ratio:.3f}" for ratio in sorted(ratios))
        yield f"median {what} with over without, by pairs of rounds: {statistics.median(ratios):.3f} of {shown}"


def kept_open(server: Hosted, cameras: Cameras, pages: int, minutes: float) -> Iterator[str]:
    """What the server takes while pages stay open."""
    with held_open(server.port, pages) as seen:
        time.sleep(_WARM_S)
        began_s, first_mb = time.monotonic(), server.own_mb()
        for sixth in range(7):
            time.sleep(max(0.0, began_s + sixth * 10 * minutes - time.monotonic()))
            memory_mb = server.own_mb()
            yield (
                f"after {sixth * minutes / 6:.1f} min: {memory_mb:.1f} MB ({memory_mb / first_mb:.3f} of the first), "
                f"{server.handles()} handles, {server.threads()} threads; {len(cameras.since(began_s))} bursts"
            )
    loaded_ms, part_ms, asked_ms = (1000 * statistics.median(each or [0.0]) for each in seen[:3])
    yield (
        f"{len(seen.loaded)} whole pages, p50 {loaded_ms:.0f} ms; {len(seen.parts)} live parts, p50 {part_ms:.1f} ms; "
        f"{len(seen.asked)} answers of news, p50 {asked_ms:.1f} ms; "
        f"failed: {len(seen.failed)} pages, {cameras.failed} bursts"
    )


@click.command()
@click.option("--minutes", default=60.0, show_default=True, help="How long the pages stay open.")
@click.option("--open", "pages", default=30, show_default=True, help="Open pages.")
@click.option("--cameras", "count", default=10, show_default=True)
@click.option("--rounds", default=20, show_default=True, help="Pairs of rounds without and with open pages.")
@click.option("--round-s", default=15.0, show_default=True, help="Length of a round.")
def main(minutes: float, pages: int, count: int, rounds: int, round_s: float) -> None:
    """Measure, and print."""
    end_on_sigterm()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "sites").mkdir()
        (folder / "sites" / "pets.toml").write_text('site = "pets"\n', encoding="utf-8")
        store = open_store(f"sqlite:///{folder}/sectorwatch.sqlite")
        store.upgrade()
        store.close()
        with Hosted("tests.benchmarks.past.late_burst", "--serve", str(folder), log=folder / "server.log") as server:
            cameras = Cameras(server.port, count)
            try:
                time.sleep(_WARM_S)
                for line in compared(server, cameras, pages, rounds, round_s) if rounds else ():
                    click.echo(line)
                for line in kept_open(server, cameras, pages, minutes):
                    click.echo(line)
            finally:
                cameras.stop()
        log = (folder / "server.log").read_text(encoding="utf-8")
        click.echo(f"{log.count(' warning ')} warnings, {log.count('Traceback')} tracebacks in the server's log")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
