"""The output of a detector, and non-maximum suppression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

NMS_VERSIONS = {"nms": 1}
"""Of `suppress`, `unsuppressed` and `overlaps`. Raise it when they keep other boxes."""


class Detections(NamedTuple):
    """The boxes of one row (a frame or a crop), best score first.

    `boxes` float [K, 4], `x1 y1 x2 y2` in 0..1 of the row, or beyond; `scores` float [K] in 0..1; `classes` int64 [K],
    indices of the card's classes.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor


def no_detections(device: torch.device) -> Detections:
    """The detections of a row without boxes."""
    none = torch.empty(0, device=device)
    return Detections(none.view(0, 4), none, none.long())


def to_cpu(detections: Sequence[Detections]) -> list[Detections]:
    """Detections in the memory of the CPU, by one copy from the device of the network."""
    if all(row.boxes.device.type == "cpu" for row in detections):
        return list(detections)
    columns = [
        torch.cat([row.boxes, row.scores[:, None], row.classes[:, None].to(row.boxes.dtype)], 1) for row in detections
    ]
    rows = torch.split(torch.cat(columns).cpu(), [len(column) for column in columns])
    return [Detections(row[:, :4], row[:, 4], row[:, 5].long()) for row in rows]


def suppress(boxes: Tensor, scores: Tensor, classes: Tensor, max_overlap: float) -> Detections:
    """Greedy non-maximum suppression within each class: of two boxes whose intersection over union is above
    `max_overlap`, the one with the lower score is removed.

    It takes one row at a time, so no result depends on the other rows of a batch.
    """
    if scores.numel() == 0:
        return no_detections(boxes.device)
    kept = torch.cat(
        [
            members[unsuppressed(boxes[members], scores[members], max_overlap)]
            for members in (torch.nonzero(classes == label).flatten() for label in torch.unique(classes))
        ]
    )
    order = kept[torch.argsort(scores[kept], descending=True, stable=True)]
    return Detections(boxes[order], scores[order], classes[order])


def unsuppressed(boxes: Tensor, scores: Tensor, max_overlap: float) -> Tensor:
    """Indices, int64, of the boxes [K, 4] that are left after greedy suppression, best score first, the earlier first
    of equal scores.

    torchvision has the same, but importing it takes a second and 120 MB.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    overlapping = (overlaps(boxes[order], boxes[order]) > max_overlap).cpu().numpy()
    removed, kept = np.zeros(len(order), dtype=bool), []
    for place, removes in enumerate(overlapping):
        if not removed[place]:
            kept.append(place)
            removed |= removes
    return order[torch.tensor(kept, dtype=torch.int64, device=order.device)]


def overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of each of `boxes` [K, 4] with each of `others` [L, 4]: [K, L]."""
    sides = torch.minimum(boxes[:, None, 2:], others[:, 2:]) - torch.maximum(boxes[:, None, :2], others[:, :2])
    shared = sides.clamp(min=0).prod(2)
    return shared / (_areas(boxes)[:, None] + _areas(others) - shared)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)
