"""How soon pages of the console are drawn: `python -m tests.benchmarks.console.pages [--keep FOLDER] [--browser]`.

A database of fifty cameras with the observations of 5 million frames and 200,000 events: that of `long_past`, whose
events are copied to other instants. The bursts in which somebody is there have pictures, 22,500 in all, which are kept.
A server of its own answers each page by its address, again and again, while bursts go on arriving. Its clock stands at
the newest frame and goes on. The first time a page is asked for, nothing of its day is remembered. `--open` pages are
open besides, and ask for news as browsers do. `--browser`: Chromium draws the pages, with all that they load.
"""

from __future__ import annotations

import io
import random
import socket
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import click
from PIL import Image
from sqlalchemy import func, insert, select, update

from policies.events import instant
from policies.site.site_policy import parse_site_policy
from server.app import create_app
from server.frames import open_place
from server.hosting.gunicorn_app import host
from server.settings import ServerSettings
from server.store import Store, open_store
from server.store.engine import writing
from server.store.schema import counters, events
from tests.benchmarks.past.long_past import HOUR_BURSTS, fill
from tests.benchmarks.past.replay import BURST, site
from tests.benchmarks.past.storage import QUIET, WALK, entry_of, run_turn
from tests.benchmarks.serving.processes import Hosted, end_on_sigterm
from tests.browser import chromium
from tests.server.web_client import BrightnessEnsemble

BURSTS_A_S = 5.0
"""Bursts that arrive meanwhile; every tenth shows somebody."""


def add_events(store: Store, wanted: int, chance: random.Random) -> None:
    """Copy events to other instants, until there are as many as wanted."""
    with writing(store._engine, lock="pets") as connection:
        rows = [dict(row._mapping) for row in connection.execute(select(events)).all()]
        seq = connection.execute(select(func.max(events.c.seq))).scalar_one()
        first_us, last_us = min(row["started_at_us"] for row in rows), max(row["confirmed_at_us"] for row in rows)
        copies: list[dict[str, object]] = []
        while len(rows) + len(copies) < wanted:
            shift_us = chance.randrange(last_us - first_us) - (last_us - first_us) // 2
            start = chance.randrange(len(rows) - 20)
            for row in rows[start : start + 20]:  # events that belong together stay so
                if first_us <= row["started_at_us"] + shift_us and row["confirmed_at_us"] + shift_us <= last_us:
                    moved = {name: row[name] + shift_us for name in ("started_at_us", "confirmed_at_us")}
                    copies.append(row | moved | {"id": chance.randbytes(16).hex()})
        copies.sort(key=lambda copy: copy["confirmed_at_us"])  # type: ignore[arg-type,return-value]
        for copy in copies:  # a log is written in order of time
            seq += 1
            copy["seq"] = seq
        for at in range(0, len(copies), 500):
            connection.execute(insert(events), copies[at : at + 500])
        connection.execute(update(counters).where(counters.c.name == "outbox").values(value=seq))


def images_of_bursts(chance: random.Random) -> Callable[[], list[bytes]]:
    """Makes ten pictures of a yard, 320 pixels wide, some 9 kB each. No two are alike: each has its own comment."""
    yards = []
    for _ in range(20):
        noise = Image.frombytes("L", (40, 30), chance.randbytes(1200)).resize((320, 240), Image.Resampling.BICUBIC)
        out = io.BytesIO()
        Image.merge("RGB", (noise, noise.transpose(Image.Transpose.ROTATE_180), noise)).save(out, "JPEG", quality=70)
        yards.append(out.getvalue())

    def images() -> list[bytes]:
        chosen = chance.sample(yards, BURST)
        return [yard[:2] + b"\xff\xfe\x00\x0a" + chance.randbytes(8) + yard[2:] for yard in chosen]

    return images


def made(folder: Path, cameras: int, frames: int, wanted: int) -> None:
    """The database and the policy of its site, unless they are there."""
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "sites").mkdir(exist_ok=True)
    text = site(cameras)
    (folder / "sites" / "pets.toml").write_text(text, encoding="utf-8")
    file = folder / "sectorwatch.sqlite"
    is_made = file.exists()
    store = open_store(f"sqlite:///{file}", place=open_place(str(folder / "frames")))
    store.upgrade()
    if not is_made:
        fill(store, text, frames, 6 * HOUR_BURSTS, images_of_bursts(random.Random(3)))
        add_events(store, wanted, random.Random(1))
    store.close()


def serve(folder: Path) -> None:
    """A server whose clock begins at the newest frame."""
    store = open_store(f"sqlite:///{folder}/sectorwatch.sqlite")
    newest_us, began_ns = max(head.last_at_us for head in store.cameras()), time.monotonic_ns()
    store.close()
    listener = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"ready {listener.getsockname()[1]}\n")
    sys.stdout.flush()
    host(
        ServerSettings(data_dir=folder),
        listener,
        lambda settings: create_app(
            settings,
            ensemble=BrightnessEnsemble(),
            channels=[],
            clock=lambda: newest_us + (time.monotonic_ns() - began_ns) // 1000,
        ),
    )


@contextmanager
def arriving(folder: Path) -> Iterator[list[float]]:
    """Bursts that arrive meanwhile, by the store's own turns; how long each took (s)."""
    store = open_store(f"sqlite:///{folder}/sectorwatch.sqlite")
    text = (folder / "sites" / "pets.toml").read_text(encoding="utf-8")
    policy, chance, stop = parse_site_policy(text), random.Random(2), threading.Event()
    took: list[float] = []

    def send() -> None:
        numbers = {head.camera: (head.last_at_us // 1_000_000) for head in store.cameras()}
        first = entry_of(policy, text, next(iter(numbers)), 0, QUIET, chance).observations[0].at_us // 1_000_000
        for count in range(1_000_000):
            camera = list(numbers)[count % len(numbers)]
            numbers[camera] += BURST
            entry = entry_of(
                policy, text, camera, (numbers[camera] - first) // BURST + 1, QUIET if count % 10 else WALK, chance
            )
            begun_s = time.monotonic()
            run_turn(store, entry)
            took.append(time.monotonic() - begun_s)
            if stop.wait(1 / BURSTS_A_S):
                return

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield took
    finally:
        stop.set()
        thread.join()
        store.close()


@contextmanager
def watching(port: int, pages: int) -> Iterator[list[float]]:
    """Open pages, each of which asks for news every three seconds; how long each answer took (s)."""
    stop, took = threading.Event(), list[float]()

    def ask(delay_s: float) -> None:
        stop.wait(delay_s)
        after = "0"
        while not stop.wait(3):
            begun_s = time.monotonic()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/live?after={after}", timeout=60) as answer:
                after = answer.read().decode().strip().rpartition("id: ")[2]
            took.append(time.monotonic() - begun_s)

    threads = [threading.Thread(target=ask, args=(each * 3 / pages,)) for each in range(pages)]
    for thread in threads:
        thread.start()
    try:
        yield took
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def addresses(folder: Path) -> dict[str, str]:
    """The pages, each with an address. Others join here."""
    store = open_store(f"sqlite:///{folder}/sectorwatch.sqlite")
    newest = instant(max(head.last_at_us for head in store.cameras()))
    event = store.begun(site="pets", camera="cam7", kind="entered", backwards=True, limit=1)[0].event
    store.close()
    day = f"/day/{newest.date()}?site=pets"
    before = f"/day/{instant(round(newest.timestamp() * 1e6) - 86_400_000_000).date()}?site=pets"
    return {
        "the newest day": day,
        "the day before": before,
        "a camera's day": f"{day}&camera=cam7",
        "the newest day as JSON": f"/v1{day}",
        "now": "/now?site=pets",
        "sectors": "/sectors/pets/cam7",
        "tune": "/tune",
        "why": f"/why?site=pets&camera=cam7&at={newest:%H:%M}",
        "models": "/models?site=pets",
        "an event": f"/events/{event.id}",
    }


Draw = Callable[[str], float]
"""Asks for a page by its address; how long it took (ms)."""


@contextmanager
def browsing(port: int) -> Iterator[Draw]:
    """A Chromium that draws pages, each in a window of its own, until all is loaded that it shows at first."""
    with chromium.launched() as browser:

        def drawn(address: str) -> float:
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            begun_s = time.monotonic()
            page.goto(f"http://127.0.0.1:{port}{address}", wait_until="load", timeout=120_000)
            took_ms = 1000 * (time.monotonic() - begun_s)
            page.close()
            return took_ms

        yield drawn


def drawn_ms(port: int, address: str) -> float:
    begun_s = time.monotonic()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{address}", timeout=120) as answer:
        answer.read()
    return 1000 * (time.monotonic() - begun_s)


@click.command()
@click.option("--cameras", default=50, show_default=True)
@click.option("--frames", default=5_000_000, show_default=True, help="Of all cameras.")
@click.option("--events", "wanted", default=200_000, show_default=True)
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(min=2))
@click.option("--open", "open_pages", default=30, show_default=True, help="Pages that ask for news meanwhile.")
@click.option("--browser", "by_browser", is_flag=True, help="Have Chromium draw the pages.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder to make the database in, or to find it in.")
@click.option("--serve", "served", type=click.Path(path_type=Path), hidden=True)
def main(
    cameras: int,
    frames: int,
    wanted: int,
    rounds: int,
    open_pages: int,
    by_browser: bool,
    keep: Path | None,
    served: Path | None,
) -> None:
    """Measure, and print."""
    end_on_sigterm()
    if served is not None:
        serve(served)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        made(folder, cameras, frames, wanted)
        log = Path(temporary) / "server.log"
        with Hosted("tests.benchmarks.console.pages", "--serve", str(folder), log=log) as server:
            plain: Draw = partial(drawn_ms, server.port)
            with browsing(server.port) if by_browser else nullcontext(plain) as draw:
                for line in measured(server, folder, rounds, open_pages, draw):
                    sys.stdout.write(line + "\n")
                    sys.stdout.flush()


def measured(server: Hosted, folder: Path, rounds: int, open_pages: int, draw: Draw) -> Iterator[str]:
    draw("/sign-in")
    with arriving(folder) as turns, watching(server.port, open_pages) as asked:
        for name, address in addresses(folder).items():
            before_s = server.cpu_s()
            first_ms, first_cpu_ms = draw(address), 1000 * (server.cpu_s() - before_s)
            before_s = server.cpu_s()
            others = [draw(address) for _ in range(rounds - 1)]
            cpu_ms = 1000 * (server.cpu_s() - before_s) / len(others)
            usual_ms, most_ms = statistics.median(others), max(others)
            times = f"{first_ms:.0f} ms the first time, then {usual_ms:.0f} ms (at most {most_ms:.0f})"
            yield f"{name}: {times}; the server's CPU, with what else it did: {first_cpu_ms:.0f}, then {cpu_ms:.0f} ms"
    yield f"{len(turns)} bursts arrived, each in {1000 * statistics.median(turns):.1f} ms"
    if asked:
        yield f"{len(asked)} answers of news, each in {1000 * statistics.median(asked):.1f} ms"
    yield f"the server took {server.peak_mb:.0f} MB at most"


if __name__ == "__main__":
    main()
