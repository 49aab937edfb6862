"""A frame: a JPEG, its instant, and a small grey thumbnail for the motion gate and the health check.

A camera that gives none raises `CameraFailure`.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import msgspec

from camera_agent.imaging.masks import Polygons

THUMBNAIL_WIDTH = 128
"""A person a fortieth of the view high is still some pixels wide, and the gate's work stays under a millisecond."""


class CameraFailure(Exception):
    """A camera gave no usable picture. The message says why; a later try may succeed.

    `cause` is the word that heartbeats carry, such as `camera_hangs`.
    """

    def __init__(self, message: str, cause: str = "camera_failed") -> None:
        super().__init__(message)
        self.cause = cause


class DamagedPicture(CameraFailure):
    """One picture of a camera is not whole. The camera need not be opened again: the next picture may be whole."""


class FrameFormat(msgspec.Struct, frozen=True):
    """How pictures are encoded: masks painted, scaled down to `max_width` (0: never), then JPEG at `quality`."""

    quality: int = 85
    max_width: int = 1280
    masks: Polygons = ()
    always_encode: bool = False
    """Whether a JPEG that the camera made is encoded again to make it smaller."""
    is_strict: bool = False
    """Whether a JPEG without its end marker, or with stray bytes before its start, counts as damaged."""

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The size at which a `width` x `height` picture is sent."""
        if not 0 < self.max_width < width:
            return width, height
        return self.max_width, max(1, round(height * self.max_width / width))


class Thumbnail(NamedTuple):
    """`width` x `height` grey levels, one byte each, row by row from the top left."""

    width: int
    height: int
    pixels: bytes


class EncodedPicture(NamedTuple):
    """A JPEG with its masks painted, and its thumbnail.

    `is_mended`: all pixels came, but the start or the end of the camera's JPEG was not as it should be.
    """

    jpeg: bytes
    thumbnail: Thumbnail
    is_mended: bool = False


class Frame(NamedTuple):
    """An `EncodedPicture` and when it was taken, in seconds of a monotonic clock."""

    jpeg: bytes
    at_s: float
    thumbnail: Thumbnail
    is_mended: bool = False

    @classmethod
    def of(cls, picture: EncodedPicture, at_s: float) -> Frame:
        return cls(picture.jpeg, at_s, picture.thumbnail, picture.is_mended)


def thumbnail_size(width: int, height: int) -> tuple[int, int]:
    """The size of the thumbnail of a `width` x `height` picture."""
    return THUMBNAIL_WIDTH, max(1, round(height * THUMBNAIL_WIDTH / width))


def tones(thumbnail: Thumbnail) -> tuple[float, float]:
    """Mean and standard deviation of the brightness, 0..255.

    Every seventh pixel is counted: precise enough, and a tenth of a millisecond of work.
    """
    counts = Counter(thumbnail.pixels[::7])
    total = counts.total()
    mean = sum(value * count for value, count in counts.items()) / total
    variance = sum((value - mean) ** 2 * count for value, count in counts.items()) / total
    return mean, variance**0.5
