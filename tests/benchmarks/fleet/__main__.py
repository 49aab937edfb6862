"""A fleet of simulated cameras against real servers and a real database: `python -m tests.benchmarks.fleet`.

    python -m tests.benchmarks.fleet [--cameras 1000] [--servers 2] [--minutes 2] [--database postgresql]

Cameras send bursts that the agent's own code makes and sends, over the real wire to real servers (Gunicorn, one process
each) on SQLite or on a PostgreSQL of our own, as fast as the servers take them over `--at-once` connections. On SQLite
each camera has sent a burst before anything is measured; on PostgreSQL all have a past of `--past` bursts. The
ensemble is an engine that answers from recorded labels: `recorded` says which. `--busy-share` of the stretches of four
bursts show somebody, `--crowd-share` of these a crowd. Measured: CPU of servers and database for a burst, memory, bytes
kept and logged, what is waited for, and how late events leave.

Several `--cameras` and `--busy-share` give a run each. `--figures FILE` keeps them, a line of JSON for each;
`python -m tests.benchmarks.fleet.cost FILE` fits the cost model to them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import click
import msgspec

from tests.benchmarks.fleet.cameras import Activity
from tests.benchmarks.fleet.filling import fill
from tests.benchmarks.fleet.place import prepare
from tests.benchmarks.fleet.recorded import BURST
from tests.benchmarks.fleet.running import Plan, run
from tests.benchmarks.serving.processes import end_on_sigterm
from tests.server import databases

_OPTIONS = (
    "-c max_connections=100",
    "-c shared_buffers=512MB",
    "-c max_wal_size=4GB",
    "-c checkpoint_timeout=15min",
)
"""Of PostgreSQL: its own defaults would write every page again, every five minutes."""


_WARM = 100
"""Bursts before anything is measured, where the cameras have a past."""


@contextmanager
def new_database(name: str, folder: Path) -> Iterator[str]:
    """URL of an empty database of a kind; PostgreSQL writes to the disk before it answers."""
    if name == "sqlite":
        yield f"sqlite:///{folder}/sectorwatch.sqlite"
        return
    with databases.durable_database(*_OPTIONS) as (_, url):
        yield url


@click.command(help=__doc__)
@click.option("--cameras", default=[1000], show_default=True, multiple=True, help="Registered; all of them send.")
@click.option("--servers", default=2, show_default=True)
@click.option("--minutes", default=2.0, show_default=True, help="Of each run.")
@click.option("--database", type=click.Choice(databases.NAMES), default="postgresql", show_default=True)
@click.option("--engine-images-per-s", default=0.0, show_default=True, help="Of each server; 0: it answers at once.")
@click.option("--busy-share", "busy", default=[0.1], show_default=True, multiple=True)
@click.option("--crowd-share", "crowd", default=0.2, show_default=True, help="Of the busy ones.")
@click.option("--frames", default=BURST, show_default=True, type=click.IntRange(1, BURST), help="Of a burst.")
@click.option("--every-s", default=10.0, show_default=True, help="From burst to burst, by the clock of the data.")
@click.option("--at-once", default=16, show_default=True, help="Connections.")
@click.option("--past", default=30, show_default=True, help="Bursts of each camera before, on PostgreSQL.")
@click.option("--keep-frames", type=click.Choice(["events", "none"]), default="events", show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where to keep files of the run, on a disk.")
@click.option("--figures", type=click.Path(path_type=Path), help="File to add the figures to.")
def main(
    cameras: Sequence[int],
    servers: int,
    minutes: float,
    database: str,
    engine_images_per_s: float,
    busy: Sequence[float],
    crowd: float,
    frames: int,
    every_s: float,
    at_once: int,
    past: int,
    keep_frames: str,
    folder: Path | None,
    figures: Path | None,
) -> None:
    end_on_sigterm()
    if database == "sqlite" and servers > 1:
        raise click.UsageError("SQLite is for one server: add --servers 1")
    click.echo(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    for count, share in product(cameras, busy):
        plan = Plan(
            cameras=count,
            servers=servers,
            seconds=60 * minutes,
            activity=Activity(share, crowd, frames, every_s),
            at_once=at_once,
            images_per_s=engine_images_per_s,
            warm=count if database == "sqlite" else min(count, _WARM),
            first=0 if database == "sqlite" else past,
            keeping={"keep_frames": keep_frames},
        )
        with tempfile.TemporaryDirectory(dir=folder) as temporary, new_database(database, Path(temporary)) as url:
            run_folder = Path(temporary) / "run"
            places = prepare(run_folder, url, count)
            if plan.first:
                fill(url, places, plan.first, plan.activity, plan.begin_ms)
            measured = run(plan, places, url, run_folder)
        for line in measured.lines():
            click.echo(line)
        if figures is not None:
            with figures.open("ab") as file:
                file.write(msgspec.json.encode(measured) + b"\n")


if __name__ == "__main__":
    main()
