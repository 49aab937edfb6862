"""How well movement is found where no detector knows the thing, in drawn scenes and on clips.

    python -m tests.benchmarks.events.moving --kit DIR [--scene above] [--rate 5] [--seed 0] [--burst 5]

The pictures of `scenes` go through `frame-change` as a burst does, and its labels through the rules. `DIR` is the
evaluation kit's folder. The yardstick is a plain pipeline: OpenCV's MOG2 at 480 pixels with a history of a minute,
opening, dilation, components over .15 % of the view, their boxes into the same tracker. No constant of it was chosen
here. Presence and events are scored in the view and its two halves; the empty scene by the events that it gives.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

from policies.events import Event, microseconds
from policies.observation import EnsembleInfo, ModelInfo, Observation, Prediction
from policies.site.site_policy import CameraPolicy, parse_site_policy
from server.ensemble import Ensemble, load_ensemble
from tests.benchmarks.events.evaluate import STARTED_AT, figure, scored_line
from tests.benchmarks.events.layouts import Kit, kit_in
from tests.benchmarks.events.scenes import HIGH, PICTURES_PER_S, SCENES, WIDE, Drawn, Picture
from tests.policies.stories import events_of

SECTORS: dict[str, Any] = {
    "camera": "eye",
    "size": [WIDE, HIGH],
    "sectors": [
        {"name": "view", "whole": True, "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]},
        {"name": "west", "polygon": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]},
        {"name": "east", "polygon": [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]},
    ],
    "lines": [],
}
_MOG2 = EnsembleInfo("mog2", (ModelInfo("mog2", frozenset({"thing"}), boxes=True),))
_YARDSTICK_WIDE = 480
_YARDSTICK_HISTORY_S = 60


@click.command()
@click.option("--kit", "folder", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--scene", "names", multiple=True, type=click.Choice(list(SCENES)), default=tuple(SCENES))
@click.option("--rate", default=5.0, show_default=True, help="Frames per second, a divisor of 10.")
@click.option("--seed", default=0, show_default=True)
@click.option("--burst", default=5, show_default=True, help="Frames of a burst.")
def main(folder: Path, names: tuple[str, ...], rate: float, seed: int, burst: int) -> None:
    """Measure, and print."""
    kit = kit_in(folder, "pets_s2l1")
    ensemble = load_ensemble(["frame-change"])
    click.echo("scene     who    presence F1  overall F1  missed  false  direction")
    for name in names:
        drawn = Drawn(SCENES[name], seed)
        step = round(PICTURES_PER_S / rate)
        pictures = [drawn.picture(index) for index in range(0, drawn.pictures, step)]
        for who, frames, rules in (
            ("mog2", list(by_background(pictures, rate)), policy("thing", '[target.thing]\nclasses = ["thing"]\n')),
            ("ours", list(by_ensemble(ensemble, pictures, rate, burst)), policy("moving")),
        ):
            click.echo(f"{name:<9} {who:<6} {row(kit, drawn, events_of(rules, frames), step)}")


def policy(target: str, more: str = "") -> CameraPolicy:
    """The default policy for a target in the sectors of the scenes."""
    text = f'site = "clip"\ntargets = ["{target}"]\n{more}'
    for sector in SECTORS["sectors"]:
        text += f"[cameras.eye.sectors.{sector['name']}]\npolygon = {json.dumps(sector['polygon'])}\n"
    return parse_site_policy(text).camera("eye")


def row(kit: Kit, drawn: Drawn, events: Sequence[Event], step: int) -> str:
    """Scores of the events of a scene, drawn at every step-th picture."""
    truth = {
        "camera": "eye",
        "duration": drawn.scene.seconds,
        "labels": {"person": ["thing", "moving", "vehicle", "person"]},
        "events": kit.derive.derive(drawn.tracks, SECTORS, PICTURES_PER_S, drawn.pictures, True),
    }
    if not drawn.tracks:
        return f"          -           -       -  {len(events):>5}          -"
    lines = [(json.loads(scored_line(event, "eye")), "told") for event in events]
    groups = kit.score.score([(truth, lines)], period=step / PICTURES_PER_S)[0]["groups"]
    overall = groups["overall"]
    return (
        f"{figure(groups['presence']['f1']):>11} {figure(overall['f1']):>11} {overall['fn']:>7} {overall['fp']:>6} "
        f"{figure(overall.get('direction_accuracy'), 2):>10}"
    )


def by_ensemble(ensemble: Ensemble, pictures: Sequence[Picture], rate: float, burst: int) -> Iterator[Observation]:
    """What the models say of pictures that come in bursts, as JPEGs."""
    for start in range(0, len(pictures), burst):
        jpegs = [bytes(cv2.imencode(".jpg", one)[1]) for one in pictures[start : start + burst]]
        for place, answers in enumerate(ensemble.answer(jpegs)):
            yield _observation(ensemble.ensemble_info, start, place, rate, pictures[start], answers)


def by_background(pictures: Sequence[Picture], rate: float) -> Iterator[Observation]:
    """What the plain pipeline says of the pictures, one by one."""
    subtractor = cv2.createBackgroundSubtractorMOG2(history=round(_YARDSTICK_HISTORY_S * rate))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    for index, picture in enumerate(pictures):
        high = round(_YARDSTICK_WIDE * picture.shape[0] / picture.shape[1])
        mask = subtractor.apply(cv2.resize(picture, (_YARDSTICK_WIDE, high), interpolation=cv2.INTER_AREA))
        things = (mask == 255).astype(np.uint8)  # 127 is a shadow
        things = cv2.dilate(cv2.morphologyEx(things, cv2.MORPH_OPEN, disc), disc, iterations=3)
        _, _, found, _ = cv2.connectedComponentsWithStats(things)
        boxes = [
            Prediction("thing", 0.9, _edges(left, top, left + wide, top + tall, _YARDSTICK_WIDE, high))
            for left, top, wide, tall, size in found[1:].tolist()
            if size > 0.0015 * mask.size
        ]
        yield _observation(_MOG2, index, 0, rate, picture, {"mog2": tuple(boxes) if index else ()})


def _edges(
    left: float, top: float, right: float, bottom: float, wide: int, high: int
) -> tuple[float, float, float, float]:
    return round(left / wide, 5), round(top / high, 5), round(right / wide, 5), round(bottom / high, 5)


def _observation(
    ensemble_info: EnsembleInfo,
    start: int,
    place: int,
    rate: float,
    picture: Picture,
    answers: dict[str, tuple[Prediction, ...] | None],
) -> Observation:
    at_us = microseconds(STARTED_AT) + round((start + place) / rate * 1e6)
    size = (picture.shape[1], picture.shape[0])
    name = f"{start:06d}"
    return Observation("clip", "eye", name, place, at_us, ensemble_info, answers, f"{name}-{place}", size=size)


if __name__ == "__main__":
    main()
