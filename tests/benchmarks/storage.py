"""What a burst costs on the disk: `python -m tests.benchmarks.storage [--crowd DATABASE] [--bursts 2000]`.

Bursts of ten frames go through the store's own turns, one burst to a turn, as a server makes them. `quiet`: the
detectors say nothing, `frame-change` says `still`. `one`: somebody is there. `crowd`: the frames of `--crowd`, a
database of the demonstration's footage, again and again. Each scene has a new database and a process of its own.

Kept: the growth of the tables over the second half of the bursts, for each frame; besides the records with their
indexes these are events, and checkpoints, which stop growing after some days. Written:
`write_bytes` of /proc/self/io over the same half (the log, its checkpoints and the file), for each burst. The folder
has to be on a disk: a file system in memory counts nothing.
"""

from __future__ import annotations

import multiprocessing
import random
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import click
import msgspec

from policies.fusion.judge import judge
from policies.observation import EnsembleInfo, Observation
from policies.site.site_policy import SitePolicy, parse_site_policy
from server.domain.burst import Agent, Burst, CameraClock, Frame, burst_digest
from server.domain.records import Entry
from server.domain.refold import refold
from server.store import Store, open_store
from tests.benchmarks.replay import _ENSEMBLE, _START_US, BURST, WALK_S, Answers, answers, site

CAMERAS = 20
DAY_BURSTS = CAMERAS * 24 * 360
"""Of twenty cameras, a burst each every ten seconds."""


def _quiet(_second: int, chance: random.Random) -> Answers:
    return answers(WALK_S, "empty", chance)


def _one(second: int, chance: random.Random) -> Answers:
    """Somebody who stays where he is; a walk across sectors costs its events besides."""
    return answers(WALK_S // 2 + second % 2, "empty", chance)


def _entry(
    policy: SitePolicy,
    text: str,
    camera: str,
    first_s: int,
    scene: Callable[[int, random.Random], Answers],
    info: EnsembleInfo,
    chance: random.Random,
) -> Entry:
    captured_us = _START_US + first_s * 1_000_000
    offsets_ms = [i * 1000 + (chance.randint(-20, 20) if i else 0) for i in range(BURST)]
    instants = [captured_us + offset * 1000 for offset in offsets_ms]
    hashes = [chance.randbytes(32).hex() for _ in instants]
    name = _uuid7(captured_us // 1000, chance)
    clock = CameraClock(
        boot_id="d481157a-7b4e-5d0c-a146-b48da05c6f9e", monotonic_ms=first_s * 1000 + chance.randint(0, 9)
    )
    seen = tuple(
        Observation(
            "pets",
            camera,
            name,
            i,
            at_us,
            info,
            scene(first_s + i, chance),
            hashes[i],
            uncertainty_s=clock.error_s,
            size=(768, 576),
            brightness=round(chance.uniform(0.4, 0.5), 4),
        )
        for i, at_us in enumerate(instants)
    )
    image = bytes(30_000)
    frames = tuple(Frame(image, sha256, at_us) for sha256, at_us in zip(hashes, instants, strict=True))
    digest = burst_digest(name, "pets", camera, captured_us, offsets_ms, hashes, None)
    burst = Burst(name, "pets", camera, "schedule", captured_us, frames, clock, None, Agent("0.3.0"), digest)
    judged = msgspec.json.encode([judge(policy.camera(camera), frame) for frame in seen], order="deterministic")
    return Entry(burst, info, seen, policy, text, judged, instants[-1] + chance.randint(200_000, 900_000))


def _uuid7(unix_ms: int, chance: random.Random) -> str:
    value = unix_ms << 80 | 0x7 << 76 | chance.getrandbits(12) << 64 | 0b10 << 62 | chance.getrandbits(62)
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _turn(store: Store, entry: Entry) -> None:
    burst = entry.burst
    with store.turn(burst.site, burst.camera) as turn:
        turn.keep(entry)
        admitted = turn.admit(1 << 62)
        assert admitted is not None
        start = turn.rewind(admitted.oldest_us)
        turn.settle(start, refold(turn.observations(start), start, turn.policy, admitted.newest_us))


def _crowd(database: Path) -> tuple[EnsembleInfo, list[Answers]]:
    """The ensemble and the frames' answers of the first ensemble's burst of a database, in either form."""
    store = open_store(f"sqlite:///{database}")
    (head, *_) = store.cameras()
    frames = list(store.observations(head.site, head.camera))
    store.close()
    return frames[0].ensemble_info, [frame.answers for frame in frames]


def measured(folder: Path, kind: str, bursts: int, crowd: Path | None) -> tuple[float, float, float]:
    """Bytes of records and of all tables kept for a frame, and bytes written for a burst."""
    text = site(CAMERAS)
    policy = parse_site_policy(text)
    info = _ENSEMBLE
    scene: Callable[[int, random.Random], Answers] = {"quiet": _quiet, "one": _one}.get(kind, _quiet)
    if kind == "crowd":
        assert crowd is not None
        info, every = _crowd(crowd)
        scene = lambda second, _chance: every[second % len(every)]  # noqa: E731
    file, chance = folder / f"{kind}.sqlite", random.Random(kind)
    store = open_store(f"sqlite:///{file}")
    store.upgrade()
    entries = (
        _entry(policy, text, camera, 10 * number, scene, info, chance)
        for number in range(bursts // CAMERAS)
        for camera in policy.cameras
    )
    half = bursts // 2
    for _ in range(half):
        _turn(store, next(entries))
    records, kept, written = _size(file, "%burst_records%"), _size(file), _written()
    for _ in range(bursts - half):
        _turn(store, next(entries))
    store.close()
    written = _written() - written
    frames = (bursts - half) * BURST
    return (
        (_size(file, "%burst_records%") - records) / frames,
        (_size(file) - kept) / frames,
        written / (bursts - half),
    )


def _size(file: Path, tables: str = "%") -> int:
    """Bytes of the pages of tables and indexes with such names."""
    with closing(sqlite3.connect(file)) as connection:
        (size,) = connection.execute("SELECT sum(pgsize) FROM dbstat WHERE name LIKE ?", (tables,)).fetchone()
        return int(size)


def _written() -> int:
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def report(folder: Path, kinds: list[str], bursts: int, crowd: Path | None) -> Iterator[str]:
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for kind in kinds:
            records, kept, written = pool.apply(measured, (folder, kind, bursts, crowd))
            yield (
                f"{kind}: {records:.1f} bytes a frame in records, {kept:.1f} in all tables; "
                f"{written / 1000:.1f} kB written for a burst, "
                f"{written * DAY_BURSTS / 1e9:.2f} GB a day for {CAMERAS} cameras"
            )


@click.command()
@click.option("--bursts", default=2000, show_default=True)
@click.option(
    "--crowd", type=click.Path(exists=True, path_type=Path), help="A database of the demonstration's footage."
)
@click.option("--folder", type=click.Path(path_type=Path), help="Where to make the databases, on a disk.")
@click.option("--kind", "kinds", type=click.Choice(["quiet", "one"]), multiple=True, default=["quiet", "one"])
def main(bursts: int, crowd: Path | None, folder: Path | None, kinds: tuple[str, ...]) -> None:
    """Measure, and print."""
    every = [*kinds, *(["crowd"] if crowd else [])]
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        for line in report(Path(temporary), every, bursts, crowd):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
