"""SSDLite on MobileNetV2 (M. Sandler et al., "MobileNetV2", CVPR 2018), as TensorFlow's object detection trains it.

SSD is W. Liu et al., "SSD: Single Shot MultiBox Detector" (arXiv:1512.02325). Six levels of features are searched for
boxes near anchors. Lite means that the heads are separable: one convolution of each channel, then one across them.

The weights are a frozen TensorFlow graph, with TensorFlow's "same" padding. Batch normalisation is folded into the
convolutions after reading.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody reads)
from torch import Tensor, nn

from server.catalogue import ModelCard
from server.catalogue.frozen_graph import Constant, float_constants
from server.domain.errors import ConfigurationError
from server.ensemble.detections import NMS_VERSIONS, Detections, no_detections, suppress
from server.ensemble.efficientnet_lite import Block, Convolution

VERSIONS = {"ssdlite": 1, **NMS_VERSIONS}
"""Raise `ssdlite` when any row gives other detections."""

SIDE = 300
"""Pixels of a row. The padding depends on it."""

_STEM, _HEAD = 32, 1280
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, repeats, stride; table 2 of the paper."""
_TAPPED = 13
"""The block whose expansion is the finest level of features."""
_EXTRAS = ((256, 512), (128, 256), (128, 256), (64, 128))
"""Narrow and wide channels of each level after the head."""
_SCALES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)
"""Sides of the square anchors of each level, in 0..1; the last is that beyond the coarsest."""
_FINEST_ANCHORS = ((0.1, 1.0), (0.2, 2.0), (0.2, 0.5))
"""Scale, and width by height."""
_RATIOS = (1.0, 2.0, 0.5, 3.0, 0.3333)
_CENTRE_UNIT, _SIDE_UNIT = 10.0, 5.0
"""What the network's numbers for a box are divided by."""

_BACKBONE = "FeatureExtractor/MobilenetV2"


class Parameters(msgspec.Struct, frozen=True):
    """The `parameters` of a card: the least score of a detection, and the largest intersection over union of two."""

    score_floor: float
    max_overlap: float


class SsdLite(nn.Module):
    """Boxes of `class_count` classes. Rows of float [N, 3, 300, 300], RGB in -1..1."""

    def __init__(self, class_count: int, parameters: Parameters) -> None:
        super().__init__()
        self.class_count = class_count
        self.settings = parameters
        self.stem = Convolution(3, _STEM, 3, side=SIDE, stride=2)
        side, before = -(-SIDE // 2), _STEM
        blocks: list[Block] = []
        levels = []
        for expansion, after, repeats, stage_stride in _STAGES:
            for stride in (stage_stride, *(1,) * (repeats - 1)):
                if len(blocks) == _TAPPED:
                    levels.append((before * expansion, side))
                blocks.append(Block(before, after, expansion, 3, stride, side))
                side, before = -(-side // stride), after
        self.blocks = nn.ModuleList(blocks)
        self.head = Convolution(before, _HEAD, 1, side=side)
        levels.append((_HEAD, side))
        self.extras = nn.ModuleList()
        for narrow, wide in _EXTRAS:
            self.extras.append(_Extra(levels[-1][0], narrow, wide, side))
            side = -(-side // 2)
            levels.append((wide, side))
        anchors = [_anchors(place, side) for place, (_, side) in enumerate(levels)]
        self.predictors = nn.ModuleList(
            _Predictor(width, side, len(own) // side**2, class_count)
            for (width, side), own in zip(levels, anchors, strict=True)
        )
        self.register_buffer("anchors", torch.cat(anchors))

    anchors: Tensor

    def forward(self, rows: Tensor) -> list[Detections]:
        """Detections of each row, suppressed class by class. Raises ValueError for rows of another size."""
        if tuple(rows.shape[-2:]) != (SIDE, SIDE):
            raise ValueError(f"ssdlite wants {SIDE}x{SIDE}, not {rows.shape[-1]}x{rows.shape[-2]}")
        offsets, logits = self.layers(rows)
        return [self._row(offset, logit) for offset, logit in zip(offsets, logits, strict=True)]

    def layers(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The raw numbers for each anchor: offsets [N, anchors, 4] and logits [N, anchors, 1 + classes]."""
        rows = F.relu6(self.stem(rows.to(self.stem.conv.weight.dtype)))
        levels = []
        for place, block in enumerate(self.blocks):
            if place == _TAPPED:
                assert isinstance(block, Block)
                rows, expanded = block.with_expansion(rows)
                levels.append(expanded)
            else:
                rows = block(rows)
        levels.append(F.relu6(self.head(rows)))
        for extra in self.extras:
            levels.append(extra(levels[-1]))
        answers = [predict(level) for predict, level in zip(self.predictors, levels, strict=True)]
        offsets, logits = (torch.cat(part, 1).float() for part in zip(*answers, strict=True))
        return offsets, logits

    def _row(self, offsets: Tensor, logits: Tensor) -> Detections:
        """The boxes of one row. The first class is the background, and has no part in the others' scores."""
        scores = logits[:, 1:].sigmoid()
        anchor, label = torch.nonzero(scores >= self.settings.score_floor, as_tuple=True)
        if anchor.numel() == 0:
            return no_detections(logits.device)
        near, offset = self.anchors[anchor], offsets[anchor]
        sides = near[:, 2:] * (offset[:, 2:] / _SIDE_UNIT).exp()
        centres = near[:, :2] + offset[:, :2] / _CENTRE_UNIT * near[:, 2:]
        boxes = torch.cat((centres - sides / 2, centres + sides / 2), 1)[:, [1, 0, 3, 2]]  # it counts y before x
        return suppress(boxes, scores[anchor, label], label, self.settings.max_overlap)

    def read_frozen_graph(self, path: Path) -> None:
        """Take the weights of the graph. Raises ConfigurationError when they do not fit this network, and OSError."""
        constants = float_constants(path)
        try:
            for scope, module in self._scopes():
                _fill(module, constants, scope)
        except (KeyError, RuntimeError) as error:
            raise ConfigurationError(f"{path} does not hold weights of this network: {error}") from error

    def _scopes(self) -> Iterator[tuple[str, nn.Module]]:
        """Each convolution with the name that it has in the graph."""
        yield f"{_BACKBONE}/Conv", self.stem
        for place, block in enumerate(self.blocks):
            scope = f"{_BACKBONE}/expanded_conv{f'_{place}' if place else ''}"
            yield from ((f"{scope}/{name}", part) for name, part in block.named_children())
        yield f"{_BACKBONE}/Conv_1", self.head
        for place, (extra, (narrow, wide)) in enumerate(zip(self.extras, _EXTRAS, strict=True), 2):
            assert isinstance(extra, _Extra)
            scope = f"{_BACKBONE}/layer_19_2_Conv2d_{place}_3x3_s2_{wide}"
            yield f"{_BACKBONE}/layer_19_1_Conv2d_{place}_1x1_{narrow}", extra.narrow
            yield f"{scope}_depthwise", extra.depthwise
            yield scope, extra.wide
        for place, predictor in enumerate(self.predictors):
            assert isinstance(predictor, _Predictor)
            for name, separable in (("BoxEncodingPredictor", predictor.boxes), ("ClassPredictor", predictor.classes)):
                yield f"BoxPredictor_{place}/{name}_depthwise", separable.depthwise
                yield f"BoxPredictor_{place}/{name}", separable.across


class _Extra(nn.Module):
    """The next level of features, of half the side."""

    def __init__(self, before: int, narrow: int, wide: int, side: int) -> None:
        super().__init__()
        self.narrow = Convolution(before, narrow, 1, side=side)
        self.depthwise = Convolution(narrow, narrow, 3, side=side, stride=2, groups=narrow)
        self.wide = Convolution(narrow, wide, 1, side=-(-side // 2))

    def forward(self, rows: Tensor) -> Tensor:
        for part in (self.narrow, self.depthwise, self.wide):
            rows = F.relu6(part(rows))
        return rows


class _Separable(nn.Module):
    """`outputs` numbers for each anchor of a level: [N, anchors of the level, outputs]."""

    def __init__(self, width: int, side: int, per_cell: int, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.depthwise = Convolution(width, width, 3, side=side, groups=width)
        self.across = nn.Conv2d(width, per_cell * outputs, 1)

    def forward(self, level: Tensor) -> Tensor:
        answers: Tensor = self.across(F.relu6(self.depthwise(level)))
        return answers.permute(0, 2, 3, 1).reshape(len(level), -1, self.outputs)


class _Predictor(nn.Module):
    """Offsets and logits of a level."""

    def __init__(self, width: int, side: int, per_cell: int, class_count: int) -> None:
        super().__init__()
        self.boxes = _Separable(width, side, per_cell, 4)
        self.classes = _Separable(width, side, per_cell, 1 + class_count)

    def forward(self, level: Tensor) -> tuple[Tensor, Tensor]:
        return self.boxes(level), self.classes(level)


def build(card: ModelCard, weights: Path | None) -> SsdLite:
    """The network of `card` with its weights, in evaluation mode."""
    if weights is None:
        raise ConfigurationError(f"{card.name} has no weights")
    network = SsdLite(len(card.classes), card.parameters_as(Parameters)).eval()
    network.read_frozen_graph(weights)
    for module in network.modules():
        if isinstance(module, Convolution):
            module.fold()
    return network.to(memory_format=torch.channels_last)


def _anchors(level: int, side: int) -> Tensor:
    """The anchors of a level, [side * side * anchors of a cell, 4]: centre y, centre x, height, width, in 0..1."""
    scale, coarser = _SCALES[level], _SCALES[level + 1]
    shapes = [*((scale, ratio) for ratio in _RATIOS), (math.sqrt(scale * coarser), 1.0)] if level else _FINEST_ANCHORS
    sides = torch.tensor([(scale / math.sqrt(ratio), scale * math.sqrt(ratio)) for scale, ratio in shapes])
    places = (torch.arange(side) + 0.5) / side
    centres = torch.cartesian_prod(places, places)[:, None].expand(-1, len(sides), -1)
    return torch.cat((centres, sides.expand(len(centres), -1, -1)), 2).flatten(0, 1)


def _fill(module: nn.Module, constants: Mapping[str, Constant], scope: str) -> None:
    """Set the weights of one convolution, with its batch normalisation or its biases."""

    def own(name: str) -> Tensor:
        sides, content = constants[f"{scope}/{name}"]
        return torch.from_numpy(np.frombuffer(content, "<f4").copy()).view(sides)

    conv = module.conv if isinstance(module, Convolution) else module
    assert isinstance(conv, nn.Conv2d)
    kernel = own("weights") if conv.groups == 1 else own("depthwise_weights")
    state = {"weight": kernel.permute((3, 2, 0, 1) if conv.groups == 1 else (2, 3, 0, 1))}
    conv.load_state_dict(state if isinstance(module, Convolution) else state | {"bias": own("biases")})
    if isinstance(module, Convolution):
        names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
        module.norm.load_state_dict({ours: own(f"BatchNorm/{theirs}") for ours, theirs in names.items()}, strict=False)
