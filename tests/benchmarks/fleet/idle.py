"""What many cameras cost while none sends: `python -m tests.benchmarks.fleet.idle [--cameras 10000] [--servers 2]`.

Real servers on a PostgreSQL of our own, whose cameras have a past of `--past` bursts and a heartbeat that says that the
next burst is due in some hours. After `--rest` seconds, in which the servers read all policies and cameras for the
first time, CPU and memory are measured for `--seconds`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import click
import msgspec
from sqlalchemy import create_engine, insert, make_url

from policies.events import instant
from server.store.schema import heartbeats
from tests.benchmarks.fleet.__main__ import new_database
from tests.benchmarks.fleet.cameras import Activity
from tests.benchmarks.fleet.databases import looked_at
from tests.benchmarks.fleet.filling import fill
from tests.benchmarks.fleet.place import CameraPlace, prepare
from tests.benchmarks.serving.processes import Hosted, end_on_sigterm

_HOURS = 6


def hear(url: str, places: Sequence[CameraPlace]) -> None:
    """Give each camera a heartbeat of now."""
    now_us = time.time_ns() // 1000
    at, due = (instant(each).isoformat() for each in (now_us, now_us + _HOURS * 3_600_000_000))
    rows = []
    for place in places:
        agent = {
            "sent_at": at,
            "started_at": at,
            "every_s": 3600.0 * _HOURS,
            "version": "0.3.0",
            "boot_id": place.boot_id,
        }
        body = {"site": place.site, "camera": place.camera, "agent": agent, "state": "watching", "since": at}
        told = msgspec.json.encode(body | {"next_burst_by": due}).decode()
        times = dict.fromkeys(("started_at_us", "sent_at_us", "received_at_us"), now_us)
        rows.append({"site": place.site, "camera": place.camera, "body": told} | times)
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(insert(heartbeats), rows)
    engine.dispose()


def measured(
    url: str, folder: Path, cameras: int, servers: int, past: int, rest_s: float, seconds: float
) -> Iterator[str]:
    activity = Activity()
    places = prepare(folder, url, cameras)
    fill(url, places, past, activity, time.time_ns() // 1_000_000 - round(1000 * past * activity.every_s))
    hear(url, places)
    with ExitStack() as stack:
        database = stack.enter_context(closing(looked_at(url)))
        hosted = [
            stack.enter_context(
                Hosted("tests.benchmarks.fleet.server", str(folder), url, name, "0", "{}", log=folder / f"{name}.log")
            )
            for name in (f"server-{number}" for number in range(servers))
        ]
        time.sleep(rest_s)
        begun = [server.cpu_s() for server in hosted]
        database_s, begun_s = database.cpu_s(), time.monotonic()
        time.sleep(seconds)
        took_s = time.monotonic() - begun_s
        for number, server in enumerate(hosted):
            cpu = (server.cpu_s() - begun[number]) / took_s
            yield (
                f"server {number}: {1000 * cpu:.0f} ms of CPU a second ({begun[number]:.0f} s before), "
                f"{server.memory_mb():.0f} MB, {server.peak_mb:.0f} at most"
            )
        yield f"PostgreSQL: {1000 * (database.cpu_s() - database_s) / took_s:.0f} ms of CPU a second"


@click.command(help=__doc__)
@click.option("--cameras", default=10_000, show_default=True)
@click.option("--servers", default=2, show_default=True)
@click.option("--past", default=10, show_default=True, help="Bursts of each camera before.")
@click.option("--rest", default=120.0, show_default=True, help="Seconds before anything is measured.")
@click.option("--seconds", default=120.0, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where to keep files of the run, on a disk.")
def main(cameras: int, servers: int, past: int, rest: float, seconds: float, folder: Path | None) -> None:
    end_on_sigterm()
    with tempfile.TemporaryDirectory(dir=folder) as temporary, new_database("postgresql", Path(temporary)) as url:
        for line in measured(url, Path(temporary) / "run", cameras, servers, past, rest, seconds):
            click.echo(line)


if __name__ == "__main__":
    main()
