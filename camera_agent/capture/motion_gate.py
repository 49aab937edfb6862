"""The motion gate: whether something moves in the view, from grey thumbnails, in about a millisecond each.

Background and restlessness are kept per pixel by sigma-delta estimation (Manzanera and Richefeu, "A new motion
detection algorithm based on sigma-delta background estimation", Pattern Recognition Letters 28, 2007): both follow the
picture by one grey level per look, so that bytes and comparisons are enough. A pixel has changed when it differs from
the background by more than `threshold` and by more than it usually does (a tree in the wind, a flag). Changed pixels
without changed neighbours are noise. A change of light that the whole view shares (automatic exposure, a cloud) is
subtracted first. A change of most of the view at once is light, not motion.

Pillow works on whole pictures, so that a gate needs no numpy.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from camera_agent.config.settings import GateSettings
from camera_agent.imaging.frame import Thumbnail
from camera_agent.imaging.masks import Polygons, in_pixels

_ONE_IF_ANY = [0] + [1] * 255
_ALL_IF_ANY = [0] + [255] * 255
_RESTLESS = [min(255, 3 * level) for level in range(256)]
_CALMEST = 2
_SLOWER = 5
"""A changed pixel enters the background on every fifth look only, so that a standing person is seen five times longer.
Pixels also become restless at this pace.
"""
_CALMER = 4 * _SLOWER
"""Pixels become calm four times slower, so that the gate gets used to what flutters now and then."""

_NO_CHANGE = 128
_MIN_CONTRAST = 24
"""Levels between the dark and the bright half of a view from which on a gain can be estimated."""
_NOISE = 8
"""Levels by which a pixel may differ by noise alone."""


class MotionResult(NamedTuple):
    """Whether something moves, and which part of the view has changed."""

    is_motion: bool
    changed: float


class MotionGate:
    """Takes every look in order and remembers the background. Ignored and masked parts never count."""

    def __init__(self, settings: GateSettings, masks: Polygons = ()) -> None:
        self._settings = settings
        self._ignored = (*settings.ignore, *masks)
        self._background: Image.Image | None = None
        self._restless = Image.new("L", (1, 1))
        self._counted = Image.new("L", (1, 1))
        self._counted_pixels = 0
        self._looks = 0

    def check(self, thumbnail: Thumbnail) -> MotionResult:
        """Compare with the background, then update the background."""
        picture = Image.frombytes("L", (thumbnail.width, thumbnail.height), thumbnail.pixels)
        background = self._background
        if background is None or background.size != picture.size:
            self._start(picture)
            return MotionResult(is_motion=False, changed=0.0)
        picture = _same_light(picture, background)
        difference = ImageChops.difference(picture, background)
        is_changed = self._changed(difference)
        changed = is_changed.filter(ImageFilter.MedianFilter(3)).histogram()[255] / self._counted_pixels
        if changed > self._settings.lighting:
            self._start(picture)
            return MotionResult(is_motion=False, changed=changed)
        self._follow(picture, background, difference, is_changed)
        return MotionResult(is_motion=changed >= self._settings.min_area, changed=changed)

    def _start(self, picture: Image.Image) -> None:
        self._background = picture
        self._restless = Image.new("L", picture.size, _CALMEST)
        self._counted = Image.new("L", picture.size, 255)
        draw = ImageDraw.Draw(self._counted)
        for polygon in self._ignored:
            draw.polygon(in_pixels(polygon, *picture.size), fill=0, outline=0)
        self._counted_pixels = max(1, self._counted.histogram()[255])

    def _changed(self, difference: Image.Image) -> Image.Image:
        """255 where a pixel that counts differs from its background by more than it may, else 0."""
        allowed = self._restless.point([max(level, self._settings.threshold) for level in range(256)])
        return ImageChops.darker(ImageChops.subtract(difference, allowed).point(_ALL_IF_ANY), self._counted)

    def _follow(
        self, picture: Image.Image, background: Image.Image, difference: Image.Image, is_changed: Image.Image
    ) -> None:
        self._looks += 1
        self._background = _towards(background, picture)
        if self._looks % _SLOWER:
            self._background.paste(background, mask=is_changed)
            return
        goal = _towards(self._restless, difference.point(_RESTLESS))
        self._restless = ImageChops.lighter(self._restless, goal)
        if self._looks % _CALMER == 0:
            calmest = Image.new("L", picture.size, _CALMEST)
            self._restless = ImageChops.lighter(ImageChops.darker(self._restless, goal), calmest)


def _towards(image: Image.Image, goal: Image.Image) -> Image.Image:
    """`image`, each pixel one level nearer to `goal`'s."""
    up = ImageChops.subtract(goal, image).point(_ONE_IF_ANY)
    down = ImageChops.subtract(image, goal).point(_ONE_IF_ANY)
    return ImageChops.subtract(ImageChops.add(image, up), down)


def _same_light(picture: Image.Image, background: Image.Image) -> Image.Image:
    """`picture` in the light of the background.

    The change of light is a shift (exposure) or a gain and a shift (a cloud), whichever leaves less difference, so that
    a large object that enters the view is not taken for light.
    """
    change = ImageChops.subtract(picture, background, 1, _NO_CHANGE)
    middle = _median(background.histogram())
    bright = background.point([255 * (level > middle) for level in range(256)])
    dark = ImageChops.invert(bright)
    shift, low, high = (_median(change.histogram(part)) - _NO_CHANGE for part in (None, dark, bright))
    if shift == low == high == 0:
        return picture
    candidates = [picture.point([_level(level - shift) for level in range(256)])]
    from_level, to_level = _median(background.histogram(dark)), _median(background.histogram(bright))
    if to_level - from_level >= _MIN_CONTRAST and to_level + high > from_level + low:
        gain = (to_level - from_level) / (to_level + high - from_level - low)
        levels = [_level(from_level + gain * (level - from_level - low)) for level in range(256)]
        candidates.append(picture.point(levels))
    return min(candidates, key=lambda image: sum(ImageChops.difference(image, background).histogram()[_NOISE:]))


def _median(counts: Sequence[int]) -> int:
    """The level at or under which half of the pixels of a histogram lie."""
    sums = list(accumulate(counts))
    return bisect_left(sums, sums[-1] / 2)


def _level(level: float) -> int:
    return min(255, max(0, round(level)))
