"""How soon commands answer over a long past: `python -m tests.benchmarks.long_past [--frames 5000000] [--keep FOLDER]`.

A database of twenty cameras, one frame a second in bursts of ten. Each hour somebody crosses the view, through the
store's own turns; the bursts between are quiet, and are written as records many at a time, as turns would leave them.
Then each command runs as a process of its own, in turn with one that only starts (`--help`). The figures are medians of
what it takes beyond that start, by the clock and of CPU.
"""

from __future__ import annotations

import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import click
from sqlalchemy import insert, select

from policies.site.site_policy import SitePolicy, parse_site_policy
from server.domain.records import Entry
from server.store import Store, open_store
from server.store.bursts.burst_log import read_camera
from server.store.bursts.packing import Loose, pack, split_id
from server.store.engine import writing
from server.store.schema import burst_records, contexts
from tests.benchmarks.replay import BURST
from tests.benchmarks.storage import QUIET, SITES, WALK, entry_of, run_turn

HOUR_BURSTS = 360


def fill(store: Store, text: str, frames: int) -> None:
    policy = parse_site_policy(text)
    each = frames // BURST // len(policy.cameras)
    for camera in policy.cameras:
        chance = random.Random(camera)
        for first in range(0, each, HOUR_BURSTS):
            _walk(store, policy, text, camera, first, chance)
            _rest(store, policy, text, camera, range(first + 3, min(first + HOUR_BURSTS, each)), chance)


def _walk(store: Store, policy: SitePolicy, text: str, camera: str, first: int, chance: random.Random) -> None:
    """Somebody crosses the view in two bursts; a quiet one follows."""
    for number, scene in enumerate((WALK, WALK, QUIET), first):
        run_turn(store, entry_of(policy, text, camera, number, scene, chance))


def _rest(store: Store, policy: SitePolicy, text: str, camera: str, numbers: range, chance: random.Random) -> None:
    """Quiet bursts, as records."""
    with writing(store._engine, lock=f"pets/{camera}") as connection:
        known = read_camera(connection, "pets", camera)
        assert known is not None
        mine = select(contexts.c.number).where(contexts.c.camera == known.number)
        columns = {"camera": known.number, "context": connection.execute(mine).scalar_one()}
        entries = (entry_of(policy, text, camera, number, QUIET, chance, is_judged=False) for number in numbers)
        connection.execute(insert(burst_records), [_row(entry) | columns for entry in entries])


def _row(entry: Entry) -> dict[str, object]:
    seen, burst = entry.observations, entry.burst
    loose = Loose(
        captured_at_us=burst.captured_at_us,
        received_at_us=entry.received_at_us,
        sent_at_us=None,
        monotonic_ms=burst.clock.monotonic_ms,
        image_bytes=sum(len(frame.image) for frame in burst.frames),
        digest=burst.digest,
        decisions=entry.decisions,
    )
    return {
        "id_key": split_id(burst.burst_id)[0],
        "first_at_us": seen[0].at_us,
        "lasts_us": seen[-1].at_us - seen[0].at_us,
        "is_held": 0,
        "late": 0,
        "record": pack(loose, seen),
    }


def commands(store: Store) -> dict[str, list[str]]:
    """What is asked: the last two hours of all cameras, an event of one of them, the minute in which it began."""
    event = store.begun(site="pets", camera="cam7", backwards=True, limit=9)[-1].event
    begun = event.started_at
    since = (begun - timedelta(hours=2)).isoformat()
    return {
        "events": ["events", "--since", since],
        "events --json": ["events", "--json", "--since", since],
        "explain": ["explain", "--camera", "cam7", "--at", begun.isoformat()],
        "verify": ["verify", event.id],
        "cameras": ["cameras"],
    }


class Took(NamedTuple):
    """Seconds by the clock, and of CPU."""

    wall_s: float
    cpu_s: float


def answered(folder: Path, arguments: list[str], *, only_start: bool = False) -> Took:
    """What a process takes for a command; with `only_start`, to print its help, with everything imported.

    `cameras` is what GET /v1/cameras reads.
    """
    call = [sys.executable, "-m", "server", *arguments, "--data-dir", str(folder)]
    if only_start:
        call = [*call[:4], "--help"]
    if arguments == ["cameras"]:
        read = "" if only_start else _CAMERAS.format(url=f"sqlite:///{folder}/sectorwatch.sqlite")
        call = [sys.executable, "-c", f"import server.commands.events\n{read}"]
    begun_s, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(call, check=True, stdout=subprocess.DEVNULL, timeout=300)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(time.monotonic() - begun_s, cpu_s)


_CAMERAS = """
from server.store import open_store
store = open_store("{url}")
assert store.heartbeats.activities() and store.cameras()
"""


def measured(folder: Path, asked: dict[str, list[str]], rounds: int) -> Iterator[str]:
    starts: dict[str, list[Took]] = {name: [] for name in asked}
    taken: dict[str, list[Took]] = {name: [] for name in asked}
    for _ in range(rounds):
        for name, arguments in asked.items():
            starts[name].append(answered(folder, arguments, only_start=True))
            taken[name].append(answered(folder, arguments))
    for name in asked:
        wall_ms, cpu_ms = (
            1000 * (statistics.median(each[i] for each in taken[name]) - statistics.median(s[i] for s in starts[name]))
            for i in range(2)
        )
        start_s = statistics.median(each.wall_s for each in starts[name])
        yield f"{name}: {wall_ms:.0f} ms beyond a start of {start_s:.2f} s; {cpu_ms:.0f} ms of CPU beyond it"


@click.command()
@click.option("--frames", default=5_000_000, show_default=True, help="Of all twenty cameras.")
@click.option("--rounds", default=7, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Folder to make the database in, or to find it in.")
def main(frames: int, rounds: int, keep: Path | None) -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        file = folder / "sectorwatch.sqlite"
        is_made = file.exists()
        store = open_store(f"sqlite:///{file}")
        store.upgrade()
        if not is_made:
            fill(store, SITES["six sectors"], frames)
        asked = commands(store)
        store.close()
        for line in measured(folder, asked, rounds):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
