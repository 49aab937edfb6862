"""The output of a detector, and non-maximum suppression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policies.observation import Box, Prediction

NMS_VERSIONS = {"nms": 1}
"""Of `suppress`, `unsuppressed` and `overlaps`. Raise it when they keep other boxes."""


_SAME_IOU = 0.4
_INSIDE = 0.8
"""So much of the smaller box lies in the larger one, where both are of one thing."""
_LIKE = 0.25
"""The smaller of two such boxes has at least this part of the area of the larger one."""
_NO_BOX: Box = (0.0, 0.0, 0.0, 0.0)
_CUT = 0.02
"""A box that ends within this of the border of an enlarged part, in sides of the part, is cut off by it."""


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


def seen_once(whole: Sequence[Prediction], parts: Sequence[tuple[Sequence[Prediction], Box]]) -> list[Prediction]:
    """What a detector sees in a frame and in enlarged parts of it, each thing once. All boxes are in 0..1 of the frame.

    A box that the border of its part cuts off is dropped: the frame shows that thing whole. Boxes of one label from
    two looks are of one thing if their intersection over union is at least .4, or if four fifths of one lie in the
    other, which is at most four times as large: somebody far away can stand behind a near one. The one with the higher
    score stays. Boxes of one look are never joined.
    """
    seen = list(whole)
    for part, edges in parts:
        uncut = [each for each in part if each.box is not None and not _is_cut(each.box, edges)]
        fits = _fits(uncut, seen)
        for prediction, fit in zip(uncut, fits, strict=True):
            if not fit.any():
                seen.append(prediction)
                continue
            place = int(fit.argmax())
            seen[place] = max(seen[place], prediction, key=lambda each: each.score)  # the frame's of equals
            fits[:, place] = 0  # no other box of this look is of that thing
    return seen


def _is_cut(box: Box, edges: Box) -> bool:
    """Whether a box ends at the border of the part of the frame that was seen, and the frame goes on there."""
    near = (_CUT * (edges[2] - edges[0]), _CUT * (edges[3] - edges[1]))
    return any(abs(box[side] - edges[side]) <= near[side % 2] and edges[side] not in (0.0, 1.0) for side in range(4))


def _fits(some: Sequence[Prediction], others: Sequence[Prediction]) -> NDArray[np.float64]:
    """How well the boxes of each of `some` and each of `others` cover one thing; 0 where they are of two things.

    All at once: of many parts with many boxes each, pair by pair takes a second.
    """
    boxes, known = (
        torch.tensor([each.box or _NO_BOX for each in looks], dtype=torch.float64).view(-1, 4)
        for looks in (some, others)
    )
    both, areas, known_areas = _shared(boxes, known), _areas(boxes)[:, None], _areas(known)
    smaller, larger = torch.minimum(areas, known_areas), torch.maximum(areas, known_areas)
    union = both / (areas + known_areas - both)
    inside = (both >= _INSIDE * smaller) & (smaller >= _LIKE * larger)
    fits = torch.where((both > 0) & ((union >= _SAME_IOU) | inside), union, 0.0).numpy()
    codes = {each.label: code for code, each in enumerate((*some, *others))}
    labels, known_labels = ([codes[each.label] for each in looks] for looks in (some, others))
    return np.where(np.equal.outer(labels, known_labels), fits, 0.0)


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
    shared = _shared(boxes, others)
    return shared / (_areas(boxes)[:, None] + _areas(others) - shared)


def _shared(boxes: Tensor, others: Tensor) -> Tensor:
    sides = torch.minimum(boxes[:, None, 2:], others[:, 2:]) - torch.maximum(boxes[:, None, :2], others[:, :2])
    return sides.clamp(min=0).prod(2)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)
