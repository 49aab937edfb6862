"""What a camera gives when it is looked at: a JPEG, and the picture made small and grey, which is what the gate
compares and what tells a covered lens from a view.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

WIDTH = 128
"""Wide enough that a person a fortieth of the view high is still some pixels, small enough to cost nothing."""


class Grey(NamedTuple):
    """`width` x `height` brightnesses, one byte each, row by row from the top left."""

    width: int
    height: int
    pixels: bytes


class Seen(NamedTuple):
    """A JPEG as it is sent, masks painted, and its small grey picture."""

    jpeg: bytes
    grey: Grey


class Look(NamedTuple):
    """The same, with the instant at which it was taken, in seconds of one clock that only goes forward."""

    jpeg: bytes
    at_s: float
    grey: Grey


class Tones(NamedTuple):
    """Mean and standard deviation of the brightness, 0..255."""

    mean: float
    spread: float


def height_for(width: int, height: int) -> int:
    """The height of the small picture of a `width` x `height` one."""
    return max(1, round(height * WIDTH / width))


def tones(grey: Grey) -> Tones:
    """The statistics of every seventh pixel, which is enough and costs a tenth of a millisecond."""
    counts = Counter(grey.pixels[::7])
    total = counts.total()
    mean = sum(value * count for value, count in counts.items()) / total
    variance = sum((value - mean) ** 2 * count for value, count in counts.items()) / total
    return Tones(mean, variance**0.5)
