"""Where frames of one call differ from their neighbours: evidence for movement.

One frame is first explained by the other as far as light can: a gain and an offset over the whole view (exposure),
found by least squares that leave out what does not fit, then a gain that varies slowly (clouds, lamps), as a
median over a wide neighbourhood. What is left must exceed both a least relative change and a multiple of its own
spread, so that noise raises the bar instead of the alarm. Pixels at white say nothing about light.

A change between two frames shows a thing twice, where it was and where it is. Where there is a frame on each side,
boxes come from what differs from both: where the thing is now (Jain and Nagel's accumulated differences, of three
pictures).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody reads)
from torch import Tensor, nn

from server.ensemble.detections import Detections, no_detections

if TYPE_CHECKING:
    from server.catalogue.card import ModelCard

VERSIONS = {"frame-change": 1}
"""Raise it when any frames give another answer."""

MOVING, STILL = 0, 1
"""Indices into the card's classes."""

_CELL = 4
_CELL_SHARE = 0.25
_DARK = 12.0  # grey levels added before anything is relative: a dark pixel's noise is none
_WHITE = 250.0
_GAINS = (0.2, 5.0)
_FIT_ROUNDS = 4
_NEIGHBOURS = 7  # a side of the neighbourhood, in samples
_NEIGHBOUR_CELLS = 2  # between samples
_SPREAD = 1.4826  # from the median of absolute values to a standard deviation


class FrameChange(NamedTuple):
    """One frame's answer: whole view `label` (MOVING or STILL) with its score in 0..1, and the changed regions."""

    label: int
    score: float
    regions: Detections


class FrameChangeNet(nn.Module):
    """Labels for a run of frames, in the order of time. A row is uint8 or float [1, h, w], grey in 0..255.

    A frame alone, or whose neighbours have another size, is still: there is nothing it could differ from.
    A frame is moving when it differs from the one before (the first one: from the one after).
    """

    def __init__(self, *, least_change: float = 0.12, noise_factor: float = 6.0, least_cells: int = 2) -> None:
        super().__init__()
        self.least_change = least_change
        self.noise_factor = noise_factor
        self.least_cells = least_cells

    def forward(self, rows: Sequence[Tensor]) -> list[FrameChange]:
        """One answer per row. A score is s / (1 + s) of a strength s, in units of the bar a pixel had to pass."""
        answers: list[FrameChange] = []
        start = 0
        for end in range(1, len(rows) + 1):
            if end == len(rows) or rows[end].shape != rows[start].shape:
                answers += self._run(torch.stack(tuple(rows[start:end])).float())
                start = end
        return answers

    def _run(self, frames: Tensor) -> list[FrameChange]:
        """Frames of one size, [T, 1, h, w]."""
        if len(frames) == 1:
            return [FrameChange(STILL, 1.0, no_detections(frames.device))]
        strengths = self._strengths(frames)
        last = len(frames) - 1
        answers = []
        for index in range(len(frames)):
            before = strengths[index - 1] if index > 0 else strengths[0]
            after = strengths[index] if index < last else strengths[last - 1]
            answers.append(self._answer(before, torch.minimum(before, after)))
        return answers

    def _strengths(self, frames: Tensor) -> Tensor:
        """How many times its bar each pixel changed between neighbours, [T - 1, h, w]."""
        smooth = F.avg_pool2d(frames, 3, stride=1, padding=1, count_include_pad=False)
        strengths = torch.stack([self._strength(before, after) for before, after in pairwise(smooth[:, 0])])
        white = (F.max_pool2d(frames, 3, stride=1, padding=1) >= _WHITE)[:, 0]
        return strengths.masked_fill_(white[1:] | white[:-1], 0.0)

    def _strength(self, before: Tensor, after: Tensor) -> Tensor:
        explained = _exposed_like(before, after) + _DARK
        brightness = after + _DARK
        change = torch.log(brightness / explained)
        left_over = (change - _slow_light(change)).mul_(brightness).abs_()
        noise = left_over.median() * (_SPREAD * self.noise_factor)
        return left_over / torch.maximum(noise, brightness * self.least_change)

    def _answer(self, evidence: Tensor, here: Tensor) -> FrameChange:
        regions = self._regions(evidence)
        if regions.scores.numel() == 0:
            peak = float(_in_cells(evidence).max())
            return FrameChange(STILL, 1 / (1 + peak), regions)
        places = self._regions(here)
        score = float(regions.scores.max())
        return FrameChange(MOVING, score, places if places.scores.numel() else regions)

    def _regions(self, strength: Tensor) -> Detections:
        """Connected regions of cells with enough changed pixels; boxes in 0..1, best score first."""
        height, width = strength.shape
        cells = _in_cells((strength > 1).float()) >= _CELL_SHARE
        label_of = _components(cells)
        boxes, scores = [], []
        for label in torch.unique(label_of[cells]).tolist():
            y, x = torch.nonzero(label_of == label, as_tuple=True)
            if len(y) < self.least_cells:
                continue
            left, top = int(x.min()) * _CELL, int(y.min()) * _CELL
            right, bottom = min((int(x.max()) + 1) * _CELL, width), min((int(y.max()) + 1) * _CELL, height)
            inside = strength[top:bottom, left:right]
            mean = float(inside[inside > 1].mean())
            boxes.append((left / width, top / height, right / width, bottom / height))
            scores.append(mean / (1 + mean))
        if not boxes:
            return no_detections(strength.device)
        order = torch.argsort(torch.tensor(scores), descending=True, stable=True)
        labels = torch.full((len(boxes),), MOVING)
        return Detections(torch.tensor(boxes)[order], torch.tensor(scores)[order], labels)


def _exposed_like(frame: Tensor, other: Tensor) -> Tensor:
    """`frame` with the gain and offset that make it equal to `other`, except where something moved."""
    x, y = frame.flatten(), other.flatten()
    fits = torch.ones_like(x, dtype=torch.bool)
    gain, offset = x.new_tensor(1.0), x.new_tensor(0.0)
    for _ in range(_FIT_ROUNDS):
        inside, target = x[fits], y[fits]
        centred = inside - inside.mean()
        gain = ((centred * target).sum() / centred.square().sum().clamp_(min=1.0)).clamp_(*_GAINS)
        offset = target.mean() - gain * inside.mean()
        misfit = (y - gain * x - offset).abs_()
        fits = misfit <= 2 * misfit.median()
    return (gain * frame + offset).clamp_(0, 255)


def _slow_light(change: Tensor) -> Tensor:
    """The part of a change that varies slowly over the view: medians over about a quarter of it, interpolated."""
    cells = _in_cells(change)[None, None]
    reach = _NEIGHBOURS // 2 * _NEIGHBOUR_CELLS
    wide = F.pad(cells, (reach,) * 4, mode="replicate")
    around = F.unfold(wide, _NEIGHBOURS, dilation=_NEIGHBOUR_CELLS)
    slow = around.median(1).values.view_as(cells)
    return F.interpolate(slow, change.shape, mode="bilinear", align_corners=False)[0, 0]


def _in_cells(pixels: Tensor) -> Tensor:
    """Means over cells of 4 x 4 pixels, the last ones perhaps smaller."""
    return F.avg_pool2d(pixels[None, None], _CELL, ceil_mode=True, count_include_pad=False)[0, 0]


def _components(cells: Tensor) -> Tensor:
    """Labels of 8-connected regions, 0 outside: cells take the largest label around them until nothing changes."""
    label_of = torch.arange(1, cells.numel() + 1, dtype=torch.float32).view(cells.shape) * cells
    while True:
        spread = F.max_pool2d(label_of[None, None], 3, stride=1, padding=1)[0, 0] * cells
        if torch.equal(spread, label_of):
            return label_of
        label_of = spread


def build(card: ModelCard, weights: Path | None) -> FrameChangeNet:
    """The network of `card`; it has no weights."""
    del weights
    return FrameChangeNet(
        least_change=card.number("least_change"),
        noise_factor=card.number("noise_factor"),
        least_cells=int(card.number("least_cells")),
    ).eval()
