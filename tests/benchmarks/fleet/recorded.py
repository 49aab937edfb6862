"""Labels that the default ensemble gave once, which the engine of `fleet` gives again: `labels.msgpack.xz`.

    python -m tests.benchmarks.fleet.recorded vtest.avi

makes the file anew, from OpenCV's sample clip at one picture a second. `crowd` is the clip. `quiet` is its place
without anybody: the median of its pictures, with noise. `one` is that place with one person of the clip, cut out and
pasted. Each scene has four bursts of ten pictures, and `frame-change` sees each burst as a whole.
"""

from __future__ import annotations

import lzma
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.observation import Box, EnsembleInfo
from server.engine.stages import Answer

SceneName = Literal["quiet", "one", "crowd"]
SCENES: tuple[SceneName, ...] = get_args(SceneName)
BURST = 10
BURSTS = 4
FRAMES = BURST * BURSTS
"""Of each scene."""

_FILE = Path(__file__).with_name("labels.msgpack.xz")
_QUALITY = 85
_NOISE = 3.0
_MARGIN = 0.01
_FARTHEST = 0.15
"""What a person moves in a second, at most, in widths of the view."""

Picture = NDArray[np.uint8]


class Recording(msgspec.Struct, frozen=True):
    """The ensemble, and its answer for each frame of each scene."""

    ensemble_info: EnsembleInfo
    answers: dict[str, tuple[Answer, ...]]


@cache
def recording() -> Recording:
    """What the file holds."""
    return msgspec.msgpack.decode(lzma.decompress(_FILE.read_bytes()), type=Recording)


def _pictures(footage: Path) -> list[Picture]:
    """One picture a second; the last one again until there are FRAMES."""
    video = cv2.VideoCapture(str(footage))
    every, pictures, number = round(video.get(cv2.CAP_PROP_FPS)), list[Picture](), 0
    while video.grab() and len(pictures) < FRAMES:
        if number % every == 0:
            pictures.append(video.retrieve()[1].astype(np.uint8))
        number += 1
    return pictures + pictures[-1:] * (FRAMES - len(pictures))


def _people(answer: Answer) -> list[Box]:
    """The boxes in which yolov3-tiny is sure of a person."""
    seen = answer["yolov3-tiny"] or ()
    return [one.box for one in seen if one.label == "person" and one.score > 0.5 and one.box is not None]


def _followed(answers: Sequence[Answer]) -> Iterator[Box | None]:
    """One person's box in each picture: the nearest to the one before; another person once nobody is near."""
    last: Box | None = None
    for answer in answers:
        people = sorted(_people(answer), key=lambda box: 0.0 if last is None else _distance(box, last))
        if last is not None and people and _distance(people[0], last) > _FARTHEST:
            last = None
            yield None
            continue
        last = people[0] if people else None
        yield last


def _distance(box: Box, other: Box) -> float:
    return abs(box[0] + box[2] - other[0] - other[2]) / 2 + abs(box[3] - other[3])


def _with_one(empty: Picture, picture: Picture, box: Box | None) -> Picture:
    """The empty place with what is in a box of a picture."""
    made = empty.copy()
    if box is not None:
        high, wide = empty.shape[:2]
        left, top = max(0, round((box[0] - _MARGIN) * wide)), max(0, round((box[1] - _MARGIN) * high))
        right, bottom = round((box[2] + _MARGIN) * wide), round((box[3] + _MARGIN) * high)
        made[top:bottom, left:right] = picture[top:bottom, left:right]
    return made


def _noisy(picture: Picture, chance: np.random.Generator) -> Picture:
    noise = chance.standard_normal((*picture.shape[:2], 1), dtype=np.float32) * _NOISE
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def _jpeg(picture: Picture) -> bytes:
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()


def record(footage: Path) -> Recording:
    """Ask the default ensemble about all scenes."""
    from server.ensemble import load_ensemble
    from server.settings import ServerSettings

    ensemble, chance = load_ensemble(ServerSettings().models), np.random.default_rng(1)

    def asked(pictures: Sequence[Picture]) -> tuple[Answer, ...]:
        jpegs = [_jpeg(picture) for picture in pictures]
        starts = range(0, FRAMES, BURST)
        return tuple(dict(each) for start in starts for each in ensemble.answer(jpegs[start : start + BURST]))

    pictures = _pictures(footage)
    empty = np.median(np.stack(pictures), axis=0).astype(np.uint8)
    crowd = asked(pictures)
    alone = [_with_one(empty, *each) for each in zip(pictures, _followed(crowd), strict=True)]
    one = asked([_noisy(picture, chance) for picture in alone])
    quiet = asked([_noisy(empty, chance) for _ in pictures])
    return Recording(ensemble.ensemble_info, {"quiet": quiet, "one": one, "crowd": crowd})


if __name__ == "__main__":
    _FILE.write_bytes(lzma.compress(msgspec.msgpack.encode(record(Path(sys.argv[1]))), preset=9))
