"""YOLOv3-tiny (J. Redmon, A. Farhadi: "YOLOv3: An Incremental Improvement", arXiv:1804.02767) with Darknet's weights.

It has thirteen convolutions and two detection layers: at stride 32 with the three largest anchors, at stride 16 with
anchors 1, 2 and 3. The common configuration file names anchors 0, 1, 2 for stride 16, but the weights were trained
with 1, 2, 3. With the wrong anchors boxes of people are half as wide and high as they should be.

Batch normalisation is folded into the convolutions while the weights are read.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody reads)
from torch import Tensor, nn

from server.catalogue import ModelCard
from server.domain.errors import ConfigurationError
from server.ensemble.detections import NMS_VERSIONS, Detections, no_detections, suppress

VERSIONS = {"yolov3-tiny": 1, **NMS_VERSIONS}
"""Raise `yolov3-tiny` when any row gives other detections."""

ANCHORS = ((10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319))
"""Width and height in pixels of the network's input."""
COARSE_ANCHORS = (3, 4, 5)
FINE_ANCHORS = (1, 2, 3)

_LEAK = 0.1
_NORM_EPSILON = 1e-6


class Parameters(msgspec.Struct, frozen=True):
    """The `parameters` of a card: the least score of a detection, and the largest intersection over union of two."""

    score_floor: float
    max_overlap: float


class YoloV3Tiny(nn.Module):
    """Boxes of `class_count` classes. Rows of float [N, 3, H, W], RGB in 0..1, H and W multiples of 32."""

    def __init__(self, class_count: int, parameters: Parameters) -> None:
        super().__init__()
        self.class_count = class_count
        self.settings = parameters
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
        """Detections of each row, suppressed class by class. Raises ValueError for sides of another length.

        The score of a class is objectness times class probability, as in Darknet and OpenCV.
        """
        height, width = rows.shape[-2:]
        if height % 32 or width % 32:
            raise ValueError(f"yolov3-tiny wants sides that are multiples of 32, not {width}x{height}")
        layers = self.layers(rows)
        return [self._row([layer[index] for layer in layers], (width, height)) for index in range(len(rows))]

    def layers(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The two raw detection layers, coarse and fine: [N, 3 * (5 + classes), H / stride, W / stride]."""
        at_16 = rows = rows.to(self.neck.weight.dtype)
        for depth, conv in enumerate(self.trunk):
            rows = _leaky(conv(rows))
            if depth == 4:
                at_16 = rows
            if depth < 5:
                rows = F.max_pool2d(rows, 2)
            elif depth == 5:  # Darknet's pooling of stride 1 pads right and bottom, to keep the size
                rows = F.max_pool2d(F.pad(rows, (0, 1, 0, 1), value=-math.inf), 2, stride=1)
        necked = _leaky(self.neck(rows))
        upsampled = F.interpolate(_leaky(self.fine_neck(necked)), scale_factor=2.0, mode="nearest")
        fine = _leaky(self.fine(torch.cat((upsampled, at_16), 1)))
        return self.coarse_head(_leaky(self.coarse(necked))).float(), self.fine_head(fine).float()

    def _row(self, layers: list[Tensor], size: tuple[int, int]) -> Detections:
        parts = [
            self._boxes(layer, [ANCHORS[index] for index in mask], size)
            for layer, mask in zip(layers, (COARSE_ANCHORS, FINE_ANCHORS), strict=True)
        ]
        boxes, scores, classes = (torch.cat(part) for part in zip(*parts, strict=True))
        return suppress(boxes, scores, classes, self.settings.max_overlap)

    def _boxes(self, layer: Tensor, anchors: list[tuple[int, int]], size: tuple[int, int]) -> Detections:
        """The boxes in one layer of one row, [3 * (5 + classes), rows, columns]: Darknet's `yolo` layer."""
        height, width = layer.shape[-2:]
        cells = layer.view(len(anchors), 5 + self.class_count, height, width)
        # A class cannot score more than the objectness of its box, so few cells are left to look at.
        anchor, y, x = torch.nonzero(cells[:, 4].sigmoid() >= self.settings.score_floor, as_tuple=True)
        if anchor.numel() == 0:
            return no_detections(layer.device)
        values = cells[anchor, :, y, x]
        grid = values.new_tensor((width, height))
        centre = (values[:, :2].sigmoid() + torch.stack((x, y), 1)) / grid
        half = values[:, 2:4].exp() * values.new_tensor(anchors)[anchor] / values.new_tensor(size) / 2
        scores = values[:, 4:5].sigmoid() * values[:, 5:].sigmoid()
        box, label = torch.nonzero(scores >= self.settings.score_floor, as_tuple=True)
        return Detections(torch.cat((centre - half, centre + half), 1)[box], scores[box, label], label)

    def read_darknet(self, path: Path) -> None:
        """Take the weights of a Darknet file, which has float32 in the order of the layers.

        Raises ConfigurationError when it does not fit this network.
        """
        heads = (self.coarse_head, self.fine_head)
        layers = [*self.trunk, self.neck, self.coarse, heads[0], self.fine_neck, self.fine, heads[1]]
        convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
        # A head has biases and weights; any other layer has shifts, scales, means and variances before its weights.
        sizes = [
            size
            for conv in convolutions
            for size in (*[conv.out_channels] * (1 if conv in heads else 4), conv.weight.numel())
        ]
        values = _darknet_values(path)
        if len(values) < sum(sizes):
            raise ConfigurationError(f"{path} ends too early for this network")
        if len(values) > sum(sizes):
            raise ConfigurationError(f"{path} has {len(values) - sum(sizes)} values too many for this network")
        parts = iter(torch.split(values, sizes))
        for conv in convolutions:
            _fill(conv, [next(parts) for _ in range(2 if conv in heads else 5)])


def build(card: ModelCard, weights: Path | None) -> YoloV3Tiny:
    """The network of `card` with its weights, in evaluation mode."""
    if weights is None:
        raise ConfigurationError(f"{card.name} has no weights")
    network = YoloV3Tiny(len(card.classes), card.parameters_as(Parameters))
    network.read_darknet(weights)
    return network.to(memory_format=torch.channels_last).eval()


def _darknet_values(path: Path) -> Tensor:
    """The numbers of a Darknet file after its header. Raises ConfigurationError for another kind of file."""
    content = path.read_bytes()
    major, minor = np.frombuffer(content, "<i4", 2) if len(content) >= 8 else (0, 0)
    header_bytes = 12 + (8 if major * 10 + minor >= 2 else 4)
    if len(content) < header_bytes or (len(content) - header_bytes) % 4:
        raise ConfigurationError(f"{path} is not a Darknet weights file ({len(content)} bytes)")
    return torch.from_numpy(np.frombuffer(content, "<f4", offset=header_bytes).copy())


def _fill(conv: nn.Conv2d, parts: list[Tensor]) -> None:
    """Set weights and biases, with the batch normalisation, if `parts` has one, folded into them."""
    assert conv.bias is not None
    bias, *norm, weight = parts
    weight = weight.view_as(conv.weight)
    if norm:
        scale, mean, variance = (part.double() for part in norm)
        factor = scale / (variance + _NORM_EPSILON).sqrt()
        weight, bias = weight.double() * factor[:, None, None, None], bias.double() - mean * factor
    with torch.no_grad():
        conv.weight.copy_(weight)
        conv.bias.copy_(bias)


def _leaky(values: Tensor) -> Tensor:
    return F.leaky_relu(values, _LEAK, inplace=True)
