"""Whether what changes is as sharp as the scene. What is close to the lens, an insect or a drop, is not.

The picture of a thing out of focus fades out over many pixels. So the steps of its change, from pixel to pixel, are
small parts of the whole change; those of a thing in the scene are as steep as the scene's own edges. A camera that is
out of focus itself has no steep edges, and nothing is called soft there that is as sharp as the rest.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody reads)
from torch import Tensor

SOFT = 0.8
"""A thing whose steps along its edge are less than this part of those of the scene, each of its own height, is soft."""
_LARGEST = 0.95
"""The height of a thing's steps is its largest change: that which this part of its pixels do not exceed."""
_BLOCK = 8
"""Pixels in which an edge of the scene goes from its darkest to its brightest."""
_EDGES = 0.9
"""Of the blocks of a view, this part has less contrast than those with edges."""
_FAINT = 8.0
"""Grey levels: what has less contrast is noise."""
_EVERY = 4
"""The light of two frames is compared at every fourth pixel of every fourth row."""
_AROUND = tuple((down, right) for down in range(4) for right in range(4))
"""Where the 3 x 3 pixels around a pixel are, with the row above and the column to the left, from which their steps are
counted: in a frame with two more rows above and two more columns to the left. A step is looked for beside a pixel too,
as the edge of a thing in some colours is not seen to differ itself.
"""


class Focus:
    """How sharp a burst's frames [T, h, w] are, and what changes in them.

    `shifts` says of each two frames that are compared, the earlier one first, by how many pixels down and to the right
    the second lies on the first.
    """

    def __init__(self, frames: Tensor, shifts: Mapping[tuple[int, int], tuple[int, int]]) -> None:
        self._frames = frames
        self._shifts = shifts
        self._changes: dict[tuple[int, int], Tensor] = {}

    def sharpness(self, place: int) -> float:
        """The steepest steps of a frame's edges, in parts of their height; 0 where it has none."""
        frame = self._frames[place : place + 1]
        brightest, darkest, steepest = (F.max_pool2d(each, _BLOCK)[0] for each in (frame, -frame, _steps(frame)))
        height = brightest + darkest
        if height.numel() == 0:
            return 0.0
        is_edge = height >= max(float(height.quantile(_EDGES)), _FAINT)
        return float((steepest[is_edge] / height[is_edge]).median()) if is_edge.any() else 0.0

    def changes(self, place: int, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The largest step beside each of these pixels of a frame [n], and the largest change of each, from the frames
        before and after it.
        """
        down, right = torch.tensor(_AROUND).T[..., None]
        steps, sizes = torch.zeros(len(y)), torch.zeros(len(y))
        for other in (place - 1, place + 1):
            if not 0 <= other < len(self._frames):
                continue
            change = self._change(place, other)
            around = F.pad(change[None], (2, 1, 2, 1), mode="replicate")[0][y + down, x + right].view(4, 4, -1)
            for axis, inside in ((0, around[:, 1:]), (1, around[1:])):
                steps = torch.maximum(steps, inside.diff(dim=axis).abs().amax((0, 1)))
            sizes = torch.maximum(sizes, change[y, x].abs())
        return steps, sizes

    def _change(self, place: int, other: int) -> Tensor:
        """The change from another frame, but for that of the light."""
        if (place, other) not in self._changes:
            down, right = self._shifts[min(place, other), max(place, other)]
            back = (down, right) if place < other else (-down, -right)
            change = self._frames[place] - torch.roll(self._frames[other], back, (0, 1))
            self._changes[place, other] = change - change[::_EVERY, ::_EVERY].median()
        return self._changes[place, other]


def are_soft(steps: Tensor, sizes: Tensor, thing: Tensor, count: int, frames: int, sharpness: float) -> Tensor:
    """Which of some things are soft [count], in a scene of this sharpness. Given are steps and changes of the pixels of
    them all in so many frames, and which thing each pixel is of.

    A thing is sharp if it has steep steps at a twentieth of its pixels, or along a quarter of the outline of a square
    of its size where that is less, as of a large thing.
    """
    pixels = torch.bincount(thing, minlength=count)
    largest = pixels - (pixels * _LARGEST).long()
    edge = (pixels * frames).double().sqrt().long().minimum(largest)
    return _of_rank(edge, steps, thing, pixels) < SOFT * sharpness * _of_rank(largest, sizes, thing, pixels)


def _of_rank(rank: Tensor, values: Tensor, thing: Tensor, pixels: Tensor) -> Tensor:
    """Of the values of each thing, with so many pixels, that of a rank, 1 the largest; 0 of a thing without any."""
    order = values.argsort()
    order = order[thing[order].argsort(stable=True)]
    place = pixels.cumsum(0) - rank.clamp(min=1).minimum(pixels)
    return torch.where(pixels > 0, values[order[place.clamp(max=len(order) - 1)]], 0.0)


def _steps(frames: Tensor) -> Tensor:
    """By how much each pixel [..., h, w] differs from that to its left or above it, whichever is more."""
    across = F.pad(frames.diff(dim=-1).abs(), (1, 0))
    return torch.maximum(across, F.pad(frames.diff(dim=-2).abs(), (0, 0, 1, 0)))
