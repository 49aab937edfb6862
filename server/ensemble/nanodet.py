"""NanoDet-g (RangiLyu, NanoDet v0.4.0, https://github.com/RangiLyu/nanodet), written from its description.

The backbone is a stem and four stages that each pass half of their work by (C.-Y. Wang et al., "CSPNet",
arXiv:1911.11929). The neck adds the levels from coarse to fine and back (S. Liu et al., arXiv:1803.01534). Each head
gives every class of a cell a score, and every side of the cell's box a distribution over distances (X. Li et al.,
"Generalized Focal Loss", arXiv:2006.04388).

The weights are those of a TensorFlow.js model: float16, each kernel in the order height, width, input, output, followed
by its biases, which hold the batch normalisation. It takes blue, green, red; here the first kernel is turned round.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody reads)
from torch import Tensor, nn

from server.catalogue import ModelCard
from server.domain.errors import ConfigurationError
from server.ensemble.detections import NMS_VERSIONS, Detections, no_detections, suppress

VERSIONS = {"nanodet-g": 1, **NMS_VERSIONS}
"""Raise `nanodet-g` when any row gives other detections."""

STRIDES = (8, 16, 32)
"""Pixels of the input from cell to cell in each head."""
BINS = 11
"""Distances from the centre of a cell to a side of its box: 0, 1, ... 10 strides."""

_LEAK = 0.1
_STAGES = ((32, 1, 1), (64, 2, 2), (128, 2, 2), (256, 3, 2))
"""Width, blocks and stride of each stage."""
_NECK_WIDTH = 128
_FILE_BYTES = 7574558
_KERNELS_AT = (
    *(5545944, 5547866, 5518068, 5513364, 5527384, 5566430, 5365452, 5346892, 5402448, 5328332, 5439444, 5640354),
    *(4737796, 4663876, 4885448, 4589956, 5033100, 5935590, 1639288, 1344056, 2229436, 1048824, 2819584, 753592),
    *(3409732, 654680, 687736, 7115786, 120, 295320, 327408, 622608, 7247306, 7542506),
)
"""Where each convolution begins in the file, in bytes; in the order of the modules of `NanoDet`."""


class Parameters(msgspec.Struct, frozen=True):
    """The `parameters` of a card: the least score of a detection, and the largest intersection over union of two."""

    score_floor: float
    max_overlap: float


class NanoDet(nn.Module):
    """Boxes of `class_count` classes. Rows of float [N, 3, H, W], RGB as the card normalises it, H and W multiples
    of 32.
    """

    def __init__(self, class_count: int, parameters: Parameters) -> None:
        super().__init__()
        self.class_count = class_count
        self.settings = parameters
        self.stem = nn.Conv2d(3, 32, 3, stride=2, padding=1)
        self.stages = nn.ModuleList()
        before = 32
        for width, blocks, stride in _STAGES:
            self.stages.append(_Stage(before, width, blocks, stride))
            before = 2 * width
        self.laterals = nn.ModuleList(nn.Conv2d(2 * width, _NECK_WIDTH, 1) for width, _, _ in _STAGES[1:])
        self.heads = nn.ModuleList(_Head(class_count + 4 * BINS) for _ in STRIDES)

    def forward(self, rows: Tensor) -> list[Detections]:
        """Detections of each row, suppressed class by class. Raises ValueError for sides of another length."""
        height, width = rows.shape[-2:]
        if height % STRIDES[-1] or width % STRIDES[-1]:
            raise ValueError(f"nanodet-g wants sides that are multiples of {STRIDES[-1]}, not {width}x{height}")
        layers = self.layers(rows)
        return [self._row([layer[index] for layer in layers], (width, height)) for index in range(len(rows))]

    def layers(self, rows: Tensor) -> list[Tensor]:
        """The raw numbers of the heads, fine to coarse: [N, classes + 4 * BINS, H / stride, W / stride]."""
        rows = F.max_pool2d(_leaky(self.stem(rows.to(self.stem.weight.dtype))), 3, stride=2, padding=1)
        levels = []
        for stage in self.stages:
            rows = stage(rows)
            levels.append(rows)
        fine, middle, coarse = (lateral(level) for lateral, level in zip(self.laterals, levels[1:], strict=True))
        middle = middle + F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
        fine = fine + F.interpolate(middle, scale_factor=2.0, mode="bilinear", align_corners=False)
        middle = middle + F.avg_pool2d(fine, 2)  # a bilinear resize to half the size
        coarse = coarse + F.avg_pool2d(middle, 2)
        return [head(level).float() for head, level in zip(self.heads, (fine, middle, coarse), strict=True)]

    def _row(self, layers: list[Tensor], size: tuple[int, int]) -> Detections:
        parts = [self._boxes(layer, stride, size) for layer, stride in zip(layers, STRIDES, strict=True)]
        boxes, scores, classes = (torch.cat(part) for part in zip(*parts, strict=True))
        return suppress(boxes, scores, classes, self.settings.max_overlap)

    def _boxes(self, layer: Tensor, stride: int, size: tuple[int, int]) -> Detections:
        """The boxes of one head in one row, [classes + 4 * BINS, rows, columns]."""
        scores = layer[: self.class_count].sigmoid()
        label, y, x = torch.nonzero(scores >= self.settings.score_floor, as_tuple=True)
        if label.numel() == 0:
            return no_detections(layer.device)
        spread = layer[self.class_count :, y, x].view(4, BINS, -1).softmax(1)
        sides = torch.einsum("sbk,b->ks", spread, torch.arange(BINS, dtype=spread.dtype, device=spread.device))
        centre = torch.stack((x, y), 1) + 0.5
        cells = sides.new_tensor(size) / stride
        boxes = torch.cat(((centre - sides[:, :2]) / cells, (centre + sides[:, 2:]) / cells), 1)
        return Detections(boxes, scores[label, y, x], label)

    def read_tfjs(self, path: Path) -> None:
        """Take the weights of the file. Raises ConfigurationError when it is not the one this network knows."""
        content = path.read_bytes()
        if len(content) != _FILE_BYTES:
            raise ConfigurationError(f"{path} has {len(content)} bytes, the weights of nanodet-g {_FILE_BYTES}")
        convolutions = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        with torch.no_grad():
            for conv, start in zip(convolutions, _KERNELS_AT, strict=True):
                assert conv.bias is not None
                sizes = [conv.weight.numel(), conv.bias.numel()]
                values = np.frombuffer(content, "<f2", sum(sizes), start).astype(np.float32)
                kernel, bias = torch.split(torch.from_numpy(values), sizes)
                shape = (*conv.kernel_size, conv.in_channels, conv.out_channels)
                conv.weight.copy_(kernel.view(shape).permute(3, 2, 0, 1))
                conv.bias.copy_(bias)
            self.stem.weight.copy_(self.stem.weight.flip(1))


class _Stage(nn.Module):
    """Blocks of two convolutions, each keeping the output of both; the input of the blocks passes by them."""

    def __init__(self, before: int, width: int, blocks: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, width, 3, stride=stride, padding=1)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.last = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, rows: Tensor) -> Tensor:
        rows = passed = _leaky(self.first(rows))
        for block in self.blocks:
            rows = block(rows)
        return torch.cat((_leaky(self.last(rows)), passed), 1)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width // 2, 3, padding=1)
        self.second = nn.Conv2d(width // 2, width // 2, 3, padding=1)

    def forward(self, rows: Tensor) -> Tensor:
        half = _leaky(self.first(rows))
        return torch.cat((_leaky(self.second(half)), half), 1)


class _Head(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(_NECK_WIDTH, _NECK_WIDTH, 3, padding=1)
        self.out = nn.Conv2d(_NECK_WIDTH, outputs, 1)

    def forward(self, level: Tensor) -> Tensor:
        answer: Tensor = self.out(_leaky(self.conv(level)))
        return answer


def build(card: ModelCard, weights: Path | None) -> NanoDet:
    """The network of `card` with its weights, in evaluation mode."""
    if weights is None:
        raise ConfigurationError(f"{card.name} has no weights")
    network = NanoDet(len(card.classes), card.parameters_as(Parameters))
    network.read_tfjs(weights)
    return network.to(memory_format=torch.channels_last).eval()


def _leaky(values: Tensor) -> Tensor:
    return F.leaky_relu(values, _LEAK, inplace=True)
