"""EfficientNet-lite (M. Tan, Q. V. Le: "EfficientNet", ICML 2019; the lite variants are of TensorFlow, 2020).

It is EfficientNet without squeeze-and-excitation and with ReLU6. Width and depth scale everything except the stem, the
head, and the repeats of the first and the last stage. The weights were trained with TensorFlow's "same" padding, which
is not symmetric where a stride meets an even side. It depends on the side, so a network is made for one input size.
"""

from __future__ import annotations

import math
import pickle
import re
from pathlib import Path

import msgspec
import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody reads)
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from server.catalogue import ModelCard
from server.domain.errors import ConfigurationError

VERSIONS = {"efficientnet-lite": 1}
"""Raise it when any row gives other logits."""

STAGES = (  # expansion, kernel, stride, channels, repeats; table 1 of the paper
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_STEM, _HEAD = 32, 1280
_NORM_EPSILON = 1e-3

_RENAMED = (
    (r"^_conv_stem\.", "stem.conv."),
    (r"^_bn0\.", "stem.norm."),
    (r"^_conv_head\.", "head.conv."),
    (r"^_bn1\.", "head.norm."),
    (r"^_fc\.", "classify."),
    (r"^_blocks\.", "blocks."),
    (r"\._expand_conv\.", ".expand.conv."),
    (r"\._bn0\.", ".expand.norm."),
    (r"\._depthwise_conv\.", ".depthwise.conv."),
    (r"\._bn1\.", ".depthwise.norm."),
    (r"\._project_conv\.", ".project.conv."),
    (r"\._bn2\.", ".project.norm."),
)
"""Names in the published weights -> names of the parts here."""


class Convolution(nn.Module):
    """A convolution with TensorFlow's "same" padding for rows of `side` pixels, then batch normalisation."""

    def __init__(self, before: int, after: int, kernel: int, *, side: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        missing = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        first, last = missing // 2, missing - missing // 2
        self.padding = () if first == last else (first, last, first, last)  # symmetric padding needs no copy
        self.conv = nn.Conv2d(
            before, after, kernel, stride, padding=first if first == last else 0, groups=groups, bias=False
        )
        self.norm: nn.Module = nn.BatchNorm2d(after, eps=_NORM_EPSILON)

    def forward(self, rows: Tensor) -> Tensor:
        if self.padding:
            rows = F.pad(rows, self.padding)
        normed: Tensor = self.norm(self.conv(rows))
        return normed

    def fold(self) -> None:
        """Put the normalisation, as it is in evaluation mode, into the convolution."""
        assert isinstance(self.norm, nn.BatchNorm2d)
        self.conv, self.norm = fuse_conv_bn_eval(self.conv, self.norm), nn.Identity()


class Block(nn.Module):
    """An inverted bottleneck: expand, convolve each channel, project; plus the input where shapes allow."""

    def __init__(self, before: int, after: int, expansion: int, kernel: int, stride: int, side: int) -> None:
        super().__init__()
        wide = before * expansion
        self.expand = Convolution(before, wide, 1, side=side) if expansion > 1 else None
        self.depthwise = Convolution(wide, wide, kernel, side=side, stride=stride, groups=wide)
        self.project = Convolution(wide, after, 1, side=-(-side // stride))
        self.keeps_shape = stride == 1 and before == after

    def forward(self, rows: Tensor) -> Tensor:
        return self.with_expansion(rows)[0]

    def with_expansion(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The block's output, and what it was expanded to."""
        wide = rows if self.expand is None else F.relu6(self.expand(rows))
        narrow: Tensor = self.project(F.relu6(self.depthwise(wide)))
        return (narrow + rows if self.keeps_shape else narrow), wide


class Parameters(msgspec.Struct, frozen=True):
    """The `parameters` of a card: factors of the channels and of the repeats."""

    width: float
    depth: float


class EfficientNetLite(nn.Module):
    """Logits [N, classes] of rows, float [N, 3, side, side], RGB as (value - 127) / 128."""

    def __init__(self, class_count: int, *, width: float, depth: float, side: int) -> None:
        super().__init__()
        self.stem = Convolution(3, _STEM, 3, side=side, stride=2)
        side, before = -(-side // 2), _STEM
        blocks = []
        for place, (expansion, kernel, stage_stride, channels, repeats) in enumerate(STAGES):
            after = scaled_width(channels, width)
            inner = 0 < place < len(STAGES) - 1
            for index in range(math.ceil(repeats * depth) if inner else repeats):
                stride = stage_stride if index == 0 else 1
                blocks.append(Block(before, after, expansion, kernel, stride, side))
                side, before = -(-side // stride), after
        self.blocks = nn.Sequential(*blocks)
        self.head = Convolution(before, _HEAD, 1, side=side)
        self.classify = nn.Linear(_HEAD, class_count)

    def forward(self, rows: Tensor) -> Tensor:
        features = F.relu6(self.head(self.blocks(F.relu6(self.stem(rows)))))
        logits: Tensor = self.classify(features.mean((2, 3)))
        return logits


def scaled_width(channels: int, factor: float) -> int:
    """Channels of a stage: the multiple of 8 nearest to `channels * factor`, at most a tenth below it."""
    nearest = max(8, int(channels * factor + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels * factor else nearest


def build(card: ModelCard, weights: Path | None) -> EfficientNetLite:
    """The network of `card` with its weights, in evaluation mode.

    Raises ConfigurationError for an input form that is not one square size, and for weights of another network.
    """
    if weights is None:
        raise ConfigurationError(f"{card.name} has no weights")
    side, height = card.input.size
    if side != height or card.input.fit not in ("crop", "stretch"):
        raise ConfigurationError(
            f"{card.name} wants rows of one square size, not {side}x{height} by `{card.input.fit}`"
        )
    scale = card.parameters_as(Parameters)
    network = EfficientNetLite(len(card.classes), width=scale.width, depth=scale.depth, side=side)
    try:
        published = torch.load(weights, map_location="cpu", weights_only=True)
        network.load_state_dict({_renamed(name): value for name, value in published.items()})
    except (OSError, RuntimeError, AttributeError, pickle.UnpicklingError, EOFError) as error:
        raise ConfigurationError(f"{weights} does not hold weights of this network: {error}") from error
    return network.to(memory_format=torch.channels_last).eval()


def _renamed(name: str) -> str:
    for published, ours in _RENAMED:
        name = re.sub(published, ours, name)
    return name
