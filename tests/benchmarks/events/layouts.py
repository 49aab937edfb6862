"""How well the rules do on sectors, and a course of time, that nobody chose their constants on.

    python -m tests.benchmarks.events.evaluate vtest.avi deploy/sites/pets.toml --rate 10 --out OUT
    python -m tests.benchmarks.events.layouts --observed OUT --kit DIR [--layouts 8] [--seed 100]

`DIR` is the evaluation kit's folder: its scorer, its way from tracks to events, the annotators' tracks and sectors.
One clip is one clip; but where its sectors lie decides which moments count, so other sectors are other questions
about it: the Voronoi cells of five random points, and a random line. Backwards, everybody who came in walks out. At 7
pictures a second, its true pace, everybody is slower. The truth of each question comes from the annotators' tracks by
the kit's own rules; the boxes are the models' and, for comparison, the annotators'.
"""

from __future__ import annotations

import importlib.util
import json
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from msgspec.structs import replace

from policies.events import Event
from policies.observation import EnsembleInfo, ModelInfo, Observation, Prediction
from policies.site.site_policy import CameraPolicy, parse_site_policy
from server.store import open_store
from tests.benchmarks.events.evaluate import scored_line
from tests.policies.stories import events_of

RATES = (10.0, 5.0, 2.0, 1.0)
_FILE_RATE = 10.0
_TRUE_RATE = 7.0
_SEEN = (0.0, 0.31, 1.0, 1.0)
"""The part of the view that is annotated: left, top, right, bottom."""

Tracks = Mapping[int, Sequence[tuple[int, tuple[float, float, float, float]]]]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Kit:
    """The evaluation kit: `derive` makes truth of tracks and sectors, `score` compares events with it."""

    derive: ModuleType
    score: ModuleType
    tracks: Tracks
    sectors: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """Frames in the order of time, who was where in them, and the sectors that are asked about."""

    frames: Sequence[Observation]
    tracks: Tracks
    sectors: dict[str, Any]
    pictures_per_s: float = _FILE_RATE
    target: str = "person"


@click.command()
@click.option("--observed", type=click.Path(exists=True, path_type=Path), required=True, help="An --out of evaluate.")
@click.option("--kit", "folder", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--clip", default="pets_s2l1")
@click.option("--layouts", default=8)
@click.option("--seed", default=100)
def main(observed: Path, folder: Path, clip: str, layouts: int, seed: int) -> None:
    """Measure, and print."""
    kit = kit_in(folder, clip)
    seen = observed_in(observed)
    seeds = range(seed, seed + layouts)
    click.echo(
        f"event F1 (presence F1) at {', '.join(f'{rate:g}' for rate in RATES)} of {_FILE_RATE:g} pictures a second"
    )
    for boxes, frames in (("the models' boxes", seen), ("the annotators' boxes", _annotated(seen, kit.tracks))):
        first_us, last_us = frames[0].at_us, frames[-1].at_us
        back = [replace(frame, at_us=first_us + last_us - frame.at_us) for frame in reversed(frames)]
        other_way = turned(kit.tracks, len(frames))
        pace = _FILE_RATE / _TRUE_RATE
        slow = [replace(frame, at_us=first_us + round((frame.at_us - first_us) * pace)) for frame in frames]
        other = [other_sectors(kit.sectors, number) for number in seeds]
        _tell(f"{boxes}, as drawn", kit, [Question(frames, kit.tracks, kit.sectors)])
        _tell(f"{boxes}, backwards", kit, [Question(back, other_way, kit.sectors)])
        _tell(f"{boxes}, at the true pace", kit, [Question(slow, kit.tracks, kit.sectors, _TRUE_RATE)])
        _tell(f"{boxes}, {layouts} other layouts", kit, [Question(frames, kit.tracks, one) for one in other])
        _tell(f"{boxes}, those backwards", kit, [Question(back, other_way, one) for one in other])


def _tell(name: str, kit: Kit, questions: Sequence[Question]) -> None:
    cells = []
    for rate in RATES:
        scores = [score(kit, question, round(_FILE_RATE / rate)) for question in questions]
        overall, presence = ([score[group] for score in scores] for group in ("overall", "presence"))
        spread = f" ± {statistics.stdev(overall):.3f}" if len(overall) > 1 else ""
        cells.append(f"{statistics.mean(overall):.3f}{spread} ({statistics.mean(presence):.3f})")
    click.echo(f"{name:<44} " + "  ".join(cells))


def score(kit: Kit, question: Question, step: int) -> dict[str, float]:
    """F1 by group, all phases pooled."""
    fps, pictures = question.pictures_per_s, len(question.frames)
    events = kit.derive.derive(question.tracks, question.sectors, fps, pictures, True)
    truth = {"camera": question.sectors["camera"], "duration": pictures / fps, "events": events}
    policy = _policy(question.sectors, question.target)
    pairs = []
    for phase in range(step):
        judged = events_of(policy, question.frames[phase::step])
        told = [replace(event, label="person") for event in judged]  # the kit's word for whatever is asked for
        pairs.append((truth, [(_as_scored(event, truth["camera"]), "ours") for event in told]))
    groups = kit.score.score(pairs, period=step / fps)[0]["groups"]
    return {name: group["f1"] for name, group in groups.items()}


def _as_scored(event: Event, camera: str) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(scored_line(event, camera))
    return line


def kit_in(folder: Path, clip: str) -> Kit:
    derive, score = imported(folder / "derive_events.py"), imported(folder / "score_events.py")
    sectors = json.loads((folder / clip / "sectors.json").read_text())
    return Kit(derive, score, derive.load_tracks(folder / clip / "gt.txt"), sectors)


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def observed_in(out: Path) -> list[Observation]:
    """The observations of the run with the most pictures, in the order of time."""
    store = open_store(f"sqlite:///{out.resolve()}/data/sectorwatch.sqlite")
    runs = [list(store.observations(head.site, head.camera)) for head in store.cameras()]
    if not any(runs):
        raise click.UsageError(f"{out} holds no run of `python -m tests.benchmarks.events.evaluate`")
    return [replace(one, site="clip", camera="eye") for one in max(runs, key=len)]


def _annotated(frames: Sequence[Observation], tracks: Tracks) -> list[Observation]:
    """The same frames, with the annotators for the only model."""
    boxes: dict[int, list[Prediction]] = {}
    for track in tracks.values():
        for picture, (left, top, width, height) in track:
            wide, high = frames[0].size
            edges = (left / wide, top / high, (left + width) / wide, (top + height) / high)
            box = tuple(round(min(max(edge, 0.0), 1.0), 5) for edge in edges)
            boxes.setdefault(picture - 1, []).append(Prediction("person", 1.0, box))  # type: ignore[arg-type]
    ensemble_info = EnsembleInfo("annotators", (ModelInfo("annotators", frozenset({"person"}), boxes=True),))
    return [
        replace(frame, ensemble_info=ensemble_info, answers={"annotators": tuple(boxes.get(number, ()))})
        for number, frame in enumerate(frames)
    ]


def turned(tracks: Tracks, pictures: int) -> Tracks:
    return {name: sorted((pictures + 1 - picture, box) for picture, box in track) for name, track in tracks.items()}


def other_sectors(drawn: dict[str, Any], seed: int) -> dict[str, Any]:
    """Five random cells, the whole they lie in, and a random line across."""
    chance = random.Random(seed)
    left, top, right, bottom = _SEEN
    whole = [(left, top), (right, top), (right, bottom), (left, bottom)]
    centres = [(chance.uniform(0.05, 0.95), chance.uniform(0.36, 0.85)) for _ in range(5)]
    cells = [_cell(whole, centre, [c for c in centres if c is not centre]) for centre in centres]
    line = drawn["lines"][0] | {"a": (chance.uniform(0.25, 0.75), top), "b": (chance.uniform(0.25, 0.75), 0.95)}
    sectors = [{"name": f"cell{number}", "polygon": cell} for number, cell in enumerate(cells)]
    return drawn | {"sectors": [{"name": "view", "whole": True, "polygon": whole}, *sectors], "lines": [line]}


def _cell(whole: Sequence[Point], centre: Point, others: Sequence[Point]) -> list[Point]:
    """What is nearer to `centre` than to any of the others."""
    cell = list(whole)
    for other in others:
        cell = list(_clipped(cell, centre, other))
    return cell


def _clipped(polygon: Sequence[Point], near: Point, far: Point) -> Iterator[Point]:
    """The part of a convex polygon on `near`'s side of the middle between two points (Sutherland and Hodgman 1974)."""

    def beyond(point: Point) -> float:
        across = (far[0] - near[0]) * point[0] + (far[1] - near[1]) * point[1]
        return 2 * across - (far[0] ** 2 + far[1] ** 2 - near[0] ** 2 - near[1] ** 2)

    for here, there in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        if beyond(here) <= 0:
            yield here
        if (beyond(here) <= 0) != (beyond(there) <= 0):
            part = beyond(here) / (beyond(here) - beyond(there))
            cut = tuple(round(a + part * (b - a), 5) for a, b in zip(here, there, strict=True))
            yield (cut[0], cut[1])


def _policy(sectors: dict[str, Any], target: str) -> CameraPolicy:
    """The default policy on these sectors."""
    text = f'site = "clip"\ntargets = ["{target}"]\n'
    for sector in sectors["sectors"]:
        text += f"[cameras.eye.sectors.{sector['name']}]\npolygon = {json.dumps(sector['polygon'])}\n"
    for line in sectors["lines"]:
        text += f"[cameras.eye.lines.{line['name']}]\na = {json.dumps(line['a'])}\nb = {json.dumps(line['b'])}\n"
        text += f"directions = {json.dumps(line['directions'])}\n"
    return parse_site_policy(text).camera("eye")


if __name__ == "__main__":
    main()
