"""YOLOv3-tiny (Redmon and Farhadi, "YOLOv3: An Incremental Improvement", 2018) over Darknet's official weights.

Thirteen convolutions, two detection layers: stride 32 with the three largest anchors, stride 16 with anchors 1, 2
and 3. The configuration file that circulates names anchors 0, 1, 2 for the latter; the weights were trained with
1, 2, 3, and with the wrong ones people are still found, in boxes half as wide and high as they should be.

Batch normalisation is folded into the convolutions as the weights are read, so the network that runs has none.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody reads)
from torch import Tensor, nn

from server.domain.errors import ConfigurationError
from server.ensemble.detections import NMS_VERSIONS, Detections, no_detections, suppress

if TYPE_CHECKING:
    from server.catalogue.card import ModelCard

VERSIONS = {"yolov3-tiny": 1, **NMS_VERSIONS}
"""Raise `yolov3-tiny` when any row gives other detections."""

ANCHORS = ((10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319))
"""Width and height in pixels of the network's input."""
COARSE_ANCHORS = (3, 4, 5)
FINE_ANCHORS = (1, 2, 3)

_LEAK = 0.1
_NORM_EPSILON = 1e-6


class YoloV3Tiny(nn.Module):
    """Boxes of `class_count` classes. Rows of float [N, 3, H, W], RGB in 0..1, H and W multiples of 32."""

    def __init__(self, class_count: int = 80, *, score_floor: float = 0.1, max_overlap: float = 0.45) -> None:
        super().__init__()
        self.class_count = class_count
        self.score_floor = score_floor
        self.max_overlap = max_overlap
        widths = (3, 16, 32, 64, 128, 256, 512, 1024)
        self.trunk = nn.ModuleList(nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(widths))
        answers = 3 * (5 + class_count)
        self.neck = nn.Conv2d(1024, 256, 1)
        self.coarse = nn.Conv2d(256, 512, 3, padding=1)
        self.coarse_head = nn.Conv2d(512, answers, 1)
        self.fine_neck = nn.Conv2d(256, 128, 1)
        self.fine = nn.Conv2d(128 + 256, 256, 3, padding=1)
        self.fine_head = nn.Conv2d(256, answers, 1)

    def forward(self, rows: Tensor) -> list[Detections]:
        """Detections of each row, at or above the score floor, suppressed class by class.

        The score of a class is objectness times class probability, as Darknet and OpenCV have it.
        """
        height, width = rows.shape[-2:]
        if height % 32 or width % 32:
            raise ValueError(f"yolov3-tiny wants sides that are multiples of 32, not {width}x{height}")
        layers = self.layers(rows)
        return [self._row([layer[index] for layer in layers], (width, height)) for index in range(len(rows))]

    def layers(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The two raw detection layers, coarse and fine: [N, 3 * (5 + classes), H / stride, W / stride]."""
        at_16 = rows
        for depth, conv in enumerate(self.trunk):
            rows = _leaky(conv(rows))
            if depth == 4:
                at_16 = rows
            if depth < 5:
                rows = F.max_pool2d(rows, 2)
            elif depth == 5:  # Darknet's pooling of stride 1 keeps the size: it pads right and bottom
                rows = F.max_pool2d(F.pad(rows, (0, 1, 0, 1), value=-math.inf), 2, stride=1)
        necked = _leaky(self.neck(rows))
        upsampled = F.interpolate(_leaky(self.fine_neck(necked)), scale_factor=2.0, mode="nearest")
        fine = _leaky(self.fine(torch.cat((upsampled, at_16), 1)))
        return self.coarse_head(_leaky(self.coarse(necked))), self.fine_head(fine)

    def _row(self, layers: list[Tensor], size: tuple[int, int]) -> Detections:
        parts = [
            self._boxes(layer, [ANCHORS[index] for index in mask], size)
            for layer, mask in zip(layers, (COARSE_ANCHORS, FINE_ANCHORS), strict=True)
        ]
        boxes, scores, classes = (torch.cat(part) for part in zip(*parts, strict=True))
        return suppress(boxes, scores, classes, self.max_overlap)

    def _boxes(self, layer: Tensor, anchors: list[tuple[int, int]], size: tuple[int, int]) -> Detections:
        """One layer of one row, [3 * (5 + classes), rows, columns], as boxes: Darknet's `yolo` layer."""
        height, width = layer.shape[-2:]
        cells = layer.view(len(anchors), 5 + self.class_count, height, width)
        # No class can score more than its box's objectness, which leaves few cells to look at.
        anchor, y, x = torch.nonzero(cells[:, 4].sigmoid() >= self.score_floor, as_tuple=True)
        if anchor.numel() == 0:
            return no_detections(layer.device)
        values = cells[anchor, :, y, x]
        grid = values.new_tensor((width, height))
        centre = (values[:, :2].sigmoid() + torch.stack((x, y), 1)) / grid
        half = values[:, 2:4].exp() * values.new_tensor(anchors)[anchor] / values.new_tensor(size) / 2
        scores = values[:, 4:5].sigmoid() * values[:, 5:].sigmoid()
        box, label = torch.nonzero(scores >= self.score_floor, as_tuple=True)
        return Detections(torch.cat((centre - half, centre + half), 1)[box], scores[box, label], label)

    def read_darknet(self, path: Path) -> None:
        """Take Darknet's weights as they are in the file. Raises ConfigurationError when it does not fit this
        network.
        """
        weights = _DarknetFile(path)
        for conv in self.trunk:
            weights.fill_normalised(conv)
        weights.fill_normalised(self.neck)
        weights.fill_normalised(self.coarse)
        weights.fill_plain(self.coarse_head)
        weights.fill_normalised(self.fine_neck)
        weights.fill_normalised(self.fine)
        weights.fill_plain(self.fine_head)
        weights.finish()


class _DarknetFile:
    """A Darknet weights file read from front to back: a header, then float32 in the order of the layers."""

    def __init__(self, path: Path) -> None:
        raw = path.read_bytes()
        major, minor = np.frombuffer(raw, "<i4", 2) if len(raw) >= 8 else (0, 0)
        header_bytes = 12 + (8 if major * 10 + minor >= 2 else 4)
        if len(raw) < header_bytes or (len(raw) - header_bytes) % 4:
            raise ConfigurationError(f"{path} is not a Darknet weights file ({len(raw)} bytes)")
        self._path = path
        self._values = torch.from_numpy(np.frombuffer(raw, "<f4", offset=header_bytes).copy())
        self._next = 0

    def fill_normalised(self, conv: nn.Module) -> None:
        """A convolution followed by batch normalisation, folded into one with a bias."""
        assert isinstance(conv, nn.Conv2d)
        shift, scale, mean, variance = (self._take(conv.out_channels).double() for _ in range(4))
        weight = self._take(conv.weight.numel()).view_as(conv.weight).double()
        factor = scale / (variance + _NORM_EPSILON).sqrt()
        _set(conv, weight * factor[:, None, None, None], shift - mean * factor)

    def fill_plain(self, conv: nn.Conv2d) -> None:
        """A convolution with a bias."""
        bias = self._take(conv.out_channels)
        _set(conv, self._take(conv.weight.numel()).view_as(conv.weight), bias)

    def finish(self) -> None:
        if self._next != len(self._values):
            raise ConfigurationError(
                f"{self._path} has {len(self._values) - self._next} values too many for this network"
            )

    def _take(self, count: int) -> Tensor:
        taken = self._values[self._next : self._next + count]
        if len(taken) < count:
            raise ConfigurationError(f"{self._path} ends too early for this network")
        self._next += count
        return taken


def build(card: ModelCard, weights: Path | None) -> YoloV3Tiny:
    """The network of `card` with its weights, in evaluation mode."""
    if weights is None:
        raise ConfigurationError(f"{card.name} has no weights")
    network = YoloV3Tiny(
        len(card.classes), score_floor=card.number("score_floor"), max_overlap=card.number("max_overlap")
    )
    network.read_darknet(weights)
    return network.to(memory_format=torch.channels_last).eval()


def _leaky(values: Tensor) -> Tensor:
    return F.leaky_relu(values, _LEAK, inplace=True)


def _set(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    assert conv.bias is not None
    with torch.no_grad():
        conv.weight.copy_(weight)
        conv.bias.copy_(bias)
