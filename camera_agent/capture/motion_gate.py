"""The gate: whether something moves in the view, from small grey pictures, for a millisecond of work each.

The background and its restlessness are kept per pixel by sigma-delta estimation (Manzanera and Richefeu, "A new
motion detection algorithm based on sigma-delta background estimation", Pattern Recognition Letters 28, 2007): both
follow the picture by one grey level per look, so they need bytes and comparisons only. A pixel has changed when
it differs from the background by more than `threshold` and more than it is used to (a tree in the wind, a flag);
changed pixels without changed neighbours are noise. What brightens or darkens the whole view is taken off before
(automatic exposure, a cloud), and a change of most of the view at once is light, not motion.

Pillow does the work on whole pictures; with it, an agent needs no numpy for a gate.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from camera_agent.config.settings import GateSettings
from camera_agent.imaging.frame import Grey
from camera_agent.imaging.masks import Polygons, in_pixels

_ONE_IF_ANY = [0] + [1] * 255
_ALL_IF_ANY = [0] + [255] * 255
_RESTLESS = [min(255, 3 * level) for level in range(256)]
_CALMEST = 2
_SLOWER = 5
"""What has changed enters the background on every fifth look only: who stands still is seen five times longer. A
pixel gets restless at that pace too."""
_CALMER = 4 * _SLOWER
"""And calm again four times slower, so that what flutters now and then is got used to."""

_NO_CHANGE = 128
_LEAST_CONTRAST = 24
"""Levels between the dark and the bright half of a view from which on their changes tell a gain."""
_ALIKE = 8
"""Levels by which a pixel may differ by noise alone."""


class Sight(NamedTuple):
    """What a look found: whether something moves, which part of the view has changed, and whether it was the light."""

    is_motion: bool
    changed: float
    is_light: bool = False


class Gate:
    """Give it every look, in order; it remembers the background. Ignored and masked parts never open it."""

    def __init__(self, settings: GateSettings, masks: Polygons = ()) -> None:
        self._settings = settings
        self._blind_spots = (*settings.ignore, *masks)
        self._background: Image.Image | None = None
        self._restless = Image.new("L", (1, 1))
        self._seeing = Image.new("L", (1, 1))
        self._seeing_pixels = 0
        self._looks = 0

    def look(self, grey: Grey) -> Sight:
        """Compare with the background, then have the background follow."""
        now = Image.frombytes("L", (grey.width, grey.height), grey.pixels)
        if self._background is None or self._background.size != now.size:
            self._begin(now)
            return Sight(is_motion=False, changed=0.0)
        background = self._background
        now = _evened(now, background)
        difference = ImageChops.difference(now, background)
        is_changed = self._changed(difference)
        changed = is_changed.filter(ImageFilter.MedianFilter(3)).histogram()[255] / self._seeing_pixels
        if changed > self._settings.lighting:
            self._begin(now)
            return Sight(is_motion=False, changed=changed, is_light=True)
        self._follow(now, background, difference, is_changed)
        return Sight(is_motion=changed >= self._settings.min_area, changed=changed)

    def _begin(self, now: Image.Image) -> None:
        self._background = now
        self._restless = Image.new("L", now.size, _CALMEST)
        self._seeing = Image.new("L", now.size, 255)
        draw = ImageDraw.Draw(self._seeing)
        for polygon in self._blind_spots:
            draw.polygon(in_pixels(polygon, *now.size), fill=0, outline=0)
        self._seeing_pixels = max(1, self._seeing.histogram()[255])

    def _changed(self, difference: Image.Image) -> Image.Image:
        """255 where a pixel that counts differs from its background by more than it may, else 0."""
        allowed = self._restless.point([max(level, self._settings.threshold) for level in range(256)])
        return ImageChops.darker(ImageChops.subtract(difference, allowed).point(_ALL_IF_ANY), self._seeing)

    def _follow(
        self, now: Image.Image, background: Image.Image, difference: Image.Image, is_changed: Image.Image
    ) -> None:
        self._looks += 1
        self._background = _towards(background, now)
        if self._looks % _SLOWER:
            self._background.paste(background, mask=is_changed)
            return
        goal = _towards(self._restless, difference.point(_RESTLESS))
        self._restless = ImageChops.lighter(self._restless, goal)
        if self._looks % _CALMER == 0:
            calmest = Image.new("L", now.size, _CALMEST)
            self._restless = ImageChops.lighter(ImageChops.darker(self._restless, goal), calmest)


def _towards(image: Image.Image, goal: Image.Image) -> Image.Image:
    """`image`, each pixel one level nearer to `goal`'s."""
    up = ImageChops.subtract(goal, image).point(_ONE_IF_ANY)
    down = ImageChops.subtract(image, goal).point(_ONE_IF_ANY)
    return ImageChops.subtract(ImageChops.add(image, up), down)


def _evened(now: Image.Image, background: Image.Image) -> Image.Image:
    """`now` without the change of light that most of the view shares: a shift, as the camera's exposure may have it, or
    a gain and a shift, as a cloud has it; whichever leaves less that differs, so that something large that comes into
    the view is not taken for light.
    """
    change = ImageChops.subtract(now, background, 1, _NO_CHANGE)
    middle = _median(background.histogram())
    bright = background.point([255 * (level > middle) for level in range(256)])
    dark = ImageChops.invert(bright)
    shift, low, high = (_median(change.histogram(part)) - _NO_CHANGE for part in (None, dark, bright))
    if shift == low == high == 0:
        return now
    found = [now.point([_level(level - shift) for level in range(256)])]
    from_level, to_level = _median(background.histogram(dark)), _median(background.histogram(bright))
    if to_level - from_level >= _LEAST_CONTRAST and to_level + high > from_level + low:
        gain = (to_level - from_level) / (to_level + high - from_level - low)
        found.append(now.point([_level(from_level + gain * (level - from_level - low)) for level in range(256)]))
    return min(found, key=lambda evened: sum(ImageChops.difference(evened, background).histogram()[_ALIKE:]))


def _median(counts: Sequence[int]) -> int:
    """The level at or under which half of the pixels of a histogram lie."""
    sums = list(accumulate(counts))
    return bisect_left(sums, sums[-1] / 2)


def _level(level: float) -> int:
    return min(255, max(0, round(level)))
