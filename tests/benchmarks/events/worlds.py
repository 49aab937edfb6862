"""How well the rules do in scenes that nobody filmed, and on detectors that err in ways that are known.

    python -m tests.benchmarks.events.worlds --kit DIR [--seeds 2] [--rate 5 --rate 2 --rate 1]

People walk, run, stop and stand on flat ground before cameras of several heights and angles, and vehicles drive on
roads, one behind the other. What a picture would show
of each is his true box; the detector misses some in runs, more of the small and the half hidden, is off by a part of
their height, and sees somebody now and then where nobody is. `DIR` is the evaluation kit's folder (`layouts`), whose
rules make the truth of the true boxes. `bound` is what the kit's own rules make of true boxes with true
identities at that rate: what sampling alone costs. No constant of the rules was chosen here.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import click
from msgspec.structs import replace

from policies.events import microseconds
from policies.observation import Box, EnsembleInfo, ModelInfo, Observation, Prediction
from tests.benchmarks.events.evaluate import STARTED_AT
from tests.benchmarks.events.layouts import Kit, Point, Question, Tracks, kit_in, other_sectors, score

WIDE, HIGH = 768, 576
ASPECT = WIDE / HIGH
PICTURES_PER_S = 10
SECONDS = 120
_TURNING = 8
"""Pictures that it takes to turn around."""
_SIM = EnsembleInfo("simulated", (ModelInfo("simulated", frozenset({"person", "car"}), boxes=True),))
_CAR_M = (1.8, 1.5, 4.4)
"""Width, height and length of a car."""


@dataclass(frozen=True, slots=True)
class Road:
    """The ways of its lanes, from where to where (m), and how many seconds lie between two vehicles of a lane."""

    lanes: tuple[tuple[Point, Point], ...]
    apart_s: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scene:
    """A camera's height (m), tilt and field of view (degrees), and the people: how many come in a minute, how fast they
    are (m/s), how many of them stop on their way, and how large they are at least, in frame heights. On a road there
    are vehicles instead.
    """

    height_m: float
    tilt: float
    view: float
    per_minute: int
    speeds: tuple[float, float]
    stops: float
    least: float = 0.08
    road: Road | None = None

    @property
    def focal(self) -> float:
        return 0.5 * ASPECT / math.tan(math.radians(self.view) / 2)

    def seen(self, x_m: float, ahead_m: float, up_m: float) -> tuple[float, float, float]:
        """Where a point is in the picture (frame heights), and how far (m) along the camera's axis."""
        across, along = math.cos(math.radians(self.tilt)), math.sin(math.radians(self.tilt))
        below = self.height_m - up_m
        far = ahead_m * across + below * along
        return 0.5 * ASPECT + self.focal * x_m / far, 0.5 + self.focal * (below * across - ahead_m * along) / far, far

    def ground(self, x: float, y: float) -> Point | None:
        """The point on the ground (m) that is seen there, in 0..1 of the frame; None above the horizon."""
        across, along = math.cos(math.radians(self.tilt)), math.sin(math.radians(self.tilt))
        right, down = (x - 0.5) * ASPECT / self.focal, (y - 0.5) / self.focal
        falls = down * across + along
        return None if falls <= 0 else (right * self.height_m / falls, (across - down * along) * self.height_m / falls)


SCENES = {
    "yard": Scene(6, 20, 60, 10, (0.9, 1.7), 0.1),
    "street": Scene(4, 10, 50, 16, (1.0, 1.9), 0.05),
    "near": Scene(2.6, 12, 75, 8, (0.8, 1.6), 0.2, least=0.3),
    "crowd": Scene(8, 25, 60, 30, (0.8, 1.6), 0.1),
    "runners": Scene(6, 20, 60, 8, (2.0, 4.5), 0.0),
    "standing": Scene(5, 18, 60, 6, (0.8, 1.5), 0.8),
    "far": Scene(10, 14, 40, 12, (1.0, 1.8), 0.1),
    "steep": Scene(7, 50, 80, 10, (0.8, 1.7), 0.15),
}

_TOWARDS = tuple(((x, 90.0), (x, 2.0)) for x in (-4.0, 0.0, 4.0))
_AWAY = tuple(((x, 2.0), (x, 90.0)) for x in (-4.0, 0.0, 4.0))
_ACROSS = (((-30.0, 22.0), (30.0, 22.0)), ((30.0, 26.0), (-30.0, 26.0)))
ROADS = {
    "motorway": Scene(7, 12, 45, 0, (22, 33), 0, 0.05, Road(_TOWARDS, (0.9, 3.0))),
    "receding": Scene(7, 12, 45, 0, (22, 33), 0, 0.05, Road(_AWAY, (0.9, 3.0))),
    "avenue": Scene(6, 14, 55, 0, (9, 16), 0, 0.05, Road((*_TOWARDS[:1], *_AWAY[2:]), (1.2, 5.0))),
    "side": Scene(5, 14, 60, 0, (9, 18), 0, 0.05, Road(_ACROSS, (1.2, 5.0))),
    "queue": Scene(7, 12, 45, 0, (1.5, 4), 0, 0.05, Road(_TOWARDS, (2.5, 6.0))),
}


@click.command()
@click.option("--kit", "folder", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--seeds", default=2, help="Courses of each scene.")
@click.option("--rate", "rates", multiple=True, type=float, default=(5.0, 2.0, 1.0))
@click.option("--ghosts", default=0.01, help="False boxes in a picture.")
@click.option("--roads", "are_roads", is_flag=True, help="Vehicles on roads instead of people.")
def main(folder: Path, seeds: int, rates: tuple[float, ...], ghosts: float, are_roads: bool) -> None:
    """Measure, and print."""
    click.echo(f"event F1 (presence F1) at {', '.join(f'{rate:g}' for rate in rates)} frames a second")
    scenes = ROADS if are_roads else SCENES
    tasks = [(folder, name, seed, rates, ghosts) for name in scenes for seed in range(seeds)]
    with ProcessPoolExecutor() as pool:
        found = list(pool.map(_measured, tasks))
    for row in ("detector", "true boxes", "bound"):
        cells = {name: [one[row] for task, one in zip(tasks, found, strict=True) if task[1] == name] for name in scenes}
        for name, several in [*cells.items(), ("all", [one for each in cells.values() for one in each])]:
            means = [
                [statistics.mean(values) for values in zip(*at_rate, strict=True)]
                for at_rate in zip(*several, strict=True)
            ]
            click.echo(f"{row:<11} {name:<9} " + "  ".join(f"{f1:.3f} ({presence:.3f})" for f1, presence in means))


Scores = dict[str, list[tuple[float, float]]]


def _measured(task: tuple[Path, str, int, Sequence[float], float]) -> Scores:
    """Event F1 and presence F1 at each rate, of one course of a scene."""
    folder, name, seed, rates, ghosts = task
    kit = kit_in(folder, "pets_s2l1")
    chance = random.Random(f"{name} {seed}")
    scene = (SCENES | ROADS)[name]
    sectors = other_sectors(kit.sectors, 7000 + seed)
    if scene.road is None:
        tracks, label, target = _people(scene, chance), "person", "person"
    else:
        tracks, label, target = _vehicles(scene, scene.road, chance), "car", "vehicle"
        sectors |= {"lines": _lines_across(sectors["lines"][0], chance)}
    scores: Scores = {"bound": [_bound(kit, tracks, sectors, rate) for rate in rates]}
    frames_of = {"detector": _detected(tracks, chance, ghosts, label), "true boxes": _detected(tracks, label=label)}
    for row, frames in frames_of.items():
        question = Question(frames, tracks, sectors, target=target)
        at_rates = [score(kit, question, round(PICTURES_PER_S / rate)) for rate in rates]
        scores[row] = [(one["overall"], one["presence"]) for one in at_rates]
    return scores


def _bound(kit: Kit, tracks: Tracks, sectors: dict[str, object], rate: float) -> tuple[float, float]:
    """What the kit's rules make of every step-th true box, judged by what they make of all of them."""
    step, pictures = round(PICTURES_PER_S / rate), SECONDS * PICTURES_PER_S
    events = kit.derive.derive(tracks, sectors, PICTURES_PER_S, pictures, True)
    truth = {"camera": sectors["camera"], "duration": SECONDS, "events": events}
    pairs = []
    for phase in range(step):
        some = {name: [p for p in track if (p[0] - 1 - phase) % step == 0] for name, track in tracks.items()}
        some = {name: track for name, track in some.items() if track}
        told = kit.derive.derive(some, sectors, PICTURES_PER_S, pictures, False, step=step, phase=phase)
        pairs.append((truth, [(event, "bound") for event in told]))
    groups = kit.score.score(pairs, period=1 / rate)[0]["groups"]
    return groups["overall"]["f1"], groups["presence"]["f1"]


def _people(scene: Scene, chance: random.Random) -> Tracks:
    """Each person's boxes (left, top, width, height in pixels) by picture, the first being 1."""
    tracks: dict[int, Sequence[tuple[int, tuple[float, float, float, float]]]] = {}
    for number in range(max(3, scene.per_minute * SECONDS // 60)):
        at_s, tall_m = chance.uniform(-10, SECONDS - 3), chance.uniform(1.6, 1.9)
        boxes: dict[int, tuple[float, float, float, float]] = {}
        for x_m, ahead_m in _way(scene, chance):
            picture, box = round(at_s * PICTURES_PER_S) + 1, _body(scene, x_m, ahead_m, tall_m)
            if box is not None and 1 <= picture <= SECONDS * PICTURES_PER_S:
                boxes[picture] = box
            at_s += 1 / PICTURES_PER_S
        if boxes:
            tracks[number] = sorted(boxes.items())
    return tracks


def _vehicles(scene: Scene, road: Road, chance: random.Random) -> Tracks:
    """The boxes of vehicles that follow each other in their lanes. Those of a lane are equally fast."""
    tracks: dict[int, Sequence[tuple[int, tuple[float, float, float, float]]]] = {}
    for start, end in road.lanes:
        speed, at_s = chance.uniform(*scene.speeds), -10.0
        takes_s = math.dist(start, end) / speed
        while (at_s := at_s + chance.uniform(*road.apart_s)) < SECONDS:
            boxes = {}
            for picture in range(max(1, math.ceil(at_s * PICTURES_PER_S) + 1), SECONDS * PICTURES_PER_S + 1):
                part = ((picture - 1) / PICTURES_PER_S - at_s) / takes_s
                if part > 1:
                    break
                box = _car(scene, start, end, part)
                if box is not None:
                    boxes[picture] = box
            if boxes:
                tracks[len(tracks)] = sorted(boxes.items())
    return tracks


def _car(scene: Scene, start: Point, end: Point, part: float) -> tuple[float, float, float, float] | None:
    """What the picture shows of a car that is so far on its way, in pixels; None for less than six tenths of it, or
    for one that is very small.
    """
    wide_m, tall_m, long_m = _CAR_M
    x_m, ahead_m = (a + (b - a) * part for a, b in zip(start, end, strict=True))
    along = (end[0] - start[0]) / math.dist(start, end), (end[1] - start[1]) / math.dist(start, end)
    corners = []
    for forward, sideward, up in itertools.product((-long_m / 2, long_m / 2), (-wide_m / 2, wide_m / 2), (0, tall_m)):
        corner = x_m + along[0] * forward - along[1] * sideward, ahead_m + along[1] * forward + along[0] * sideward
        x, y, far = scene.seen(*corner, up)
        if far <= 0.5:
            return None
        corners.append((x, y))
    (left, top), (right, bottom) = (tuple(pick(axis) for axis in zip(*corners, strict=True)) for pick in (min, max))
    whole = (right - left) * (bottom - top)
    if bottom - top < scene.least:
        return None
    left, top, right, bottom = max(left, 0.0), max(top, 0.0), min(right, ASPECT), min(bottom, 1.0)
    if right <= left or bottom <= top or (right - left) * (bottom - top) < 0.6 * whole:
        return None
    return left * HIGH, top * HIGH, (right - left) * HIGH, (bottom - top) * HIGH


def _lines_across(line: dict[str, object], chance: random.Random) -> list[dict[str, object]]:
    """Two lines from the picture's left to its right, and one from its top to its bottom."""
    across = [((0.0, chance.uniform(0.45, 0.85)), (1.0, chance.uniform(0.45, 0.85))) for _ in range(2)]
    ends = [*across, ((chance.uniform(0.3, 0.7), 0.0), (chance.uniform(0.3, 0.7), 1.0))]
    return [line | {"name": f"line{number}", "a": a, "b": b} for number, (a, b) in enumerate(ends)]


def _way(scene: Scene, chance: random.Random) -> Iterator[Point]:
    """Where somebody is (m), picture after picture: in over an edge, to places, out again, turning in some steps."""
    latest: deque[Point] = deque(maxlen=_TURNING)
    for point in _legs(scene, chance):
        latest.append(point)
        yield statistics.fmean(x for x, _ in latest), statistics.fmean(y for _, y in latest)


def _legs(scene: Scene, chance: random.Random) -> Iterator[Point]:
    speed = chance.uniform(*scene.speeds)
    places = [_spot(scene, chance, edge=False) for _ in range(chance.choice((0, 1, 1, 2)))]
    places = [_spot(scene, chance, edge=True), *places, _spot(scene, chance, edge=True)]
    for number, (here, there) in enumerate(pairwise(places)):
        steps = max(1, round(math.dist(here, there) / speed * PICTURES_PER_S))
        for step in range(steps):
            yield tuple(a + (b - a) * step / steps for a, b in zip(here, there, strict=True))  # type: ignore[misc]
        if number < len(places) - 2 and chance.random() < scene.stops:
            yield from [there] * round(chance.uniform(3, 25) * PICTURES_PER_S)


def _spot(scene: Scene, chance: random.Random, *, edge: bool) -> Point:
    """A point on the ground (m) where a person has a fair size: in the view, or just beyond an edge of it."""
    while True:
        x, y = chance.uniform(0.08, 0.92), chance.uniform(0.35, 0.95)
        if edge:
            sides = [(-0.06, y), (1.06, y), *([(x, 1.35)] if scene.tilt > 12 else [])]
            x, y = chance.choice(sides)
        spot = scene.ground(x, y)
        if spot is not None and scene.least <= scene.seen(*spot, 0)[1] - scene.seen(*spot, 1.75)[1] <= 1.1:
            return spot


def _body(scene: Scene, x_m: float, ahead_m: float, tall_m: float) -> tuple[float, float, float, float] | None:
    """What the picture shows of a person, in pixels; None for less than six tenths of him."""
    x, foot, far = scene.seen(x_m, ahead_m, 0)
    if far <= 0.3:
        return None
    head = scene.seen(x_m, ahead_m, tall_m)[1]
    wide = max(0.38 * (foot - head), scene.focal * 0.5 / far)
    left, right = max(x - wide / 2, 0.0), min(x + wide / 2, ASPECT)
    top, bottom = max(head, 0.0), min(foot, 1.0)
    if right <= left or bottom <= top or (right - left) * (bottom - top) < 0.6 * wide * (foot - head):
        return None
    return left * HIGH, top * HIGH, (right - left) * HIGH, (bottom - top) * HIGH


def _detected(
    tracks: Tracks, chance: random.Random | None = None, ghosts: float = 0.0, label: str = "person"
) -> list[Observation]:
    """What a detector says of each picture; without `chance` one that never errs."""
    shown: dict[int, list[tuple[int, tuple[float, float, float, float]]]] = {}
    for name, track in tracks.items():
        for picture, box in track:
            shown.setdefault(picture, []).append((name, box))
    luck: dict[int, float] = {}
    frames = []
    for picture in range(1, SECONDS * PICTURES_PER_S + 1):
        there = shown.get(picture, [])
        if chance is None:
            said = [Prediction(label, 1.0, _edges(*box)) for _name, box in there]
        else:
            said = [replace(one, label=label) for one in (*_noticed(there, luck, chance), *_ghosts(ghosts, chance))]
        at_us = microseconds(STARTED_AT) + (picture - 1) * 1_000_000 // PICTURES_PER_S
        answers: dict[str, tuple[Prediction, ...] | None] = {"simulated": tuple(sorted(said, key=_order))}
        frames.append(
            Observation("clip", "eye", f"{picture:06d}", 0, at_us, _SIM, answers, str(picture), size=(WIDE, HIGH))
        )
    return frames


def _noticed(
    there: Sequence[tuple[int, tuple[float, float, float, float]]], luck: dict[int, float], chance: random.Random
) -> Iterator[Prediction]:
    """Who is lower in the picture stands before the others; who was missed just now is likely to be missed again."""
    nearer: list[Box] = []
    for name, (left, top, wide, high) in sorted(there, key=lambda one: -(one[1][1] + one[1][3])):
        box = (left, top, left + wide, top + high)
        hidden = max((_shared(box, other) / (wide * high) for other in nearer), default=0.0)
        nearer.append(box)
        luck[name] = 0.85 * luck.get(name, 0.0) + 0.527 * chance.gauss(0, 1)
        likely = 0.88 + 0.17 * luck[name] - 1.3 * max(0.0, hidden - 0.3) - (0.25 if high < 60 else 0.0)
        if chance.random() > min(max(likely, 0.02), 0.99):
            continue
        x, y = (left + wide / 2 + chance.gauss(0, 0.027 * high), top + high / 2 + chance.gauss(0, 0.027 * high))
        w, h = wide * math.exp(chance.gauss(0, 0.12)), high * math.exp(chance.gauss(0, 0.054))
        yield Prediction(
            "person", round(min(max(chance.gauss(0.75, 0.2), 0.2), 0.99), 4), _edges(x - w / 2, y - h / 2, w, h)
        )


def _ghosts(ghosts: float, chance: random.Random) -> Iterator[Prediction]:
    if chance.random() < ghosts:
        x, foot, high = chance.uniform(0, WIDE), chance.uniform(0.4, 0.9) * HIGH, chance.uniform(0.08, 0.3) * HIGH
        box = _edges(x - 0.2 * high, foot - high, 0.4 * high, high)
        yield Prediction("person", round(chance.uniform(0.4, 0.7), 4), box)


def _order(one: Prediction) -> tuple[float, Box | tuple[()]]:
    return -one.score, one.box or ()


def _edges(left: float, top: float, wide: float, high: float) -> Box:
    """Pixels -> 0..1 of the frame."""
    edges = (left / WIDE, top / HIGH, (left + wide) / WIDE, (top + high) / HIGH)
    return tuple(round(min(max(edge, 0.0), 1.0), 5) for edge in edges)  # type: ignore[return-value]


def _shared(a: Box, b: Box) -> float:
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)


if __name__ == "__main__":
    main()
