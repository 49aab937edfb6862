"""How soon commands answer over a long past.

    python -m tests.benchmarks.past.long_past [--frames 5000000] [--keep FOLDER]

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
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, insert, select, update

from policies.fold import REMEMBERED, State, decode_state, encode_state
from policies.site.site_policy import SitePolicy, parse_site_policy
from server.domain.pictures.kept_frames import Picture
from server.domain.records import Entry
from server.store import Store, open_store
from server.store.bursts.packing import Loose, Packed, joined_id, pack, split_id, unpack
from server.store.bursts.records import read_camera
from server.store.compact import pack_state
from server.store.engine import writing
from server.store.schema import burst_records, camera_states, checkpoints, contexts
from tests.benchmarks.past.replay import BURST, START_US
from tests.benchmarks.past.storage import BURST_S, QUIET, SITES, WALK, entry_of, run_turn, uuid7

HOUR_BURSTS = 360
HALF_HOUR_BURSTS = HOUR_BURSTS // 2
WALK_BURSTS = 2
QUIET_BURSTS = 7


Images = Callable[[], list[bytes]]
"""Makes the pictures of a burst."""


def fill(store: Store, text: str, frames: int, every: int = HOUR_BURSTS, images: Images | None = None) -> None:
    """Bursts of each camera; after so many of them (`every`) somebody crosses the view. `images`: the pictures of these
    bursts, which are kept.
    """
    policy = parse_site_policy(text)
    each = frames // BURST // len(policy.cameras)
    for camera in policy.cameras:
        chance = random.Random(camera)
        for first in range(0, each, every):
            _walk(store, policy, text, camera, first, chance, images)
            numbers = range(first + WALK_BURSTS + QUIET_BURSTS, min(first + every, each))
            if numbers:
                _rest(store, policy, text, camera, numbers, chance)


def _walk(
    store: Store,
    policy: SitePolicy,
    text: str,
    camera: str,
    first: int,
    chance: random.Random,
    images: Images | None,
) -> None:
    """Somebody crosses the view; then it is quiet until nobody is followed any more."""
    for number, scene in enumerate([WALK] * WALK_BURSTS + [QUIET] * QUIET_BURSTS, first):
        own = [] if images is None else images()
        entry = entry_of(policy, text, camera, number, scene, chance, images=own)
        run_turn(store, entry)
        if own:
            store.frames.keep(
                [
                    Picture(seen.site, seen.camera, seen.at_us, seen.frame_sha256, image, seen.brightness)
                    for seen, image in zip(entry.observations, own, strict=True)
                ]
            )


def _rest(store: Store, policy: SitePolicy, text: str, camera: str, numbers: range, chance: random.Random) -> None:
    """Quiet bursts, as records like that of one of them, with the state at the end of each half hour and after them."""
    entry = entry_of(policy, text, camera, numbers[-1], QUIET, chance)
    seen, record = entry.observations, unpack(_record(entry))
    mine = (camera_states.c.site == "pets", camera_states.c.camera == camera)
    with writing(store._engine, lock=f"pets/{camera}") as connection:
        known = read_camera(connection, "pets", camera)
        assert known is not None
        (before,) = connection.execute(select(camera_states.c.state).where(*mine)).scalars()
        assert decode_state(before).is_empty
        context = select(contexts.c.number).where(contexts.c.camera == known.number)
        shared: dict[str, Any] = {
            "camera": known.number,
            "context": connection.execute(context).scalar_one(),
            "lasts_us": seen[-1].at_us - seen[0].at_us,
            "is_held": 0,
            "late": 0,
        }
        rows = [_row(record, number, chance) for number in numbers[:-1]]
        connection.execute(insert(burst_records), [shared | row for row in rows])
        _add_checkpoints(connection, camera, rows[HALF_HOUR_BURSTS::HALF_HOUR_BURSTS], shared["lasts_us"])
        run = {"id_key": split_id(seen[0].burst_id)[0], "first_at_us": seen[0].at_us, "record": _record(entry)}
        connection.execute(insert(burst_records), shared | run)
        hashes = tuple(frame.frame_sha256 for frame in seen[-REMEMBERED:])
        last = seen[-1]
        state = encode_state(State(last.at_us, (last.burst_id, last.index), hashes, last.at_us)).decode()
        connection.execute(update(camera_states).where(*mine).values(last_at_us=last.at_us, state=state))


def _add_checkpoints(connection: Connection, camera: str, rows: list[dict[str, Any]], lasts_us: int) -> None:
    """The states after some quiet bursts. The thinning of checkpoints leaves one of each half hour."""
    states: list[dict[str, object]] = []
    for row in rows:
        packed, at_us = unpack(row["record"]), row["first_at_us"] + lasts_us
        last = (joined_id(row["id_key"], packed.id_rest), packed.frames - 1)
        state = State(at_us, last, tuple(packed.frame_sha256[-REMEMBERED:]), at_us)
        states.append({"site": "pets", "camera": camera, "at_us": at_us, "state": pack_state(encode_state(state))})
    if states:
        connection.execute(insert(checkpoints), states)


def _record(entry: Entry) -> bytes:
    burst = entry.burst
    loose = Loose(
        captured_at_us=burst.captured_at_us,
        received_at_us=entry.received_at_us,
        sent_at_us=None,
        monotonic_ms=burst.clock.monotonic_ms,
        image_bytes=sum(len(frame.image) for frame in burst.frames),
        digest=burst.digest,
        decisions=entry.decisions,
    )
    return pack(loose, entry.observations)


def _row(like: Packed, number: int, chance: random.Random) -> dict[str, Any]:
    """A burst with other frames at another time; its digest is none."""
    captured_us = START_US + number * BURST_S * 1_000_000
    id_key, id_rest = split_id(uuid7(captured_us // 1000, chance))
    record = replace(like, id_rest=id_rest, hashes=chance.randbytes(len(like.hashes)), digest=chance.randbytes(8))
    return {"id_key": id_key, "first_at_us": captured_us + like.lead_us, "record": msgspec.msgpack.encode(record)}


def commands(store: Store) -> dict[str, list[str]]:
    """What is asked: the newest lines, the last two hours of all cameras, an event of one of them, the minute in which
    it began.
    """
    event = store.begun(site="pets", camera="cam7", backwards=True, limit=9)[-1].event
    begun = event.started_at
    since = (begun - timedelta(hours=2)).isoformat()
    return {
        "events": ["events"],
        "events of two hours": ["events", "--since", since],
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
