"""The frames that are sent: of a video, as JPEGs of two sizes, one by one or in bursts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

SIZES = {"768x576": (768, 576), "1280x720": (1280, 720)}
SAMPLED = 32
SAMPLED_FRAMES = 20
_QUALITY = 85


def frames_of(footage: Path, size: str) -> list[bytes]:
    """Frames over the whole footage as JPEGs of `size`, enlarged where they are smaller."""
    return [_resized(jpeg, SIZES[size]) for jpeg in sampled_jpegs(footage, SAMPLED)]


def sampled_jpegs(footage: Path, count: int = SAMPLED_FRAMES) -> list[bytes]:
    """`count` frames at equal distances from the first on, as JPEGs of quality 85."""
    video = cv2.VideoCapture(str(footage))
    distance = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) // count
    jpegs = []
    for index in range(distance * (count - 1) + 1):
        assert video.grab(), f"{footage} ends at frame {index}"
        if index % distance == 0:
            _, picture = video.retrieve()
            jpegs.append(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())
    video.release()
    return jpegs


def bursts_of(frames: Sequence[bytes], length: int) -> list[list[bytes]]:
    """Bursts that together walk over every frame."""
    return [
        [frames[(start + place) % len(frames)] for place in range(length)] for start in range(0, len(frames), length)
    ]


def _resized(jpeg: bytes, size: tuple[int, int]) -> bytes:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError("a picture of the footage cannot be read")
    if (picture.shape[1], picture.shape[0]) == size:
        return jpeg
    larger = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
    return bytes(cv2.imencode(".jpg", larger, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1])
