"""People by histograms of oriented gradients and a linear SVM (Dalal and Triggs, CVPR 2005), as torch modules.

The arithmetic is that of OpenCV's `HOGDescriptor` with its defaults: gradients of the square root of the grey
level, 9 unsigned orientations, cells of 8 x 8 pixels, blocks of 2 x 2 cells with a Gaussian window (sigma 4) and
linear voting in place and angle, L2-Hys normalisation at 0.2, windows at a stride of one cell. So OpenCV's
published coefficients can be used as they are, and the decision value of a window is OpenCV's.

What makes it quick here: the vote of a pixel is separable (angle x row x column), so block histograms are two
small matrix products over tiles of one cell; and a linear SVM over a window of blocks is one matrix product per
block place followed by shifted sums, shared by all windows that contain the block.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody reads)
from torch import Tensor, nn

from server.domain.errors import ConfigurationError
from server.ensemble.detections import NMS_VERSIONS, Detections, no_detections, overlaps, unsuppressed

if TYPE_CHECKING:
    from server.catalogue.card import ModelCard

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


class HogPeople(nn.Module):
    """A person detector. Rows of float [N, 1, H, W], grey in 0..255, of any size.

    `coefficients` are OpenCV's: one per block value of the window, then the bias. `window` is width and height
    in pixels. The rows are looked at in sizes `largest`, `largest / step`, ... of their own, `levels` of them
    at most, or until the window no longer fits. `body` is the box of a person within the window, as
    `x1 y1 x2 y2` in 0..1 of it. Detections have decision values of at least `decision_floor`.
    """

    def __init__(
        self,
        coefficients: Tensor,
        window: tuple[int, int],
        *,
        body: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
        largest: float = 1.0,
        step: float = 1.1,
        levels: int = 64,
        margin_cells: int = 0,
        square_root: bool = True,
        decision_floor: float = 0.0,
        decision_border: float = 0.0,
        max_overlap: float = 0.35,
    ) -> None:
        super().__init__()
        width, height = window
        self.window = window
        self.columns, self.rows = width // CELL - 1, height // CELL - 1
        if coefficients.numel() != self.columns * self.rows * _BLOCK_VALUES + 1:
            raise ValueError(f"{coefficients.numel()} coefficients do not fit a window of {width}x{height}")
        self.body = body
        self.largest = largest
        self.step = step
        self.levels = levels
        self.margin_cells = margin_cells
        self.square_root = square_root
        self.decision_floor = decision_floor
        self.decision_border = decision_border
        self.max_overlap = max_overlap
        self.places = nn.Parameter(_by_place(coefficients[:-1], self.columns, self.rows), requires_grad=False)
        self.bias = nn.Parameter(coefficients[-1].clone(), requires_grad=False)
        self.register_buffer("votes", _votes())
        self.register_buffer("orientations", _orientations().float().view(-1, 1, 1))

    votes: Tensor
    orientations: Tensor

    def forward(self, rows: Tensor) -> list[Detections]:
        """Detections of each row. One row at a time: a pyramid of a large batch would not fit any cache."""
        return [self._detect(row[None]) for row in rows]

    def decision_values(self, grey: Tensor) -> Tensor:
        """The SVM's value for every window of grey [1, 1, H, W] (0..255) at a stride of 8 pixels.

        [windows down, windows across]; empty where the window does not fit.
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
        """Normalised block histograms, [36, blocks down, blocks across]; values by cell row, cell column, bin."""
        padded = F.pad(grey.sqrt() if self.square_root else grey, (1, 1, 1, 1), mode="reflect")[0, 0]
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

        `padded` is a strip of whole tiles with one pixel more on each side. The magnitude of a pixel's gradient
        is shared out over the two nearest orientations; then a tile's 8 rows vote into the 2 cell rows of the
        block it is the upper half of, and of the block it is the lower half of.
        """
        dx = padded[1:-1, 2:] - padded[1:-1, :-2]
        dy = padded[2:, 1:-1] - padded[:-2, 1:-1]
        magnitude = torch.addcmul(dx * dx, dy, dy).sqrt_()
        # In bins, -5..4: orientations have no sign, so neither needs the arctangent one.
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
        scale = self.largest
        for _ in range(self.levels):
            size = (round(height * scale), round(width * scale))
            pad = self.margin_cells * CELL
            if size[1] + 2 * pad < self.window[0] or size[0] + 2 * pad < self.window[1]:
                break
            level_boxes.append(self._level(row, size, pad))
            scale /= self.step
        if not level_boxes:
            return no_detections(row.device)
        boxes, values = (torch.cat(part) for part in zip(*level_boxes, strict=True))
        boxes, values = self._merged(boxes, values)
        classes = torch.zeros(len(values), dtype=torch.int64, device=values.device)
        return Detections(boxes, score_of(values - self.decision_border), classes)

    def _merged(self, boxes: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """One box per person, best value first: greedy suppression, each box then the mean of those like it.

        Windows lie on a grid; their mean, weighted by decision value, stands stiller (on vtest.avi feet scatter
        by 3.5 pixels instead of 4.8).
        """
        best = unsuppressed(boxes, values, self.max_overlap)
        weights = (overlaps(boxes[best], boxes) >= _AGREES) * (values - self.decision_floor + _LEAST_WEIGHT)
        return weights @ boxes / weights.sum(1, keepdim=True), values[best]

    def _level(self, row: Tensor, size: tuple[int, int], pad: int) -> tuple[Tensor, Tensor]:
        """Bodies and decision values of the windows above the floor, with the row brought to `size`."""
        level = row
        if size != tuple(row.shape[-2:]):
            level = F.interpolate(
                row, size, mode="bilinear", align_corners=False, antialias=size < tuple(row.shape[-2:])
            )
        if pad:
            level = F.pad(level, (pad, pad, pad, pad), mode="replicate")
        values = self.decision_values(level)
        y, x = torch.nonzero(values >= self.decision_floor, as_tuple=True)
        corner = torch.stack((x, y), 1) * CELL - pad
        frame = row.new_tensor((size[1], size[0]))
        window = row.new_tensor(self.window)
        body = row.new_tensor(self.body)
        boxes = torch.cat(((corner + body[:2] * window) / frame, (corner + body[2:] * window) / frame), 1)
        return boxes, values[y, x]


def score_of(decision_values: Tensor) -> Tensor:
    """Decision values as scores in 0..1: the logistic curve of twice the value.

    Monotone, 0.5 at the SVM's own border; not a probability.
    """
    return torch.sigmoid(2 * decision_values)


def _by_place(coefficients: Tensor, columns: int, rows: int) -> Tensor:
    """OpenCV's order (columns of blocks first, then columns of cells, then bins) as [block place, block value].

    Places count row by row, and block values are ordered cell row, cell column, bin, as `_blocks` makes them.
    """
    ordered = coefficients.view(columns, rows, 2, 2, BINS)[..., _orientations() % BINS].permute(1, 0, 3, 2, 4)
    return ordered.reshape(rows * columns, _BLOCK_VALUES).clone()


def _orientations() -> Tensor:
    """The bins in our order, -4..4: OpenCV counts them from 0 to 8, the same modulo 9."""
    return torch.arange(BINS) - BINS // 2


def _votes() -> Tensor:
    """[half of the block * cell, pixel of the tile]: what a pixel counts along one axis.

    Gaussian window around pixel 8 of the block's 16 (OpenCV's centre), times linear voting between the cells.
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
    width, height = card.numbers("window", 2)
    left, top, right, bottom = card.numbers("body", 4)
    return HogPeople(
        torch.from_numpy(np.fromfile(weights, "<f4")),
        (int(width), int(height)),
        square_root=bool(card.number("square_root")),
        body=(left, top, right, bottom),
        largest=card.number("largest"),
        step=card.number("step"),
        margin_cells=int(card.number("margin_cells")),
        decision_floor=card.number("decision_floor"),
        decision_border=card.number("decision_border"),
        max_overlap=card.number("max_overlap"),
    ).eval()
