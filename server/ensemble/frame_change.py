"""Finds where a frame differs from its neighbours in time: evidence for movement.

The difference of two frames is first corrected for light: for a gain and an offset over the whole view (exposure),
fitted by least squares without the pixels that do not fit, and for a gain that varies slowly (clouds, lamps), the
median over a wide neighbourhood. The rest must exceed a least relative change and a multiple of its own spread, so
that noise raises the threshold. White pixels are ignored: they are saturated.

The difference of two frames shows a moving thing twice, where it was and where it is. A frame with a neighbour on each
side gets boxes only where it differs from both (R. Jain, H. Nagel, TPAMI 1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody reads)
from torch import Tensor, nn

from server.catalogue import ModelCard
from server.ensemble.detections import Detections, no_detections

VERSIONS = {"frame-change": 1}
"""Raise it when any frames give another answer."""

MOVING, STILL = 0, 1
"""Indices into the card's classes."""

_CELL = 4
_CELL_SHARE = 0.25
_DARK = 12.0  # grey levels added before anything is relative, against the noise of dark pixels
_WHITE = 250.0
_GAINS = (0.2, 5.0)
_FIT_ROUNDS = 4
_NEIGHBOURS = 7  # a side of the neighbourhood, in samples
_NEIGHBOUR_CELLS = 2  # between samples
_SPREAD = 1.4826  # from the median of absolute values to a standard deviation


class Parameters(msgspec.Struct, frozen=True):
    """The `parameters` of the card: a share of the brightness, a multiple of the noise, cells of 4 x 4 pixels."""

    least_change: float
    noise_factor: float
    least_cells: int


class FrameChange(NamedTuple):
    """One frame's answer: `label` (MOVING or STILL) of the whole view, its score in 0..1, and the changed regions."""

    label: int
    score: float
    regions: Detections


class FrameChangeNet(nn.Module):
    """Labels the frames of a request, in the order of time. A row is uint8 or float [1, h, w], grey in 0..255.

    A frame is moving when it differs from the frame before, and the first when it differs from the second. A frame
    whose neighbours have another size is still.
    """

    def __init__(self, parameters: Parameters) -> None:
        super().__init__()
        self.settings = parameters

    def forward(self, rows: Sequence[Tensor]) -> list[FrameChange]:
        """One answer per row. The score is s / (1 + s), where s is the change in units of a pixel's threshold."""
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
        before, after = torch.cat((strengths[:1], strengths)), torch.cat((strengths, strengths[-1:]))
        return list(map(self._answer, before, torch.minimum(before, after)))

    def _strengths(self, frames: Tensor) -> Tensor:
        """How many times its threshold each pixel changed between neighbours, [T - 1, h, w]."""
        smooth = F.avg_pool2d(frames, 3, stride=1, padding=1, count_include_pad=False)
        strengths = torch.stack([self._strength(before, after) for before, after in pairwise(smooth[:, 0])])
        white = (F.max_pool2d(frames, 3, stride=1, padding=1) >= _WHITE)[:, 0]
        return strengths.masked_fill_(white[1:] | white[:-1], 0.0)

    def _strength(self, before: Tensor, after: Tensor) -> Tensor:
        explained = _exposed_like(before, after) + _DARK
        brightness = after + _DARK
        change = torch.log(brightness / explained)
        left_over = (change - _slow_light(change)).mul_(brightness).abs_()
        noise = left_over.median() * (_SPREAD * self.settings.noise_factor)
        return left_over / torch.maximum(noise, brightness * self.settings.least_change)

    def _answer(self, evidence: Tensor, here: Tensor) -> FrameChange:
        """`evidence` is the change since the frame before, `here` what differs from the frames on both sides."""
        regions = self._regions(evidence)
        if regions.scores.numel() == 0:
            return FrameChange(STILL, 1 / (1 + float(_in_cells(evidence).max())), regions)
        places = self._regions(here)
        return FrameChange(MOVING, float(regions.scores.max()), places if places.scores.numel() else regions)

    def _regions(self, strength: Tensor) -> Detections:
        """Connected regions of cells with enough changed pixels; boxes in 0..1, best score first."""
        height, width = strength.shape
        cells = _in_cells((strength > 1).float()) >= _CELL_SHARE
        label_of = _components(cells)
        boxes, scores = [], []
        for label in torch.unique(label_of[cells]).tolist():
            y, x = torch.nonzero(label_of == label, as_tuple=True)
            if len(y) < self.settings.least_cells:
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
        return Detections(torch.tensor(boxes)[order], torch.tensor(scores)[order], torch.full((len(boxes),), MOVING))


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
    """The part of a change that varies slowly: medians over about a quarter of the view, interpolated."""
    cells = _in_cells(change)[None, None]
    reach = _NEIGHBOURS // 2 * _NEIGHBOUR_CELLS
    around = F.unfold(F.pad(cells, (reach,) * 4, mode="replicate"), _NEIGHBOURS, dilation=_NEIGHBOUR_CELLS)
    slow = around.median(1).values.view_as(cells)
    return F.interpolate(slow, change.shape, mode="bilinear", align_corners=False)[0, 0]


def _in_cells(pixels: Tensor) -> Tensor:
    """Means over cells of 4 x 4 pixels; the last ones may be smaller."""
    return F.avg_pool2d(pixels[None, None], _CELL, ceil_mode=True, count_include_pad=False)[0, 0]


def _components(cells: Tensor) -> Tensor:
    """Labels of 8-connected regions, 0 outside: each cell takes the largest label around it until nothing changes."""
    label_of = torch.arange(1, cells.numel() + 1, dtype=torch.float32).view(cells.shape) * cells
    while True:
        spread = F.max_pool2d(label_of[None, None], 3, stride=1, padding=1)[0, 0] * cells
        if torch.equal(spread, label_of):
            return label_of
        label_of = spread


def build(card: ModelCard, weights: Path | None) -> FrameChangeNet:
    """The network of `card`, in evaluation mode. It has no weights."""
    return FrameChangeNet(card.parameters_as(Parameters)).eval()
