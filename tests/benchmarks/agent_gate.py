"""What the gate saves and what it costs, on PETS S2.L1 with quiet stretches made from its background.

`python -m tests.benchmarks.agent_gate FOOTAGE` cuts the same recording as the agent does, with the
gate and without, and prints bytes, frames, and how many of the ungated frames with motion the gate kept near.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from camera_agent.cameras.opencv import encode_jpeg, grey
from camera_agent.cutting import Cut, Picture, cuts
from camera_agent.look import Seen
from camera_agent.settings import BurstSettings, CameraSettings, GateSettings

PICTURES_PER_S = 2.0
ENVELOPE_BYTES = 1500
"""Of one request: heads, envelope, part heads of a short burst; each frame adds about 220."""
FRAME_HEAD_BYTES = 220


@dataclass(frozen=True)
class Scene:
    """Pictures at two a second: whether somebody is really there, and the bytes."""

    pictures: list[Seen]
    active: list[bool]

    def footage(self) -> Iterator[Picture]:
        for number, seen in enumerate(self.pictures):
            yield Picture(number, number / PICTURES_PER_S, lambda seen=seen: seen)  # type: ignore[misc]

    @property
    def activity(self) -> float:
        return sum(self.active) / len(self.active)


def scene(footage: Path, *, passages: int = 2, passage_s: float = 20.0, quiet_s: float = 380.0) -> Scene:
    """`passages` stretches of the real footage, each after a quiet one: background, sensor noise, slow light."""
    real = _pictures(footage)
    background = np.median(np.stack(real[::10]), axis=0).astype(np.float32)
    random = np.random.default_rng(11)
    noises = [random.normal(0.0, 3.0, background.shape).astype(np.float32) for _ in range(6)]
    quiet: dict[tuple[int, int], Seen] = {}
    pictures: list[Seen] = []
    active: list[bool] = []
    length = round(passage_s * PICTURES_PER_S)
    for passage in range(passages):
        for index in range(round(quiet_s * PICTURES_PER_S)):
            noise, light = index % len(noises), round(4.0 * math.sin(index / 200.0))
            if (noise, light) not in quiet:
                empty = np.clip(background + noises[noise] + light, 0, 255).astype(np.uint8)
                quiet[noise, light] = _seen(empty)
            pictures.append(quiet[noise, light])
            active.append(False)
        begin = passage * length % (len(real) - length)
        for picture in real[begin : begin + length]:
            pictures.append(_seen(picture))
            active.append(True)
    return Scene(pictures, active)


def camera(*, is_gated: bool) -> CameraSettings:
    return CameraSettings(
        name="view1", video="-", burst=BurstSettings(frames=10), gate=GateSettings() if is_gated else None
    )


def played(scene: Scene, *, is_gated: bool) -> list[Cut]:
    return list(cuts(camera(is_gated=is_gated), scene.footage(), 0))


def sent_bytes(found: list[Cut]) -> int:
    """As on the wire, but for packet heads: JPEGs, envelopes and heads."""
    return sum(ENVELOPE_BYTES + sum(len(look.jpeg) + FRAME_HEAD_BYTES for look in cut.looks) for cut in found)


def _seen(picture: np.ndarray) -> Seen:
    return Seen(encode_jpeg(picture, camera(is_gated=False).form), grey(picture))


def _pictures(footage: Path) -> list[np.ndarray]:
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


def main(footage: Path) -> None:
    made = scene(footage)
    even, gated = played(made, is_gated=False), played(made, is_gated=True)
    sys.stdout.write(f"{len(made.pictures) / PICTURES_PER_S:.0f} s, somebody there for {made.activity:.1%} of them\n")
    for name, found in (("ungated", even), ("gated", gated)):
        frames = sum(len(cut.looks) for cut in found)
        sys.stdout.write(f"{name:8} {len(found):4} bursts {frames:5} frames {sent_bytes(found) / 1e6:8.2f} MB\n")
    sys.stdout.write(f"gated / ungated: {sent_bytes(gated) / sent_bytes(even):.3f} of the bytes\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
