"""Compares our detectors with second implementations of the same networks on the same rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from server.catalogue import ModelCard
from server.ensemble.decode import decode
from server.ensemble.forms import normalised, row_of
from tests.server.ensemble.opencv import Found

JUDGED_ABOVE = 0.3


def blob_of(jpeg: bytes, card: ModelCard) -> torch.Tensor:
    """A frame as the network is fed it."""
    return normalised(row_of(decode(jpeg), card.input).pixels[None], card.input)


def found_by(network: nn.Module, blob: torch.Tensor) -> list[Found]:
    """Our detections of one row."""
    with torch.inference_mode():
        boxes, scores, labels = network(blob)[0]
    return list(zip(labels.tolist(), scores.tolist(), map(tuple, boxes.tolist()), strict=True))


def unmatched(wanted: Sequence[Found], given: Sequence[Found], *, slack: float, overlap: float) -> list[Found]:
    """Those of `wanted` above the judged score without a twin: same class, score within `slack`, intersection over
    union of at least `overlap`.
    """
    return [
        (label, score, box)
        for label, score, box in wanted
        if score > JUDGED_ABOVE
        and not any(
            label == twin and abs(score - twin_score) <= slack and shared(box, twin_box) >= overlap
            for twin, twin_score, twin_box in given
        )
    ]


def judged(found: Sequence[Found]) -> int:
    """How many of these are above the judged score."""
    return sum(score > JUDGED_ABOVE for _, score, _ in found)


def shared(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / (sum(areas) - both)
