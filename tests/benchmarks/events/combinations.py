"""What each combination of models and rule is worth, from detections that are computed once.

    python -m tests.benchmarks.events.combinations look --footage vtest.avi --out SEEN/pets_s2l1 --model nanodet-g ...
    python -m tests.benchmarks.events.combinations score --seen SEEN --kit DIR --clip pets_s2l1 \\
        --try "majority yolov3-tiny:.4 nanodet-g:.45" --try "weighted nanodet-g:.4:1 ssdlite-people:.5:.5"

`look` writes a file of JSON lines for each model: `frame` (its number in the footage), `t` (seconds) and `seen`, a list
of `[label, score, x1, y1, x2, y2]`. `score` folds each combination under the shipped policy on the kit's sectors, and
prints event F1 (presence F1) at each rate. A model is given with its `min_score` and, under `weighted`, its weight.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import cv2
import msgspec

from policies.observation import EnsembleInfo, ModelInfo, Observation, Prediction
from policies.site.site_policy import CameraPolicy, parse_site_policy
from server.catalogue import cache_dir, card_named, locate
from tests.benchmarks.events.evaluate import STARTED_AT, figure, scored_line
from tests.benchmarks.events.layouts import imported
from tests.policies.stories import events_of

_QUALITY = 85
_BURST = 8
_SECOND_US = 1_000_000

Seen = Mapping[int, tuple[Prediction, ...] | None]


class Line(msgspec.Struct, frozen=True):
    """One frame of one model."""

    frame: int
    t: float
    seen: list[list[Any]] | None


@dataclass(frozen=True, slots=True)
class Combination:
    """A rule over models: name -> least score and weight."""

    rule: str
    models: Mapping[str, tuple[float, float]]

    @classmethod
    def parse(cls, text: str) -> Combination:
        rule, *parts = text.split()
        fields = [part.split(":") for part in parts]
        return cls(rule, {name: (float(rest[0]), float(rest[1]) if rest[1:] else 1.0) for name, *rest in fields})

    @property
    def policy_lines(self) -> str:
        if self.rule == "evidence":  # it takes every score, by the tables on the cards
            return 'sensitivity = { rule = "evidence" }\n'
        least = ", ".join(f'"{name}" = {score}' for name, (score, _) in self.models.items())
        weights = ", ".join(f'"{name}" = {weight}' for name, (_, weight) in self.models.items())
        weighed = f", weights = {{ {weights} }}" if self.rule == "weighted" else ""
        return f'min_score = {{ "*" = 0.4, {least} }}\nsensitivity = {{ rule = "{self.rule}"{weighed} }}\n'


@click.group()
def main() -> None:
    """Look once, score many combinations."""


@main.command()
@click.option("--footage", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
@click.option("--model", "models", multiple=True, required=True)
@click.option("--floor", type=float, help="Score floor instead of that of the card.")
@click.option("--every", default=1, help="Only every so many pictures.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def look(footage: Path, models: tuple[str, ...], floor: float | None, every: int, out: Path) -> None:
    """Write the detections of each model on FOOTAGE."""
    from server.ensemble import Ensemble
    from server.ensemble.building import network_of
    from server.ensemble.module import EnsembleModule

    out.mkdir(parents=True, exist_ok=True)
    pictures, pictures_per_s = _jpegs(footage, every)
    for name in models:
        card = card_named(name)
        if floor is not None:
            card = msgspec.structs.replace(card, parameters=card.parameters | {"score_floor": floor})
        ensemble = Ensemble(EnsembleModule([(card, network_of(card, locate(card, cache_dir())))]))
        ensemble.tune()
        ensemble.enter()
        began, lines = time.process_time(), []
        for start in range(0, len(pictures), _BURST):
            for place, answers in enumerate(ensemble.answer(pictures[start : start + _BURST]), start):
                seen = answers[name]
                rows = None if seen is None else [(one.label, one.score, *(one.box or ())) for one in seen]
                frame = place * every
                lines.append(msgspec.json.encode({"frame": frame, "t": frame / pictures_per_s, "seen": rows}))
        (out / f"{name}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        cpu_ms = (time.process_time() - began) / len(pictures) * 1000
        click.echo(f"{name}: {len(pictures)} pictures, {cpu_ms:.0f} ms of CPU each, decoding included")


def _jpegs(footage: Path, every: int) -> tuple[list[bytes], float]:
    """Every so many pictures as the agent sends them, and the pictures per second of the footage."""
    video = cv2.VideoCapture(str(footage))
    pictures: list[bytes] = []
    number = 0
    while video.grab():
        if number % every == 0:
            _, picture = video.retrieve()
            pictures.append(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes())
        number += 1
    return pictures, video.get(cv2.CAP_PROP_FPS)


@main.command()
@click.option("--seen", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--kit", "kit_folder", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--clip", default="pets_s2l1", show_default=True)
@click.option("--target", default="person", show_default=True)
@click.option("--pictures-per-s", default=10.0, show_default=True)
@click.option("--rate", "rates", multiple=True, type=float, default=(10.0, 5.0, 2.0, 1.0), show_default=True)
@click.option("--phases", type=int, help="First pictures to try at each rate, at most (default: all).")
@click.option("--try", "combinations", multiple=True, required=True, help='"RULE MODEL:MIN_SCORE[:WEIGHT] ..."')
def score(
    folder: Path,
    kit_folder: Path,
    clip: str,
    target: str,
    pictures_per_s: float,
    rates: tuple[float, ...],
    phases: int | None,
    combinations: tuple[str, ...],
) -> None:
    """Print event F1 (presence F1) of each combination at each rate, all phases pooled."""
    scorer = imported(kit_folder / "score_events.py")
    sectors = json.loads((kit_folder / clip / "sectors.json").read_text("utf-8"))
    truth = json.loads((kit_folder / clip / "truth.json").read_text("utf-8"))
    click.echo(f"{clip}: event F1 (presence F1) at {', '.join(f'{rate:g}' for rate in rates)} a second")
    for combination in map(Combination.parse, combinations):
        frames = list(_observations(folder / clip, combination, pictures_per_s, tuple(sectors["size"])))
        policy = _policy(sectors, target, combination)
        cells = []
        for rate in rates:
            step = round(pictures_per_s / rate)
            groups = _scored(scorer, truth, policy, frames, step, min(step, phases or step), pictures_per_s)
            cells.append(f"{figure(groups['overall']['f1'])} ({figure(groups['presence']['f1'])})")
        models = " ".join(f"{name}:{least:g}:{weight:g}" for name, (least, weight) in combination.models.items())
        click.echo(f"{combination.rule} {models:<60} " + "  ".join(cells))


def _scored(
    scorer: ModuleType,
    truth: dict[str, Any],
    policy: CameraPolicy,
    frames: Sequence[Observation],
    step: int,
    phases: int,
    pictures_per_s: float,
) -> dict[str, Any]:
    by_number = {round((frame.at_us / 1e6 - STARTED_AT.timestamp()) * pictures_per_s): frame for frame in frames}
    pairs = []
    for phase in range(phases):
        chosen = [frame for number, frame in by_number.items() if number % step == phase]
        if not chosen:  # of pictures that were not looked at
            continue
        lines = [json.loads(scored_line(event, truth["camera"])) for event in events_of(policy, chosen)]
        pairs.append((truth, [(line, "ours") for line in lines]))
    groups: dict[str, Any] = scorer.score(pairs, period=step / pictures_per_s)[0]["groups"]
    return groups


def _observations(
    folder: Path, combination: Combination, pictures_per_s: float, size: tuple[int, int]
) -> Iterator[Observation]:
    """The pictures that every model of the combination has seen, in the order of time."""
    seen = {name: dict(_read(folder / f"{name}.jsonl", least / 3)) for name, (least, _) in combination.models.items()}
    info = EnsembleInfo("tried", tuple(_info(name) for name in combination.models))
    for frame in sorted(set.intersection(*(set(one) for one in seen.values()))):
        at_us = round(STARTED_AT.timestamp() * _SECOND_US + frame / pictures_per_s * _SECOND_US)
        answers = {name: one[frame] for name, one in seen.items()}
        yield Observation("clip", "eye", f"burst-{frame:06d}", 0, at_us, info, answers, f"sha-{frame}", size=size)


def _info(name: str) -> ModelInfo:
    return card_named(name).model_info


def _read(file: Path, floor: float) -> Iterator[tuple[int, tuple[Prediction, ...] | None]]:
    """Frame and predictions; those below `floor` decide nothing."""
    for line in msgspec.json.Decoder(Line).decode_lines(file.read_bytes()):
        rows = line.seen
        yield line.frame, None if rows is None else tuple(_prediction(row) for row in rows if row[1] >= floor)


def _prediction(row: Sequence[Any]) -> Prediction:
    return Prediction(row[0], row[1], (row[2], row[3], row[4], row[5]) if len(row) > 2 else None)


def _policy(sectors: dict[str, Any], target: str, combination: Combination) -> CameraPolicy:
    """The shipped policy on the kit's sectors, but for the combination's rule."""
    text = f'site = "clip"\ntargets = ["{target}"]\n{combination.policy_lines}'
    for sector in sectors["sectors"]:
        text += f"[cameras.eye.sectors.{sector['name']}]\npolygon = {json.dumps(sector['polygon'])}\n"
    for line in sectors["lines"]:
        text += f"[cameras.eye.lines.{line['name']}]\na = {json.dumps(line['a'])}\nb = {json.dumps(line['b'])}\n"
        text += f"directions = {json.dumps(line['directions'])}\n"
    return parse_site_policy(text).camera("eye")


if __name__ == "__main__":
    main()
