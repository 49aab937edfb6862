"""What a detector hands back, and the suppression of boxes that say the same thing twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import nms


class Detections(NamedTuple):
    """The boxes of one row (a frame or a crop), best score first.

    `boxes` float [K, 4], `x1 y1 x2 y2` in 0..1 of the row (may reach outside of it); `scores` float [K] in
    0..1; `classes` int64 [K], indices into the class names of the model's card.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor


def no_detections(device: torch.device) -> Detections:
    """An empty row."""
    none = torch.empty(0, device=device)
    return Detections(none.view(0, 4), none, none.long())


def landed(found: Sequence[Detections]) -> list[Detections]:
    """Detections in the processor's memory, copied at once from wherever a network left them."""
    if all(one.boxes.device.type == "cpu" for one in found):
        return list(found)
    columns = [
        torch.cat([one.boxes, one.scores[:, None], one.classes[:, None].to(one.boxes.dtype)], 1) for one in found
    ]
    rows = torch.split(torch.cat(columns).cpu(), [len(each) for each in columns])
    return [Detections(row[:, :4], row[:, 4], row[:, 5].long()) for row in rows]


def suppress(boxes: Tensor, scores: Tensor, classes: Tensor, max_overlap: float) -> Detections:
    """Greedy non-maximum suppression within each class: of two boxes whose intersection over union is above
    `max_overlap` the one with the lower score goes.

    One row at a time and one class at a time, so that no result depends on what else was in the batch.
    """
    if scores.numel() == 0:
        return no_detections(boxes.device)
    kept = [
        members[nms(boxes[members], scores[members], max_overlap)]
        for members in (torch.nonzero(classes == label).flatten() for label in torch.unique(classes))
    ]
    order = torch.cat(kept)
    order = order[torch.argsort(scores[order], descending=True, stable=True)]
    return Detections(boxes[order], scores[order], classes[order])
