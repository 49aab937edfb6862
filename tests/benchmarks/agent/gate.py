"""What the gate saves and what it costs, on PETS S2.L1: `python -m tests.benchmarks.agent.gate FOOTAGE [--seeds 3]`.

Scenes with about 5 % activity: for each seed, the footage with long quiet stretches made from its background (sensor
noise and slow light of their own); then, for each sector of the view in which something moves for 3 to 6 % of the time,
the footage as it is, with a gate that ignores the rest. The same recording is cut as the agent does, ungated and gated;
the frames are judged by yolov3-tiny and the policy. Exit code 1 when the gate sends more than a fifth of the bytes, or
an event of the ungated schedule is not found.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import cv2
import numpy as np

from camera_agent.cameras.camera import RecordedPicture
from camera_agent.capture.recording_bursts import RecordingBurst, recording_bursts
from camera_agent.config.settings import CameraSettings, GateSettings
from camera_agent.imaging.frame import EncodedPicture, FrameFormat
from camera_agent.imaging.masks import Polygon, Polygons
from camera_agent.imaging.opencv import encode_picture
from policies.events import Event
from policies.observation import Observation, Prediction
from policies.site.site_policy import CameraPolicy, parse_site_policy
from server.ensemble import Ensemble, load_ensemble
from tests.camera_agent.conftest import CHECKOUT
from tests.policies.stories import events_of

PICTURES_PER_S = 2.0
ENVELOPE_BYTES = 1500
"""Of one request: heads, envelope, part heads of a short burst; each frame adds about 220."""
FRAME_HEAD_BYTES = 220
MAX_PART = 0.2
NEAR_S = 6.0
SITE = (CHECKOUT / "deploy/sites/pets.toml").read_text()
VIEW = parse_site_policy(SITE).camera("view1")
QUIET = (0.03, 0.06)
SECTOR_SIZE = (192, 144)
STEP = (64, 48)
PERSON_HEIGHT = 0.15
Answers = dict[str, tuple[Prediction, ...] | None]


@dataclass(frozen=True)
class Scene:
    """Pictures at two a second: whether somebody is really there, and the bytes; and the rules it is judged by."""

    pictures: list[EncodedPicture]
    active: list[bool]
    policy: CameraPolicy = VIEW
    ignored: Polygons = ()

    def footage(self) -> Iterator[RecordedPicture]:
        for number, seen in enumerate(self.pictures):
            yield RecordedPicture(number, number / PICTURES_PER_S, lambda seen=seen: seen)  # type: ignore[misc]

    @property
    def activity(self) -> float:
        return sum(self.active) / len(self.active)


def scene(
    footage: Path, *, passages: int = 2, passage_s: float = 20.0, quiet_s: float = 380.0, seed: int = 11
) -> Scene:
    """`passages` stretches of the real footage, each after a quiet one: background, sensor noise, slow light."""
    real = pictures_of(footage)
    background = np.median(np.stack(real[::10]), axis=0).astype(np.float32)
    random = np.random.default_rng(seed)
    noises = [random.normal(0.0, random.uniform(2.0, 4.0), background.shape).astype(np.float32) for _ in range(6)]
    length = round(passage_s * PICTURES_PER_S)
    first, slowness = int(random.integers(0, len(real) - length)), random.uniform(100.0, 300.0)
    quiet: dict[tuple[int, int], EncodedPicture] = {}
    pictures: list[EncodedPicture] = []
    active: list[bool] = []
    for passage in range(passages):
        for index in range(round(quiet_s * PICTURES_PER_S)):
            noise, light = index % len(noises), round(4.0 * math.sin(index / slowness))
            if (noise, light) not in quiet:
                empty = np.clip(background + noises[noise] + light, 0, 255).astype(np.uint8)
                quiet[noise, light] = _seen(empty)
            pictures.append(quiet[noise, light])
            active.append(False)
        begin = (first + passage * length) % (len(real) - length)
        pictures += [_seen(picture) for picture in real[begin : begin + length]]
        active += [True] * length
    return Scene(pictures, active)


def quiet_sectors(footage: Path, *, times: int = 3) -> Iterator[tuple[str, Scene]]:
    """The real view played some times over, once for each of the sectors in which something moves now and then, with
    the sector's upper left corner. What moves, in it and a person's height above it, is what differs from the
    background, without any of the gate's doing.
    """
    real = pictures_of(footage)
    height, width = real[0].shape[:2]
    background = np.median(np.stack(real[::4]), axis=0).astype(np.uint8)
    changed = [_changed(picture, background) for picture in real]
    pictures = [_seen(picture) for picture in real] * times
    lefts, tops = range(0, width - SECTOR_SIZE[0] + 1, STEP[0]), range(0, height - SECTOR_SIZE[1] + 1, STEP[1])
    for left, top in product(lefts, tops):
        right, bottom = left + SECTOR_SIZE[0], top + SECTOR_SIZE[1]
        seen_from = max(0, top - round(PERSON_HEIGHT * height))
        active = [bool(mask[seen_from:bottom, left:right].mean() > 0.002) for mask in changed]
        if QUIET[0] <= sum(active) / len(active) <= QUIET[1]:
            policy, rest = _watched(left / width, top / height, right / width, bottom / height)
            yield f"{left},{top}", Scene(pictures, active * times, policy, rest)


def played(scene: Scene, *, is_gated: bool) -> list[RecordingBurst]:
    gate = GateSettings(ignore=scene.ignored) if is_gated else None
    return list(recording_bursts(CameraSettings(name="view1", video="-", gate=gate), scene.footage()))


def sent_bytes(bursts: list[RecordingBurst]) -> int:
    """As on the wire, but for packet heads: JPEGs, envelopes and heads."""
    return sum(ENVELOPE_BYTES + sum(len(frame.jpeg) + FRAME_HEAD_BYTES for frame in burst.frames) for burst in bursts)


class Judge:
    """The ensemble and the fold; a picture that comes again is not looked at again."""

    def __init__(self, ensemble: Ensemble) -> None:
        self._ensemble = ensemble
        self._known: dict[str, Answers] = {}

    def events(self, scene: Scene, bursts: Sequence[RecordingBurst]) -> list[Event]:
        observations = [
            Observation(
                "pets",
                "view1",
                f"burst-{burst.number:04d}",
                index,
                round(frame.at_s * 1e6),
                self._ensemble.ensemble_info,
                self._answers(frame.jpeg),
                hashlib.sha256(frame.jpeg).hexdigest(),
                size=(768, 576),
            )
            for burst in bursts
            for index, frame in enumerate(burst.frames)
        ]
        return list(events_of(scene.policy, observations))

    def _answers(self, jpeg: bytes) -> Answers:
        name = hashlib.sha256(jpeg).hexdigest()
        if name not in self._known:
            self._known[name] = self._ensemble.answer([jpeg])[0]
        return self._known[name]


def lost(even: Sequence[Event], gated: Sequence[Event]) -> list[Event]:
    """The events of the one that have no like in the other, of the same kind and place, within some seconds."""
    left = list(gated)
    missing = []
    for event in even:
        near = [
            other
            for other in left
            if _facts(other) == _facts(event) and abs((other.started_at - event.started_at).total_seconds()) <= NEAR_S
        ]
        if near:
            left.remove(near[0])
        else:
            missing.append(event)
    return missing


def pictures_of(footage: Path) -> list[np.ndarray]:
    video = cv2.VideoCapture(str(footage))
    every = round(video.get(cv2.CAP_PROP_FPS) / PICTURES_PER_S)
    pictures = []
    index = 0
    while video.grab():
        if index % every == 0:
            pictures.append(video.retrieve()[1])
        index += 1
    video.release()
    return pictures


def _facts(event: Event) -> tuple[object, ...]:
    return event.kind, event.sector, event.from_sector, event.to_sector, event.line, event.label


def _seen(picture: np.ndarray) -> EncodedPicture:
    return encode_picture(picture.copy(), FrameFormat())


def _changed(picture: np.ndarray, background: np.ndarray) -> np.ndarray:
    """1 where a picture shows something that the background has not, but for single pixels."""
    mask = (cv2.absdiff(picture, background).max(axis=2) > 40).astype(np.uint8)
    return cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))


def _watched(left: float, top: float, right: float, bottom: float) -> tuple[CameraPolicy, Polygons]:
    """A policy with this sector only, and what the gate may ignore: feet stand in a sector, bodies reach above it."""
    polygon = [list(corner) for corner in _box(left, top, right, bottom)]
    policy = parse_site_policy(f'site = "pets"\n[cameras.view1.sectors.quiet]\npolygon = {polygon}\n')
    top = max(0.0, top - PERSON_HEIGHT)
    rest = (_box(0, 0, 1, top), _box(0, bottom, 1, 1), _box(0, top, left, bottom), _box(right, top, 1, bottom))
    return policy.camera("view1"), tuple(box for box in rest if box[0][0] < box[2][0] and box[0][1] < box[2][1])


def _box(left: float, top: float, right: float, bottom: float) -> Polygon:
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def tell(name: str, made: Scene, judge: Judge) -> bool:
    """Print one scene's line; whether it holds."""
    even, gated = played(made, is_gated=False), played(made, is_gated=True)
    part = sent_bytes(gated) / sent_bytes(even)
    events, kept = judge.events(made, even), judge.events(made, gated)
    missing = lost(events, kept)
    holds = part <= MAX_PART and not missing
    sys.stdout.write(
        f"{name:24} {len(made.pictures) / PICTURES_PER_S:4.0f} s, something moves {made.activity:5.1%}:"
        f" gated/ungated bytes {part:.3f} ({sent_bytes(gated) / 1e6:.2f} of {sent_bytes(even) / 1e6:.2f} MB),"
        f" {len(missing)} of {len(events)} events lost, {len(lost(kept, events))} more found"
        f"{'' if holds else '   MISSED'}\n"
    )
    for event in missing:
        sys.stdout.write(f"    lost: {event.kind} {event.sector or event.line} {event.started_at}\n")
    sys.stdout.flush()
    return holds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("footage", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    judge = Judge(load_ensemble(["yolov3-tiny"]))
    holds = True
    for seed in range(1, options.seeds + 1):
        holds &= tell(f"quiet stretches, seed {seed}", scene(options.footage, seed=seed), judge)
    for corner, made in quiet_sectors(options.footage):
        holds &= tell(f"quiet sector at {corner}", made, judge)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
