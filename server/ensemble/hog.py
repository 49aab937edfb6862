"""Detects people by histograms of oriented gradients and a linear SVM (N. Dalal, B. Triggs, CVPR 2005).

The arithmetic is that of `HOGDescriptor` of OpenCV with its defaults: gradients of the square root of the grey level,
9 unsigned orientations, cells of 8 x 8 pixels, blocks of 2 x 2 cells with a Gaussian window (sigma 4), linear voting in
place and angle, L2-Hys normalisation at 0.2, windows at a stride of one cell. So OpenCV's published coefficients are
used unchanged, and a window has the same decision value as in OpenCV.

Two things make it fast. The vote of a pixel is separable (angle x row x column), so block histograms are two small
matrix products over tiles of one cell. The linear SVM is one matrix product per place of a block in the window,
followed by shifted sums, which all windows with that block share.
"""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody reads)
from torch import Tensor, nn

from server.catalogue import ModelCard
from server.domain.errors import ConfigurationError
from server.ensemble.detections import NMS_VERSIONS, Detections, no_detections, overlaps, unsuppressed

VERSIONS = {"hog": 1, **NMS_VERSIONS}
"""Raise `hog` when any row gives other detections."""

CELL = 8
BINS = 9
_BLOCK_VALUES = 4 * BINS
_CLIP = 0.2
_AGREES = 0.6
_LEAST_WEIGHT = 0.05
_NOT_ZERO = 1e-20
_STRIP_PIXELS = 1 << 16
_MOST_LEVELS = 64


class Parameters(msgspec.Struct, frozen=True):
    """The `parameters` of a card.

    `window` is width and height in pixels, `body` the box of a person in it, as `x1 y1 x2 y2` in 0..1. A row is
    searched at `largest`, `largest / step`, ... times its size, with a margin of `margin_cells` cells of 8 pixels, as
    long as the window fits. A detection has a decision value of at least `decision_floor`; `decision_border` is the
    decision value with a score of 0.5. `max_overlap` is an intersection over union.
    """

    window: tuple[int, int]
    body: tuple[float, float, float, float]
    largest: float
    step: float
    margin_cells: int
    square_root: bool | int
    decision_floor: float
    decision_border: float
    max_overlap: float


class HogPeople(nn.Module):
    """A person detector. Rows of float [N, 1, H, W], grey in 0..255, of any size.

    `coefficients` are OpenCV's: one per block value of the window, then the bias. Raises ValueError when their number
    does not fit the window.
    """

    def __init__(self, coefficients: Tensor, parameters: Parameters) -> None:
        super().__init__()
        width, height = parameters.window
        self.columns, self.rows = width // CELL - 1, height // CELL - 1
        if coefficients.numel() != self.columns * self.rows * _BLOCK_VALUES + 1:
            raise ValueError(f"{coefficients.numel()} coefficients do not fit a window of {width}x{height}")
        self.settings = parameters
        self.places = nn.Parameter(_by_place(coefficients[:-1], self.columns, self.rows), requires_grad=False)
        self.bias = nn.Parameter(coefficients[-1].clone(), requires_grad=False)
        self.register_buffer("votes", _votes())
        self.register_buffer("orientations", _orientations().float().view(-1, 1, 1))

    votes: Tensor
    orientations: Tensor

    def forward(self, rows: Tensor) -> list[Detections]:
        """Detections of each row. Rows go one by one: the pyramid of a large batch does not fit the cache."""
        return [self._detect(row[None]) for row in rows]

    def decision_values(self, grey: Tensor) -> Tensor:
        """The SVM's value of each window of grey [1, 1, H, W] (0..255) at a stride of 8 pixels.

        The result is [windows down, windows across], empty where the window does not fit.
        """
        cells_down, cells_across = grey.shape[-2] // CELL, grey.shape[-1] // CELL
        down, across = cells_down - self.rows, cells_across - self.columns
        if down <= 0 or across <= 0:
            return grey.new_empty((max(down, 0), max(across, 0)))
        blocks = self._blocks(grey, cells_down, cells_across)
        answers = self.places @ blocks.flatten(1)
        answers = answers.view(self.rows, self.columns, cells_down - 1, cells_across - 1)
        values = self.bias.expand(down, across).clone()
        for row in range(self.rows):
            for column in range(self.columns):
                values += answers[row, column, row : row + down, column : column + across]
        return values

    def _blocks(self, grey: Tensor, cells_down: int, cells_across: int) -> Tensor:
        """Normalised block histograms, [36, blocks down, blocks across]; values by cell row, cell column, bin.

        They are computed in strips of rows, which fit the cache.
        """
        padded = F.pad(grey.sqrt() if self.settings.square_root else grey, (1, 1, 1, 1), mode="reflect")[0, 0]
        padded = padded[: cells_down * CELL + 2, : cells_across * CELL + 2]
        strip = max(2, _STRIP_PIXELS // (CELL * CELL * cells_across))
        above: Tensor | None = None
        blocks = []
        for top in range(0, cells_down, strip):
            tall = self._tall(padded[top * CELL : min(top + strip, cells_down) * CELL + 2])
            upper, lower = tall[:, :, 0], tall[:, :, 1]
            upper = upper if above is None else torch.cat((above, upper), 1)
            lower = lower[:, 1:] if above is None else lower
            above = upper[:, -1:]
            if lower.shape[1]:
                blocks.append(self._wide(upper[:, :-1] + lower))
        block = torch.cat(blocks, 1)
        block /= block.square().sum(0).sqrt_().add_(_BLOCK_VALUES * 0.1)
        block.clamp_(max=_CLIP)
        return block.div_(block.square().sum(0).sqrt_().add_(1e-3))

    def _tall(self, padded: Tensor) -> Tensor:
        """Votes along the columns: [bins, tiles down, half of the block, cell row, W].

        `padded` is a strip of whole tiles with one more pixel on each side. The magnitude of a pixel's gradient is
        split between the two nearest orientations. Then the 8 rows of a tile vote into the 2 cell rows of two blocks:
        of the one whose upper half the tile is, and of the one whose lower half it is.
        """
        dx = padded[1:-1, 2:] - padded[1:-1, :-2]
        dy = padded[2:, 1:-1] - padded[:-2, 1:-1]
        magnitude = torch.addcmul(dx * dx, dy, dy).sqrt_()
        # In bins, -5..4. Orientations have no sign, so atan does, without atan2.
        place = dy.div_(dx.add_(_NOT_ZERO)).atan_().mul_(BINS / math.pi).sub_(0.5)
        oriented = torch.addcmul(place * magnitude, self.orientations, magnitude, value=-1).abs_()
        torch.sub(magnitude, oriented, out=oriented)
        # The last orientation is followed by the first.
        torch.maximum(oriented[-1], place.neg_().sub_(BINS // 2).mul_(magnitude), out=oriented[-1])
        oriented.relu_()
        bins, height, width = oriented.shape
        tall = self.votes.expand(bins * height // CELL, -1, -1) @ oriented.view(-1, CELL, width)
        return tall.view(bins, height // CELL, 2, 2, width)

    def _wide(self, tall: Tensor) -> Tensor:
        """The same along the rows: [bins, blocks down, cell row, W] -> [36, blocks down, blocks across]."""
        bins, down, _cell_rows, width = tall.shape
        wide = (tall.view(-1, CELL) @ self.votes.T).view(bins, down, 2, width // CELL, 2, 2)
        block = wide[:, :, :, :-1, 0] + wide[:, :, :, 1:, 1]  # bins, down, cell row, across, cell column
        return block.permute(2, 4, 0, 1, 3).reshape(_BLOCK_VALUES, down, -1)

    def _detect(self, row: Tensor) -> Detections:
        height, width = row.shape[-2:]
        level_boxes: list[tuple[Tensor, Tensor]] = []
        scale = self.settings.largest
        for _ in range(_MOST_LEVELS):
            size = (round(height * scale), round(width * scale))
            pad = self.settings.margin_cells * CELL
            if size[1] + 2 * pad < self.settings.window[0] or size[0] + 2 * pad < self.settings.window[1]:
                break
            level_boxes.append(self._level(row, size, pad))
            scale /= self.settings.step
        if not level_boxes:
            return no_detections(row.device)
        boxes, values = (torch.cat(part) for part in zip(*level_boxes, strict=True))
        boxes, values = self._merged(boxes, values)
        classes = torch.zeros(len(values), dtype=torch.int64, device=values.device)
        return Detections(boxes, score_of(values - self.settings.decision_border), classes)

    def _merged(self, boxes: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """One box per person, best value first: greedy suppression, then the mean of the boxes like each that is left.

        Windows lie on a grid. Their mean, weighted by decision value, moves less between frames: on vtest.avi feet
        scatter by 3.5 pixels instead of 4.8.
        """
        best = unsuppressed(boxes, values, self.settings.max_overlap)
        weights = (overlaps(boxes[best], boxes) >= _AGREES) * (values - self.settings.decision_floor + _LEAST_WEIGHT)
        return weights @ boxes / weights.sum(1, keepdim=True), values[best]

    def _level(self, row: Tensor, size: tuple[int, int], pad: int) -> tuple[Tensor, Tensor]:
        """Bodies and decision values of the windows above the floor, in the row resized to `size` (height, width)."""
        level = row
        if size != tuple(row.shape[-2:]):
            level = F.interpolate(
                row, size, mode="bilinear", align_corners=False, antialias=size < tuple(row.shape[-2:])
            )
        if pad:
            level = F.pad(level, (pad, pad, pad, pad), mode="replicate")
        values = self.decision_values(level)
        y, x = torch.nonzero(values >= self.settings.decision_floor, as_tuple=True)
        corner = torch.stack((x, y), 1) * CELL - pad
        frame = row.new_tensor((size[1], size[0]))
        window = row.new_tensor(self.settings.window)
        body = row.new_tensor(self.settings.body)
        boxes = torch.cat(((corner + body[:2] * window) / frame, (corner + body[2:] * window) / frame), 1)
        return boxes, values[y, x]


def score_of(decision_values: Tensor) -> Tensor:
    """Decision values as scores in 0..1: the logistic function of twice the value; not a probability."""
    return torch.sigmoid(2 * decision_values)


def _by_place(coefficients: Tensor, columns: int, rows: int) -> Tensor:
    """Coefficients in OpenCV's order (columns of blocks, columns of cells, bins) as [block place, block value].

    Places count row by row. The values of a block are in the order of `_blocks`: cell row, cell column, bin.
    """
    ordered = coefficients.view(columns, rows, 2, 2, BINS)[..., _orientations() % BINS].permute(1, 0, 3, 2, 4)
    return ordered.reshape(rows * columns, _BLOCK_VALUES).clone()


def _orientations() -> Tensor:
    """The bins in the order used here, -4..4. OpenCV counts them from 0 to 8, which is the same modulo 9."""
    return torch.arange(BINS) - BINS // 2


def _votes() -> Tensor:
    """The weight of a pixel along one axis: [half of the block * cell, pixel of the tile].

    It is a Gaussian window around pixel 8 of the block's 16 (OpenCV's centre), times linear voting between cells.
    """
    pixel = torch.arange(2 * CELL, dtype=torch.float64)
    gauss = torch.exp(-((pixel - CELL) ** 2) / (2 * (CELL / 2) ** 2))
    place = (pixel + 0.5) / CELL - 0.5
    cell = torch.arange(2, dtype=torch.float64)
    share = (1 - (place - cell[:, None]).abs()).clamp(min=0) * gauss  # cell, pixel of the block
    return share.view(2, 2, CELL).permute(1, 0, 2).reshape(2 * 2, CELL).float()


def build(card: ModelCard, weights: Path | None) -> HogPeople:
    """The detector of `card` with its coefficients, in evaluation mode."""
    if weights is None:
        raise ConfigurationError(f"{card.name} has no coefficients")
    return HogPeople(torch.from_numpy(np.fromfile(weights, "<f4")), card.parameters_as(Parameters)).eval()
