"""What enlarged sectors win and cost: `python -m tests.benchmarks.events.enlarged FOOTAGE --kit DIR --model nanodet-g`.

    ... --clip pets_s2l1 --rate 2 --scale 0.5 --enlarge junction --enlarge road_right --enlarge car_park_road

`--scale` draws each picture so much smaller, in the middle of a blurred picture of the same size, with the sectors, so
that everything is far away. Each model sees every picture twice: as it is, and with these sectors enlarged. Event F1
(presence F1) under the default policy, and the CPU time of a frame, decoding included.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

from policies.observation import EnsembleInfo, Observation, Prediction
from policies.site.site_policy import CameraPolicy, parse_site_policy
from server.ensemble import load_ensemble
from tests.benchmarks.events.evaluate import STARTED_AT, figure, scored_line
from tests.benchmarks.events.layouts import imported
from tests.policies.stories import events_of

_QUALITY = 85
_DOWN = 0.6
"""The smaller picture stands a little below the middle, where the ground is."""


@click.command()
@click.argument("footage", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--kit", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--clip", default="pets_s2l1", show_default=True)
@click.option("--target", default="person", show_default=True)
@click.option("--model", "models", multiple=True, required=True, help="One, or an ensemble: names with commas between.")
@click.option("--enlarge", "sectors", multiple=True, required=True, help="A sector of the kit's.")
@click.option("--scale", default=1.0, show_default=True)
@click.option("--rate", default=2.0, show_default=True, help="Pictures a second.")
@click.option("--least", type=float, help="The `min_score` of all models (default: the shipped ones).")
@click.option("--until", "until_s", type=float, help="Only so many seconds of the footage.")
def main(
    footage: Path,
    kit: Path,
    clip: str,
    target: str,
    models: tuple[str, ...],
    sectors: tuple[str, ...],
    scale: float,
    rate: float,
    least: float | None,
    until_s: float | None,
) -> None:
    """Print event F1 and cost of each model without and with enlarged sectors."""
    policy = _policy(json.loads((kit / clip / "sectors.json").read_text("utf-8")), target, sectors, scale, least)
    truth = json.loads((kit / clip / "truth.json").read_text("utf-8"))
    scorer = imported(kit / "score_events.py")
    pictures = list(_pictures(footage, rate, scale, until_s))
    for sector in policy.sectors:
        if sector.enlarge:
            click.echo(f"{sector.name}: {sector.times_larger:.2f} times as large")
    for name in models:
        ensemble = load_ensemble(name.split(","))
        for words, enlarged in (("as it is", ()), ("enlarged", policy.enlarged(ensemble.ensemble_info))):
            began, answers = time.process_time(), []
            for _, picture in pictures:
                answers += ensemble.answer([picture], {}, enlarged)
            cpu_ms = (time.process_time() - began) / len(pictures) * 1000
            seen = _observations(pictures, answers, ensemble.ensemble_info)
            lines = [json.loads(scored_line(event, truth["camera"])) for event in events_of(policy, seen)]
            groups: dict[str, Any] = scorer.score([(truth, [(line, "ours") for line in lines])], period=1 / rate)[0]
            overall, presence = (groups["groups"][group]["f1"] for group in ("overall", "presence"))
            click.echo(f"{name} {words}: {figure(overall)} ({figure(presence)}), {cpu_ms:.0f} ms of CPU a frame")


def _policy(
    kit: dict[str, Any], target: str, enlarge: Sequence[str], scale: float, least: float | None
) -> CameraPolicy:
    def at(point: Sequence[float]) -> list[float]:
        return [round((1 - scale) / 2 + point[0] * scale, 5), round((1 - scale) * _DOWN + point[1] * scale, 5)]

    text = f'site = "clip"\ntargets = ["{target}"]\n'
    if least is not None:
        text += f'min_score = {{ "*" = {least} }}\n'
    for sector in kit["sectors"]:
        text += f"[cameras.eye.sectors.{sector['name']}]\npolygon = {json.dumps([at(p) for p in sector['polygon']])}\n"
        text += f"enlarge = {json.dumps(sector['name'] in enlarge)}\n"
    for line in kit["lines"]:
        text += f"[cameras.eye.lines.{line['name']}]\na = {at(line['a'])}\nb = {at(line['b'])}\n"
        text += f"directions = {json.dumps(line['directions'])}\n"
    return parse_site_policy(text).camera("eye")


def _pictures(footage: Path, rate: float, scale: float, until_s: float | None) -> Iterator[tuple[float, bytes]]:
    """The pictures of the footage at `rate`, with their seconds, as the agent sends them."""
    video = cv2.VideoCapture(str(footage))
    per_s = video.get(cv2.CAP_PROP_FPS)
    step, number = round(per_s / rate), 0
    while video.grab() and (until_s is None or number / per_s < until_s):
        if number % step == 0:
            _, picture = video.retrieve()
            shown = picture if scale == 1 else _far(picture, scale)
            yield number / per_s, cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
        number += 1


def _far(picture: np.ndarray, scale: float) -> np.ndarray:
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    around = cv2.resize(cv2.resize(picture, (16, 12), interpolation=cv2.INTER_AREA), (width, height))
    left, top = round(width * (1 - scale) / 2), round(height * (1 - scale) * _DOWN)
    around[top : top + small.shape[0], left : left + small.shape[1]] = small
    return around


def _observations(
    pictures: Sequence[tuple[float, bytes]],
    answers: Sequence[dict[str, tuple[Prediction, ...] | None]],
    info: EnsembleInfo,
) -> list[Observation]:
    started_us = round(STARTED_AT.timestamp() * 1e6)
    return [
        Observation("clip", "eye", f"b-{place:06d}", 0, started_us + round(at_s * 1e6), info, answer, f"sha-{place}")
        for place, ((at_s, _), answer) in enumerate(zip(pictures, answers, strict=True))
    ]


if __name__ == "__main__":
    main()
