"""Fit what the scores of models are worth, for the sensitivity rule `evidence`: how many sightings are right.

    python -m tests.benchmarks.events.evaluate vtest.avi deploy/sites/pets.toml --rate 10 --out PETS
    python -m tests.benchmarks.events.evaluate CLIP SITE --rate 25 --pictures-per-s 25 --model yolov3-tiny --out ROAD
    python -m tests.benchmarks.events.calibrate --kit DIR --clip pets_s2l1 person PETS \\
        --clip motorway_count vehicle ROAD

`DIR` is the evaluation kit's folder. A thing is a group of boxes that the fusion takes for one. It is right if a box
of it has an IoU of 0.4 with an annotator's, each of which counts once. A clip whose truth has only line crossings
knows of the things whose feet are within 0.02 of a line: right within 0.1 s of a crossing, wrong where none is within
0.3 s. Things outside the annotated view and at the frame's edge, where annotations begin late, do not count.

The rows are an isotonic regression (pool adjacent violators, Ayer et al. 1955) over twenty bands, in all of which right
and wrong sightings have an equal say. A table of several clips is the mean of theirs: however many sightings a clip
has, it does not decide alone. The first row is of the things that the model does not see, while the score of another
one is right in three of four cases. Each table is checked on what it was not fitted on: another clip, or a fifth of
the only one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import click

from policies.calibration import Calibration, Row, fault_of, share_of
from policies.fusion.grouping import Group, group_boxes
from policies.geometry import Polygon, contains, foot, iou
from policies.observation import Box, Observation
from policies.site.rules import SHIPPED_WEIGHTS
from policies.site.targets import SHIPPED
from tests.benchmarks.events.layouts import kit_in, observed_in

SAME_IOU = 0.4
EDGE = 0.01
BANDS, LEAST_IN_BAND = 20, 60
MOST_RIGHT = 0.99
"""Some hundred sightings a band, of one clip or two, show no more."""
SHOWN = 0.75
"""What another model is right about in three of four cases counts as seen, for the first row."""
_FOLDS = 5
_LINE, _AT_LINE_S, _NO_LINE_S = 0.02, 0.1, 0.3
_SHARES = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Thing:
    """Boxes on one thing: the score of each model that saw it, the models that could have seen it, whether it is right,
    and where it comes from.
    """

    scores: Mapping[str, float]
    asked: frozenset[str]
    is_right: bool
    clip: str
    fold: int


@click.command()
@click.option("--kit", type=click.Path(exists=True, path_type=Path), required=True)
@click.option(
    "--clip", "clips", type=(str, str, click.Path(exists=True, path_type=Path)), multiple=True, required=True,
    help="A clip of the kit, the target that it shows, and an --out of evaluate with each of its pictures.",
)  # fmt: skip
def main(kit: Path, clips: Sequence[tuple[str, str, Path]]) -> None:
    """Fit, check, and print the tables as they stand on cards."""
    things: list[Thing] = []
    for name, target, out in clips:
        found = list(things_of(kit, name, target, observed_in(out)))
        click.echo(
            f"{name}: {len(found)} things called {target}, {sum(thing.is_right for thing in found)} of them right"
        )
        things += found
    models = sorted({model for thing in things for model in thing.scores})
    tables = fit(things, models)
    for model in models:
        _tell(model, tables[model], things)
    if len(models) > 1:
        _tell_sums(things, models)


def things_of(kit: Path, clip: str, target: str, frames: Sequence[Observation]) -> Iterator[Thing]:
    """The things of which a clip of the kit knows whether they are right."""
    infos = frames[0].ensemble_info.models
    voters = [info for info in infos if info.votes and not info.classes.isdisjoint(SHIPPED[target])]
    asked = frozenset(info.model for info in voters)
    truth = _Boxes(kit, clip) if (kit / clip / "gt.txt").exists() else _Crossings(kit, clip, frames)
    for number, frame in enumerate(frames):
        groups = group_boxes(frame, SHIPPED[target], voters)
        groups.sort(key=lambda group: -max(seen.score for seen in group.values()))
        for group, is_right in truth.judged(number, groups, frame):
            scores = {model: seen.score for model, seen in group.items()}
            yield Thing(scores, asked, is_right, clip, number * _FOLDS // len(frames))


class _Boxes:
    """The annotators' boxes of a clip."""

    def __init__(self, kit: Path, clip: str) -> None:
        loaded = kit_in(kit, clip)
        self._view: Polygon = tuple(
            (x, y) for sector in loaded.sectors["sectors"] if sector.get("whole") for x, y in sector["polygon"]
        )
        self._boxes: dict[int, list[tuple[float, float, float, float]]] = {}
        for track in loaded.tracks.values():
            for picture, (left, top, width, height) in track:
                self._boxes.setdefault(picture - 1, []).append((left, top, left + width, top + height))

    def judged(self, number: int, groups: Sequence[Group], frame: Observation) -> Iterator[tuple[Group, bool]]:
        wide, high = frame.size
        free: list[Box] = [(a / wide, b / high, c / wide, d / high) for a, b, c, d in self._boxes.get(number, ())]
        for group in groups:
            boxes = _boxes_of(group)
            fit, best = max(((iou(box, one), one) for box in boxes for one in free), default=(0.0, boxes[0]))
            if fit >= SAME_IOU:
                free.remove(best)
                yield group, True
            elif contains(self._view, foot(boxes[0])) and not _at_edge(boxes[0]):
                yield group, False


class _Crossings:
    """The instants at which something crosses the lines of a clip."""

    def __init__(self, kit: Path, clip: str, frames: Sequence[Observation]) -> None:
        read: list[dict[str, Any]] = [
            json.loads((kit / clip / name).read_text()) for name in ("truth.json", "sectors.json")
        ]
        crossed = [event for event in read[0]["events"] if event["kind"] == "crossed"]
        self._start_us = frames[0].at_us
        self._lines = [
            (line["a"], line["b"], [event["start"] for event in crossed if event["sector"] == line["name"]])
            for line in read[1]["lines"]
        ]

    def judged(self, number: int, groups: Sequence[Group], frame: Observation) -> Iterator[tuple[Group, bool]]:
        at_s = (frame.at_us - self._start_us) / 1e6
        for group in groups:
            x, y = foot(_boxes_of(group)[0])
            for (left, height), (right, _), instants in self._lines:
                away_s = min((abs(at_s - instant) for instant in instants), default=math.inf)
                is_known = away_s <= _AT_LINE_S or away_s > _NO_LINE_S
                if left <= x <= right and abs(y - height) <= _LINE and is_known:
                    yield group, away_s <= _AT_LINE_S


def _boxes_of(group: Group) -> list[Box]:
    return [seen.box for seen in group.values() if seen.box is not None]


def _at_edge(box: Box) -> bool:
    return box[0] < EDGE or box[2] > 1 - EDGE or box[3] > 1 - EDGE


def fit(things: Sequence[Thing], models: Sequence[str]) -> dict[str, list[Row]]:
    """The table of each model: the mean of those of the single clips."""
    seen = {model: _mean(_by_clip(things, model)) for model in models}
    return {model: _with_unseen(model, seen, things) for model in models}


def _by_clip(things: Iterable[Thing], model: str) -> list[list[Row]]:
    """A table of each clip that shows enough of what the model saw."""
    clips: dict[str, list[tuple[float, bool]]] = {}
    for thing in things:
        if model in thing.scores:
            clips.setdefault(thing.clip, []).append((thing.scores[model], thing.is_right))
    return [isotonic(sightings) for sightings in clips.values() if len(sightings) >= LEAST_IN_BAND]


def isotonic(sightings: Iterable[tuple[float, bool]]) -> list[Row]:
    """The rows of sightings (score, right): the shares of their bands, pooled where they fall."""
    pooled: list[list[float]] = []
    for score, right, count in _bands(sorted(sightings)):
        pooled.append([score, right + 1, count + 2])  # as if two more had been seen, one of them right
        while len(pooled) > 1 and _share(pooled[-2]) >= _share(pooled[-1]):
            _, more_right, more = pooled.pop()
            pooled[-1][1] += more_right
            pooled[-1][2] += more
    return _distinct((round(block[0], 2), min(MOST_RIGHT, round(_share(block), 2))) for block in pooled)


def _bands(ordered: Sequence[tuple[float, bool]]) -> Iterator[tuple[float, int, int]]:
    """First score, number of right sightings and of all, band by band. Right and wrong ones, however few, have an equal
    say in where a band ends, so that the noise of a detector does not take all bands.
    """
    right = sum(is_right for _, is_right in ordered)
    wrong = len(ordered) - right
    limit, mass, first = max(1 / BANDS, LEAST_IN_BAND / len(ordered)), 0.0, 0
    for place, (_, is_right) in enumerate(ordered, 1):
        mass += 0.5 / right if is_right else 0.5 / wrong
        is_long = mass >= limit and place - first >= LEAST_IN_BAND and len(ordered) - place >= LEAST_IN_BAND
        if place == len(ordered) or (is_long and ordered[place][0] > ordered[place - 1][0]):
            yield ordered[first][0], sum(each for _, each in ordered[first:place]), place - first
            mass, first = 0.0, place


def _mean(tables: Sequence[Sequence[Row]]) -> list[Row]:
    """At each score, the mean share of the tables."""
    scores = sorted({score for table in tables for score, _ in table})
    return _distinct((score, round(fmean(_right(table, score) for table in tables), 2)) for score in scores)


def _distinct(rows: Iterable[Row]) -> list[Row]:
    """The rows that say more than the one before. Of two that begin at one score, the later one counts."""
    kept: dict[float, float] = {}
    for score, right in rows:
        if right > max((share for at, share in kept.items() if at != score), default=0.0):
            kept[score] = right
    return list(kept.items())


def _share(block: Sequence[float]) -> float:
    return block[1] / block[2]


def _with_unseen(model: str, seen: Mapping[str, Sequence[Row]], things: Iterable[Thing]) -> list[Row]:
    """A model's table with its first row: 0.5, which is no evidence, where no other model can show it."""

    def shown(thing: Thing) -> bool:
        return any(_right(seen[other], score) >= SHOWN for other, score in thing.scores.items())

    unseen = [thing.is_right for thing in things if model in thing.asked - thing.scores.keys() and shown(thing)]
    share = round((sum(unseen) + 1) / (len(unseen) + 2), 2) if len(unseen) >= LEAST_IN_BAND else 0.5
    first = max(0.01, min(0.5, share))
    return [(0.0, first), *((score, right) for score, right in seen[model] if right > first)]


def _right(rows: Sequence[Row], score: float) -> float:
    return next((right for least, right in reversed(rows) if score >= least), 0.0)


def _folds(things: Sequence[Thing]) -> Iterator[tuple[list[Thing], list[Thing]]]:
    """Things to fit on, and others: by clip or, of the only clip, by fifths of its time."""
    key = (lambda thing: thing.clip) if len({thing.clip for thing in things}) > 1 else (lambda thing: str(thing.fold))
    for out in sorted(set(map(key, things))):
        yield [thing for thing in things if key(thing) != out], [thing for thing in things if key(thing) == out]


def _tell(model: str, rows: Sequence[Row], things: Sequence[Thing]) -> None:
    fault = fault_of(rows)
    click.echo(f"\n{model}{f': NO CALIBRATION, it {fault}' if fault else ''}")
    click.echo(f"rows = [{', '.join(f'[{score:g}, {right:g}]' for score, right in rows)}]")
    mine = [thing for thing in things if model in thing.scores]
    for fitted, held in _folds(mine):
        table = _mean(_by_clip(fitted, model))
        losses = [_loss((_right(table, t.scores[model]), t.is_right) for t in held)]
        losses.append(_loss((t.scores[model], t.is_right) for t in held))
        told = sum(_right(table, t.scores[model]) for t in held) / len(held)
        right = sum(t.is_right for t in held) / len(held)
        click.echo(
            f"  held out {held[0].clip}, {len(held)} sightings: {right:.3f} are right, {told:.3f} by the table; "
            f"log-loss {losses[0]:.3f} by the table, {losses[1]:.3f} by the scores as they are"
        )


def _loss(pairs: Iterable[tuple[float, bool]]) -> float:
    """The mean negative log-likelihood of what is right, given the shares."""
    losses = [-math.log(min(0.99, max(0.01, right if is_right else 1 - right))) for right, is_right in pairs]
    return sum(losses) / len(losses)


def _tell_sums(things: Sequence[Thing], models: Sequence[str]) -> None:
    """How many things are right, by what the sum over all models says of them; tables fitted on the other fifths."""
    told: list[tuple[float, bool]] = []
    for fold in range(_FOLDS):
        fitted = [thing for thing in things if thing.fold != fold]
        tables = {model: Calibration(rows) for model, rows in fit(fitted, models).items()}
        for thing in things:
            if thing.fold == fold:
                total = sum(
                    SHIPPED_WEIGHTS.get(model, 1.0) * table.part(thing.scores.get(model, 0.0)).given
                    for model, table in tables.items()
                    if model in thing.asked
                )
                told.append((share_of(total), thing.is_right))
    click.echo("\nright, by the sum of all models (each fifth by tables fitted on the others)")
    for low, high in zip(_SHARES, (*_SHARES[1:], 1.01), strict=True):
        part = [is_right for share, is_right in told if low <= share < high]
        if part:
            click.echo(f"  {low:.2f} to {min(high, 1):.2f}: {sum(part) / len(part):.3f} of {len(part)}")


if __name__ == "__main__":
    main()
