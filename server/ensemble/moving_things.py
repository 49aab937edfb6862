"""Where things that move are in each frame of a burst, from where its frames differ.

A thing in one colour that goes less than its length from frame to frame shows only its front and its back: differences
are pieces. But the way of a thing through the burst is one connected region. What differs from earlier frames there
reaches from where the thing was to its front, and what differs from later frames from its back to where it will be. The
thing itself is where both overlap. So its box is the same however fast it goes, and whatever of it is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial, reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody reads)
from torch import Tensor

from server.ensemble.focus import Focus, are_soft

REACH = 2
"""How many frames before and after a frame is compared with."""
CELL = 4
CELL_SHARE = 0.25
"""A cell of 4 x 4 pixels has changed if this part of its pixels has."""
NEAR = 1
"""Pixels by which leaves and a camera tremble: what is so near in the other frame is no difference."""
_FRAMES = 2 * REACH + 1
"""Frames whose changes are of one way. In a longer time, the ways of things that follow each other meet."""
_EDGE_SHARE = 0.25
"""A row or column of a thing has so many changed pixels at least, of those of its fullest one: drops of rain and
reflections stick out of it.
"""
_STREAK, _STREAK_WIDE, _STREAK_WEAKLY = 4.0, 5.0, 6.0
"""A drop of rain is so many times as long as it is wide, and narrower than so many pixels; with its weak changes, than
so many.
"""


class Change(NamedTuple):
    """How a frame [h, w] differs from others, in units of a pixel's threshold: `since` all near frames before (the
    first: after), `strength` the largest difference from any near frame. `before` and `after` are the pixels that
    differ from frames on that side, weakly at least; None at an end of the burst.
    """

    since: Tensor
    strength: Tensor
    before: Tensor | None
    after: Tensor | None

    @property
    def changed(self) -> Tensor:
        """The pixels that differ on either side."""
        return reduce(torch.logical_or, (side for side in (self.before, self.after) if side is not None))

    @property
    def strong(self) -> Tensor:
        """Those of them that exceed their threshold."""
        return self.changed & (self.strength > 1)


class Things(NamedTuple):
    """What a frame shows of each thing [n]: its box [n, 4] in pixels, how many of its cells change strongly in any
    frame, how many pixels inside of the box change in this one, and the mean strength of these: of the strong ones,
    where it has any. A streak is long and narrow; what is soft is out of focus.
    """

    boxes: Tensor
    cells: Tensor
    pixels: Tensor
    strength: Tensor
    is_streak: Tensor
    is_soft: Tensor


def things_in(changes: Sequence[Change], focus: Focus, first: int = 0) -> Iterator[Things]:
    """The things in each frame of a burst, or of its frames from `first` on. `focus` is that of the burst."""
    ways: dict[int, _Ways] = {}
    pixels = cache(lambda place: _Pixels.of(changes[place], focus, first + place))
    for place in range(len(changes)):
        start = max(min(place - REACH, len(changes) - _FRAMES), 0)
        if start not in ways:
            sharpness = partial(focus.sharpness, first + start)
            ways[start] = _Ways(changes[start : start + _FRAMES], start, pixels, sharpness)
        yield ways[start].things(place - start)


class _Pixels(NamedTuple):
    """The changed pixels of a frame: where they are, and their steps and changes (`focus`)."""

    y: Tensor
    x: Tensor
    steps: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, change: Change, focus: Focus, place: int) -> _Pixels:
        y, x = torch.nonzero(change.changed, as_tuple=True)
        return cls(y, x, *focus.changes(place, y, x))


class _Ways:
    """The ways of things through some frames: regions of changed cells that are connected through time."""

    def __init__(
        self, changes: Sequence[Change], start: int, pixels: Callable[[int], _Pixels], sharpness: Callable[[], float]
    ) -> None:
        """`pixels` gives those of a place; the first change is that of the place `start`."""
        height, width = changes[0].since.shape
        cells, strong = (
            reduce(torch.logical_or, (in_cells(pixels.float()) >= CELL_SHARE for pixels in each))
            for each in zip(*((change.changed, change.strong) for change in changes), strict=True)
        )
        labels = _components(cells)
        names = torch.unique(labels[cells])
        ways = torch.searchsorted(names, labels).masked_fill_(~cells, len(names))  # the last one is no way
        self._changes, self._count = changes, len(names) + 1
        self._cells = torch.bincount(ways[strong], minlength=self._count)[:-1]
        self._way_at = ways.repeat_interleave(CELL, 0).repeat_interleave(CELL, 1)[:height, :width]
        self._are_soft = torch.zeros(len(names), dtype=torch.bool)
        if len(names):
            found = [pixels(start + place) for place in range(len(changes))]
            way = torch.cat([self._way_at[each.y, each.x] for each in found])
            steps, sizes = (torch.cat(some) for some in zip(*((each.steps, each.sizes) for each in found), strict=True))
            self._are_soft = are_soft(steps, sizes, way, self._count, len(changes), sharpness())[:-1]

    def things(self, place: int) -> Things:
        """What the frame at a place shows."""
        change, boxes = self._changes[place], self._boxes(place)
        y, x = torch.nonzero(change.changed, as_tuple=True)
        ways = self._way_at[y, x]
        left, top, right, bottom = boxes[ways].T
        is_inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
        y, x, ways = y[is_inside], x[is_inside], ways[is_inside]
        strength = change.strength[y, x]
        every = torch.stack((torch.ones_like(x), strength, x, y, x * x, y * y, x * y)).double()
        of_all, of_strong = (
            each.new_zeros(len(each), self._count).index_add_(1, ways, each)[:, :-1]
            for each in (every, every * (strength > 1))
        )
        pixels, *means = of_all[0], *(of_all[1:] / of_all[0].clamp(min=1))
        strong, *strong_means = of_strong[0], *(of_strong[1:] / of_strong[0].clamp(min=1))
        strength = torch.where(strong > 0, strong_means[0], means[0])
        is_streak = _are_streaks(means[1:], _STREAK_WEAKLY) & _are_streaks(strong_means[1:], _STREAK_WIDE)
        return Things(boxes[:-1], self._cells, pixels, strength, is_streak, self._are_soft)

    def _boxes(self, place: int) -> Tensor:
        """The box of each thing at a place; one that ends before it begins where there is none."""
        before, after = self._changes[place].before, self._changes[place].after
        if before is not None and after is not None:
            was, will_be = self._around(before), self._around(after)
            low, high = torch.maximum(was[:, :2], will_be[:, :2]), torch.minimum(was[:, 2:], will_be[:, 2:])
            return torch.cat((low, high), 1)
        one_side, inwards = (after, 1) if before is None else (before, -1)
        assert one_side is not None
        whole = self._around(one_side)
        last, beside, further = len(self._changes) - 1, place + inwards, place + 2 * inwards
        if not 0 < beside < last:
            return whole
        return _at_end(whole, self._boxes(beside), self._boxes(further) if 0 < further < last else None)

    def _around(self, changed: Tensor) -> Tensor:
        """The box of each way around its changed pixels."""
        y, x = torch.nonzero(changed, as_tuple=True)
        ways = self._way_at[y, x]
        (left, right), (top, bottom) = (
            self._span(ways, places, size) for places, size in ((x, changed.shape[1]), (y, changed.shape[0]))
        )
        return torch.stack((left, top, right, bottom), 1)

    def _span(self, ways: Tensor, places: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """The first row or column of each way, and that after the last one."""
        counts = torch.bincount(ways * size + places, minlength=self._count * size).view(self._count, size)
        is_full = (counts >= counts.amax(1, keepdim=True) * _EDGE_SHARE) & (counts > 0)
        first, last = is_full.int().argmax(1), size - is_full.flip(1).int().argmax(1)
        is_there = is_full.any(1)
        return first.where(is_there, size), last.where(is_there, 0)


def _at_end(whole: Tensor, beside: Tensor, further: Tensor | None) -> Tensor:
    """The boxes at an end of a burst, inside of `whole`, the changes until the next frame. `beside` and `further` are
    the boxes in the next two frames: a thing keeps its speed. Where it is not known from these, the thing is at the end
    of its changes, along the side by which they are larger than it.
    """
    size = torch.minimum(beside[:, 2:] - beside[:, :2], whole[:, 2:] - whole[:, :2])
    middle = _middle(beside)
    room = whole[:, 2:] - whole[:, :2] - size
    step = (_middle(whole) - middle).sign() * room * (room == room.amax(1, keepdim=True))
    if further is not None:
        is_known = (further[:, 2:] > further[:, :2]).all(1, keepdim=True)
        step = (middle - _middle(further)).where(is_known, step)
    low = torch.minimum((middle + step - size / 2).round().long(), whole[:, 2:] - size).maximum(whole[:, :2])
    return torch.where((size > 0).all(1, keepdim=True), torch.cat((low, low + size), 1), whole)


def _middle(boxes: Tensor) -> Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _are_streaks(moments: Sequence[Tensor], wide: float) -> Tensor:
    """Whether pixels lie along a line narrower than `wide`, as those of a drop of rain do, by the axes of their
    ellipse. Given are the means of their places x and y, and of xx, yy and xy.
    """
    x, y, xx, yy, xy = moments
    xx, yy, xy = xx - x * x, yy - y * y, xy - x * y
    middle, spread = (xx + yy) / 2, torch.hypot((xx - yy) / 2, xy)
    narrow = middle - spread + 1 / 12
    return (middle + spread > _STREAK**2 * narrow) & (narrow < wide**2 / 12)


def largest_near(frames: Tensor) -> Tensor:
    """The largest value around each pixel [..., h, w], NEAR pixels to any side; much quicker than `max_pool2d`."""
    for axis in (-2, -1):
        size = frames.shape[axis] - 1
        larger = frames.clone()
        for step in range(1, min(NEAR, size) + 1):
            here, there = larger.narrow(axis, 0, size + 1 - step), frames.narrow(axis, step, size + 1 - step)
            torch.maximum(here, there, out=here)
            here, there = larger.narrow(axis, step, size + 1 - step), frames.narrow(axis, 0, size + 1 - step)
            torch.maximum(here, there, out=here)
        frames = larger
    return frames


def in_cells(pixels: Tensor) -> Tensor:
    """Means over cells of 4 x 4 pixels; the last ones may be smaller."""
    return F.avg_pool2d(pixels[None, None], CELL, ceil_mode=True, count_include_pad=False)[0, 0]


def _components(cells: Tensor) -> Tensor:
    """Labels of 8-connected regions, 0 outside: each cell takes the largest label around it until nothing changes."""
    label_of = torch.arange(1, cells.numel() + 1, dtype=torch.float32).view(cells.shape) * cells
    while True:
        spread = largest_near(label_of) * cells
        if torch.equal(spread, label_of):
            return label_of
        label_of = spread
