"""What a burst costs on the disk: `python -m tests.benchmarks.past.storage [--crowd DATABASE] [--bursts 1200]`.

Bursts of ten frames of twenty cameras go through the store's own turns, one burst to a turn, as a server makes them.
Each scene has a new database and a process of its own, and one of two sites: `whole view`, a policy without sectors, or
`six sectors`, the demonstration's.

- `quiet`: the detectors say nothing, `frame-change` says `still`, with the evidence of the scene once a burst.
- `stays`: somebody is there all the time.
- `moving`, `moving at 5/s`: somebody crosses the view within one burst, and the next one is quiet.
- `crowd`: the frames of `--crowd`, a database of the demonstration's footage, again and again.

Kept: the growth of the tables over the second half of the bursts, for each frame; of `moving`, besides, for each frame
with somebody in it, once the others cost what quiet ones cost. Written: `write_bytes` of /proc/self/io over the same
half (the log, its checkpoints and the file), for each burst. The folder has to be on a disk: a file system in memory
counts nothing.
"""

from __future__ import annotations

import base64
import hashlib
import multiprocessing
import random
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import click
import msgspec
from msgspec.structs import replace

from policies.fusion.judge import judge
from policies.observation import EnsembleInfo, Observation
from policies.site.site_policy import SitePolicy, parse_site_policy
from server.domain.burst import Agent, Burst, CameraClock, Frame, burst_digest
from server.domain.folding.refold import refold
from server.domain.records import Entry
from server.store import Store, open_store
from tests.benchmarks.past.replay import _ENSEMBLE, BURST, START_US, WALK_S, Answers, answers, site

CAMERAS = 20
DAY_BURSTS = CAMERAS * 24 * 360
"""Of twenty cameras, a burst each every ten seconds."""

BURST_S = 10
EVIDENCE_BYTES = 10
_WHOLE_VIEW = 'site = "pets"\ntargets = ["person"]\n' + "".join(f"[cameras.cam{n}]\n" for n in range(CAMERAS))
SITES = {"whole view": _WHOLE_VIEW, "six sectors": site(CAMERAS)}


class Scene(NamedTuple):
    """`seen` gives the answers of the frame with a number, counted over all frames of a camera."""

    seen: Callable[[int, random.Random], Answers]
    info: EnsembleInfo = _ENSEMBLE
    frame_ms: int = 1000


def _quiet(frame: int, chance: random.Random) -> Answers:
    seen = answers(WALK_S, "empty", chance)
    if frame % BURST:
        return seen
    evidence = base64.urlsafe_b64encode(chance.randbytes(EVIDENCE_BYTES)).rstrip(b"=").decode()
    return seen | {"frame-change": tuple(replace(one, evidence=evidence) for one in seen["frame-change"] or ())}


def _stays(frame: int, chance: random.Random) -> Answers:
    return answers(WALK_S // 2 + frame % 2, "empty", chance)


def _walk(frame: int, chance: random.Random) -> Answers:
    """Somebody crosses the view in WALK_S frames, and again."""
    return answers(frame % WALK_S, "empty", chance)


def _moving(frame: int, chance: random.Random) -> Answers:
    into = frame % (2 * BURST)
    return answers(into * WALK_S // BURST if into < BURST else WALK_S, "empty", chance)


QUIET = Scene(_quiet)
WALK = Scene(_walk)
SCENES = {
    "quiet": QUIET,
    "stays": Scene(_stays),
    "moving": Scene(_moving),
    "moving at 5/s": Scene(_moving, frame_ms=200),
}


def entry_of(
    policy: SitePolicy,
    text: str,
    camera: str,
    number: int,
    scene: Scene,
    chance: random.Random,
    *,
    is_judged: bool = True,
    images: Sequence[bytes] = (),
) -> Entry:
    """A camera's burst with a number, ready for the store; without a decision record, if it is not judged. `images`:
    the pictures of its frames, which else have hashes of nothing.
    """
    captured_us = START_US + number * BURST_S * 1_000_000
    offsets_ms = [i * scene.frame_ms + (chance.randint(-20, 20) if i else 0) for i in range(BURST)]
    instants = [captured_us + offset * 1000 for offset in offsets_ms]
    hashes = [hashlib.sha256(each).hexdigest() for each in images] or [chance.randbytes(32).hex() for _ in instants]
    name = uuid7(captured_us // 1000, chance)
    monotonic_ms = number * BURST_S * 1000 + chance.randint(0, 9)
    clock = CameraClock(boot_id="d481157a-7b4e-5d0c-a146-b48da05c6f9e", monotonic_ms=monotonic_ms)
    seen = tuple(
        Observation(
            "pets",
            camera,
            name,
            i,
            at_us,
            scene.info,
            scene.seen(number * BURST + i, chance),
            hashes[i],
            uncertainty_s=clock.error_s,
            size=(768, 576),
            brightness=round(chance.uniform(0.4, 0.5), 4),
        )
        for i, at_us in enumerate(instants)
    )
    frames = tuple(Frame(_IMAGE, sha256, at_us) for sha256, at_us in zip(hashes, instants, strict=True))
    digest = burst_digest(name, "pets", camera, captured_us, offsets_ms, hashes, None)
    burst = Burst(name, "pets", camera, "schedule", captured_us, frames, clock, None, Agent("0.3.0"), digest)
    judged = [judge(policy.camera(camera), frame) for frame in seen] if is_judged else []
    decisions = msgspec.json.encode(judged, order="deterministic")
    return Entry(burst, scene.info, seen, policy, text, decisions, instants[-1] + chance.randint(200_000, 900_000))


_IMAGE = bytes(30_000)


def uuid7(unix_ms: int, chance: random.Random) -> str:
    value = unix_ms << 80 | 0x7 << 76 | chance.getrandbits(12) << 64 | 0b10 << 62 | chance.getrandbits(62)
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def run_turn(store: Store, entry: Entry) -> None:
    """What the pipeline does with a burst that is not late."""
    burst = entry.burst
    with store.turn(burst.site, burst.camera) as turn:
        turn.keep(entry)
        admitted = turn.admit(1 << 62)
        assert admitted is not None
        start = turn.rewind(admitted.oldest_us)
        turn.settle(start, refold(turn.observations(start), start, turn.policy, admitted.newest_us))


def _crowd(database: Path) -> Scene:
    """The answers of the first camera's frames in a database, in either form."""
    store = open_store(f"sqlite:///{database}")
    (head, *_) = store.cameras()
    frames = list(store.observations(head.site, head.camera))
    store.close()
    every = [frame.answers for frame in frames]
    return Scene(lambda frame, _chance: every[frame % len(every)], frames[0].ensemble_info)


class Cost(NamedTuple):
    """Bytes of records and of all tables for a frame, bytes written for a burst, and events for a burst."""

    records: float
    kept: float
    written: float
    events: float


def measured(folder: Path, kind: str, place: str, bursts: int, crowd: Path | None) -> Cost:
    text = SITES[place]
    policy = parse_site_policy(text)
    if kind == "crowd":
        assert crowd is not None
    scene = _crowd(crowd) if kind == "crowd" and crowd else SCENES[kind]
    file, chance = folder / f"{kind.replace('/', '-')} {place}.sqlite", random.Random(kind)
    store = open_store(f"sqlite:///{file}")
    store.upgrade()
    entries = (
        entry_of(policy, text, camera, number, scene, chance)
        for number in range(bursts // CAMERAS)
        for camera in policy.cameras
    )
    half = bursts // 2
    for _ in range(half):
        run_turn(store, next(entries))
    records, kept, written, told = _size(file, "%burst_records%"), _size(file), _written(), store.last_seq()
    for _ in range(bursts - half):
        run_turn(store, next(entries))
    told = store.last_seq() - told
    store.close()
    written = _written() - written
    frames = (bursts - half) * BURST
    return Cost(
        (_size(file, "%burst_records%") - records) / frames,
        (_size(file) - kept) / frames,
        written / (bursts - half),
        told / (bursts - half),
    )


def _size(file: Path, tables: str = "%") -> int:
    """Bytes of the pages of tables and indexes with such names."""
    with closing(sqlite3.connect(file)) as connection:
        (size,) = connection.execute("SELECT sum(pgsize) FROM dbstat WHERE name LIKE ?", (tables,)).fetchone()
        return int(size)


def _written() -> int:
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def report(folder: Path, kinds: list[str], places: list[str], bursts: int, crowd: Path | None) -> Iterator[str]:
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for place in places:
            quiet = 0.0
            for kind in kinds:
                cost = pool.apply(measured, (folder, kind, place, bursts, crowd))
                quiet = cost.kept if kind == "quiet" else quiet
                busy = f" ({2 * cost.kept - quiet:.0f} of a frame with somebody)" if kind.startswith("moving") else ""
                yield (
                    f"{place}, {kind}: {cost.records:.1f} bytes a frame in records, "
                    f"{cost.kept:.1f} in all tables{busy}; "
                    f"{cost.events:.2f} events a burst; {cost.written / 1000:.1f} kB written for a burst, "
                    f"{cost.written * DAY_BURSTS / 1e9:.2f} GB a day for {CAMERAS} cameras"
                )


@click.command()
@click.option("--bursts", default=1200, show_default=True)
@click.option(
    "--crowd", type=click.Path(exists=True, path_type=Path), help="A database of the demonstration's footage."
)
@click.option("--folder", type=click.Path(path_type=Path), help="Where to make the databases, on a disk.")
@click.option("--kind", "kinds", type=click.Choice([*SCENES]), multiple=True, default=[*SCENES])
@click.option("--site", "places", type=click.Choice([*SITES]), multiple=True, default=[*SITES])
def main(bursts: int, crowd: Path | None, folder: Path | None, kinds: tuple[str, ...], places: tuple[str, ...]) -> None:
    """Measure, and print."""
    every = [*kinds, *(["crowd"] if crowd else [])]
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        for line in report(Path(temporary), every, [*places], bursts, crowd):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
