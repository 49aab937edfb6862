"""How fast the past is folded, from the store: `python -m tests.benchmarks.replay [--frames 200000] [--cameras 2]`.

A database of the shipped ensemble's answers is made through the store itself, one frame a second in bursts of ten: in
5 % of the frames somebody walks through. `empty`: the detectors say nothing of the others; `noise`: in each of the
others stand a parked car and two weak boxes, as the HOG detectors give them of any yard. Then a policy is folded over
it, as `sectorwatch replay --policy` does, for one camera alone and for all of them side by side. A camera-month is two
million frames; in 20 s on one core that is 100,000 a second of CPU.
"""

from __future__ import annotations

import hashlib
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from policies.judgement import judge
from policies.observation import Box, Observation, Panel, Seat, Sighting
from policies.site_policy import SitePolicy, parse_site_policy
from server.burst import Agent, Burst, CameraClock, Frame
from server.commands.folding import Task, folded, side_by_side
from server.records import Entry
from server.refold import refold
from server.store import Store, open_store

BURST = 10
WALK_S = 20
BUSY = 0.05
MONTH_FRAMES = 2_000_000
_START_US = 1_767_225_600_000_000
_TURN = 2_000

_SITE = (Path(__file__).parents[2] / "deploy" / "sites" / "pets.toml").read_text(encoding="utf-8")
_PANEL = Panel(
    "ensemble",
    (
        Seat("yolov3-tiny", frozenset({"person", "car", "truck"}), boxes=True),
        Seat("hog-people", frozenset({"person"}), boxes=True),
        Seat("hog-people-small", frozenset({"person"}), boxes=True),
        Seat("frame-change", frozenset({"moving", "still"}), boxes=True, votes=False),
    ),
)
_STILL = (Sighting("still", 0.9),)

Answers = dict[str, tuple[Sighting, ...] | None]


def _person(x: float, score: float, jitter: float) -> Sighting:
    box: Box = (round(x - 0.02 + jitter, 5), 0.5, round(x + 0.02 + jitter, 5), 0.68)
    return Sighting("person", score, box)


def answers(second: int, kind: str, chance: random.Random) -> Answers:
    """What the ensemble says of the frame at `second`: every 400 s somebody walks through for 20 s."""
    into_s = second % round(WALK_S / BUSY)
    if into_s < WALK_S:
        x = 0.05 + 0.9 * into_s / WALK_S
        seen = {
            model: (_person(x, score, chance.uniform(-0.004, 0.004)),) if chance.random() < recall else ()
            for model, score, recall in (("yolov3-tiny", 0.9, 0.9), ("hog-people", 0.98, 0.8))
        }
        moving = (Sighting("moving", 0.87), Sighting("moving", 0.87, (round(x, 2), 0.5, round(x + 0.05, 2), 0.7)))
        return {"frame-change": moving, "hog-people-small": (), **seen}
    if kind == "empty":
        return {"frame-change": _STILL, "hog-people": (), "hog-people-small": (), "yolov3-tiny": ()}
    car = Sighting("car", round(chance.uniform(0.5, 0.9), 4), (0.1, round(chance.uniform(0.34, 0.35), 5), 0.2, 0.4))
    weak = {
        model: (_person(chance.random(), round(chance.uniform(0.25, 0.8), 4), 0.0),)
        for model in ("hog-people", "hog-people-small")
    }
    return {"frame-change": _STILL, "yolov3-tiny": (car,), **weak}


def _entry(policy: SitePolicy, camera: str, first: int, kind: str, chance: random.Random) -> Entry:
    instants = [_START_US + (first + i) * 1_000_000 for i in range(BURST)]
    hashes = [hashlib.sha256(f"{camera} {at_us}".encode()).hexdigest() for at_us in instants]
    name = f"{camera}-{first:012d}"
    seen = tuple(
        Observation(
            "pets",
            camera,
            name,
            i,
            at_us,
            _PANEL,
            answers(first + i, kind, chance),
            hashes[i],
            uncertainty_s=0.01,
            size=(768, 576),
            brightness=round(chance.uniform(0.4, 0.5), 4),
        )
        for i, at_us in enumerate(instants)
    )
    frames = tuple(Frame(b"", sha256, at_us) for sha256, at_us in zip(hashes, instants, strict=True))
    burst = Burst(name, "pets", camera, "schedule", instants[0], frames, CameraClock(), None, Agent(), name)
    decisions = msgspec.json.encode([judge(policy.camera(camera), one) for one in seen])
    return Entry(burst, _PANEL, seen, policy, _SITE, decisions, instants[-1])


def fill(store: Store, policy: SitePolicy, camera: str, frames: int, kind: str) -> None:
    """A camera's past, as the server's own turns would have left it, many bursts to a turn."""
    chance = random.Random(camera)
    bursts = range(0, frames, BURST)
    for begin in range(0, len(bursts), _TURN):
        with store.turn("pets", camera) as turn:
            for first in bursts[begin : begin + _TURN]:
                turn.keep(_entry(policy, camera, first, kind, chance))
            admitted = turn.admit(1 << 62)
            assert admitted is not None
            start = turn.rewind(admitted.oldest_us)
            turn.settle(start, refold(turn.observations(start), start, turn.policy, admitted.newest_us))


def measured(url: str, cameras: int, kind: str, rounds: int) -> Iterator[str]:
    policy = parse_site_policy(_SITE.replace("[cameras.view1", "[cameras.cam0"))
    tasks = [Task(url, "pets", f"cam{i}", (policy,)) for i in range(cameras)]
    speeds, events = [], 0
    for _ in range(rounds):
        begun_s = time.process_time()
        found = folded(tasks[0])
        used_s = time.process_time() - begun_s
        speeds.append(found.frames / used_s)
        events = len(found.events[0])
    month_s = ", ".join(f"{MONTH_FRAMES / speed:.1f}" for speed in speeds)
    resident_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    yield (
        f"{kind}: {', '.join(f'{speed:,.0f}' for speed in speeds)} frames a second of CPU; a camera-month in "
        f"{month_s} s; {events} events; at most {resident_mb:.0f} MB resident so far"
    )
    if cameras > 1:
        begun_s = time.monotonic()
        count = sum(one.frames for one in side_by_side(folded, tasks))
        elapsed_s = time.monotonic() - begun_s
        yield f"{kind}: {cameras} cameras side by side: {count / elapsed_s:,.0f} frames a second of wall time"


@click.command()
@click.option("--frames", default=200_000, show_default=True, help="Frames of each camera.")
@click.option("--cameras", default=2, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--kind", "kinds", type=click.Choice(["empty", "noise"]), multiple=True, default=["empty", "noise"])
@click.option("--keep", type=click.Path(path_type=Path), help="Folder to make the databases in, or to find them in.")
def main(frames: int, cameras: int, rounds: int, kinds: tuple[str, ...], keep: Path | None) -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as temporary:
        for kind in kinds:
            file = (keep or Path(temporary)) / f"{kind}.sqlite"
            url = f"sqlite:///{file}"
            if not file.exists():
                store = open_store(url)
                store.upgrade()
                policy = parse_site_policy(_SITE)
                for number in range(cameras):
                    fill(store, policy, f"cam{number}", frames, kind)
                store.close()
            for line in measured(url, cameras, kind, rounds):
                sys.stdout.write(line + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
