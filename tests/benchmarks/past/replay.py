"""How fast the past is folded, from the store.

    python -m tests.benchmarks.past.replay [--frames 200000] [--cameras 2]

Databases of the shipped ensemble's answers (three detectors that vote, and `frame-change`) are made through the store
itself, one frame a second in bursts of ten: in 5 % of the frames somebody walks through. `empty`: the detectors say
nothing of the others. `noise`: each of the others shows a parked car, and what HOG detectors see in any yard. Both are
folded as `sectorwatch replay` does, under the rules that were in force and under `--policy`, a camera alone, round by
round; then all cameras side by side. A camera-month is two million frames: in 20 s of one core, 100,000 a second.
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

from policies.fusion.judge import judge
from policies.observation import Box, EnsembleInfo, ModelInfo, Observation, Prediction
from policies.site.site_policy import SitePolicy, parse_site_policy
from server.commands.folding import FoldTask, fold_as_accepted, fold_policies, run_tasks
from server.domain.burst import Agent, Burst, CameraClock, Frame
from server.domain.folding.refold import refold
from server.domain.records import Entry
from server.store import Store, open_store

BURST = 10
WALK_S = 20
BUSY = 0.05
MONTH_FRAMES = 2_000_000
START_US = 1_767_225_600_000_000
_TURN = 2_000

_SITE = (Path(__file__).parents[3] / "deploy" / "sites" / "pets.toml").read_text(encoding="utf-8")
_CAMERAS = _SITE[_SITE.index("[cameras.") :]
_ENSEMBLE = EnsembleInfo(
    "ensemble",
    (
        ModelInfo("yolov3-tiny", frozenset({"person", "car", "truck"}), boxes=True),
        ModelInfo("hog-people", frozenset({"person"}), boxes=True),
        ModelInfo("hog-people-small", frozenset({"person"}), boxes=True),
        ModelInfo("frame-change", frozenset({"moving", "still"}), boxes=True, votes=False),
    ),
)

Answers = dict[str, tuple[Prediction, ...] | None]


def _person(x: float, score: float, jitter: float) -> Prediction:
    box: Box = (round(x - 0.02 + jitter, 5), 0.5, round(x + 0.02 + jitter, 5), 0.68)
    return Prediction("person", score, box)


def answers(second: int, kind: str, chance: random.Random) -> Answers:
    """What the ensemble says of the frame at `second`: every 400 s somebody walks through for 20 s."""
    into_s = second % round(WALK_S / BUSY)
    if into_s < WALK_S:
        x = 0.05 + 0.9 * into_s / WALK_S
        seen = {
            model: (_person(x, score, chance.uniform(-0.004, 0.004)),) if chance.random() < recall else ()
            for model, score, recall in (("yolov3-tiny", 0.9, 0.9), ("hog-people", 0.98, 0.8))
        }
        moving = (Prediction("moving", 0.87), Prediction("moving", 0.87, (round(x, 2), 0.5, round(x + 0.05, 2), 0.7)))
        return {"frame-change": moving, "hog-people-small": (), **seen}
    still = (Prediction("still", round(chance.uniform(0.8, 0.99), 4)),)
    if kind == "empty":
        return {"frame-change": still, "hog-people": (), "hog-people-small": (), "yolov3-tiny": ()}
    car = Prediction("car", round(chance.uniform(0.5, 0.9), 4), (0.1, round(chance.uniform(0.34, 0.35), 5), 0.2, 0.4))
    weak = {
        model: (_person(chance.random(), round(chance.uniform(0.25, 0.8), 4), 0.0),)
        for model in ("hog-people", "hog-people-small")
    }
    return {"frame-change": still, "yolov3-tiny": (car,), **weak}


def _entry(policy: SitePolicy, text: str, camera: str, first: int, kind: str, chance: random.Random) -> Entry:
    instants = [START_US + (first + i) * 1_000_000 for i in range(BURST)]
    hashes = [hashlib.sha256(f"{camera} {at_us}".encode()).hexdigest() for at_us in instants]
    name = f"{camera}-{first:012d}"
    seen = tuple(
        Observation(
            "pets",
            camera,
            name,
            i,
            at_us,
            _ENSEMBLE,
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
    decisions = msgspec.json.encode([judge(policy.camera(camera), frame) for frame in seen])
    return Entry(burst, _ENSEMBLE, seen, policy, text, decisions, instants[-1])


def fill(store: Store, policy: SitePolicy, text: str, camera: str, frames: int, kind: str) -> None:
    """A camera's past, as the server's own turns would have left it, many bursts to a turn."""
    chance = random.Random(camera)
    bursts = range(0, frames, BURST)
    for begin in range(0, len(bursts), _TURN):
        with store.turn("pets", camera) as turn:
            for first in bursts[begin : begin + _TURN]:
                turn.keep(_entry(policy, text, camera, first, kind, chance))
            admitted = turn.admit(1 << 62)
            assert admitted is not None
            start = turn.rewind(admitted.oldest_us)
            turn.settle(start, refold(turn.observations(start), start, turn.policy, admitted.newest_us))


def site(cameras: int) -> str:
    """The demonstration's site, with as many cameras of its kind."""
    every = (_CAMERAS.replace("[cameras.view1.", f"[cameras.cam{number}.") for number in range(cameras))
    return _SITE.replace(_CAMERAS, "\n".join(every))


def measured(url: str, policy: SitePolicy, kind: str, rounds: int) -> Iterator[str]:
    recorded = [FoldTask(url, "pets", camera) for camera in policy.cameras]
    other = [task._replace(policies=(policy,)) for task in recorded]
    speeds: dict[str, list[float]] = {"as recorded": [], "--policy": []}
    for _ in range(rounds):
        for how, work, task in (("as recorded", fold_as_accepted, recorded[0]), ("--policy", fold_policies, other[0])):
            begun_s = time.process_time()
            work(task)
            speeds[how].append(frames_of(url) / (time.process_time() - begun_s))
    for how, measured_speeds in speeds.items():
        best = max(measured_speeds)
        yield (
            f"{kind}, {how}: {', '.join(f'{speed:,.0f}' for speed in measured_speeds)} frames a second of CPU; "
            f"a camera-month in {MONTH_FRAMES / best:.1f} s; {peak_mb():.0f} MB resident at most"
        )
    if len(other) > 1:
        begun_s = time.monotonic()
        count = sum(result.frames for result in run_tasks(fold_policies, other))
        rate = count / (time.monotonic() - begun_s)
        yield f"{kind}, {len(other)} cameras side by side: {rate:,.0f} frames a second of wall time, starting included"


def frames_of(url: str) -> int:
    store = open_store(url)
    count = store.counts()["observations"] // len(store.cameras())
    store.close()
    return count


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


@click.command()
@click.option("--frames", default=200_000, show_default=True, help="Frames of each camera.")
@click.option("--cameras", default=2, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--kind", "kinds", type=click.Choice(["empty", "noise"]), multiple=True, default=["empty", "noise"])
@click.option("--keep", type=click.Path(path_type=Path), help="Folder to make the databases in, or to find them in.")
def main(frames: int, cameras: int, rounds: int, kinds: tuple[str, ...], keep: Path | None) -> None:
    """Measure, and print."""
    text = site(cameras)
    policy = parse_site_policy(text)
    with tempfile.TemporaryDirectory() as temporary:
        for kind in kinds:
            file = (keep or Path(temporary)) / f"{kind}.sqlite"
            url = f"sqlite:///{file}"
            if not file.exists():
                store = open_store(url)
                store.upgrade()
                for camera in policy.cameras:
                    fill(store, policy, text, camera, frames, kind)
                store.close()
            for line in measured(url, policy, kind, rounds):
                sys.stdout.write(line + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
