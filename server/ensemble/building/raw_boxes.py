"""The raw answers of common detectors as boxes, for the entry `postprocess` of a card.

Each function takes what `server.ensemble.building.detector.Postprocess` says, and gives the labels 1, 2, 3 and so on,
in the order of the network's classes. Each raises ValueError for an answer of another shape.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from server.ensemble.building.look.asking import first_tensor, part_of
from server.ensemble.detections import NMS_VERSIONS, suppress

VERSIONS = {"raw-boxes": 1, **NMS_VERSIONS}
"""Raise `raw-boxes` when an answer gives other boxes."""

Answer = dict[str, Tensor]

_LEAST_SCORE, _MOST_BOXES, _MAX_OVERLAP = 0.01, 1000, 0.45
_QUERIES = 300


def yolo(output: Any, size: tuple[int, int], classes: int) -> list[Answer]:
    """Of Ultralytics' heads from YOLOv8 on: [N, 4 + classes, anchors], or with the last two dimensions swapped.

    The four are the centre, width and height in pixels; the rest are scores.
    """
    raw = _of_width(output, 4 + classes, "4 numbers of the box and a score for each of the card's classes")
    return [_suppressed(_corners(row[:, :4]), row[:, 4:]) for row in raw]


def yolov5(output: Any, size: tuple[int, int], classes: int) -> list[Answer]:
    """Of YOLOv5 and YOLOv7: [N, anchors, 5 + classes]; the fifth number is the score of the box, whatever is in it."""
    raw = _of_width(output, 5 + classes, "4 numbers of the box, its score and a score for each of the card's classes")
    return [_suppressed(_corners(row[:, :4]), row[:, 5:] * row[:, 4:5]) for row in raw]


def yolo_end_to_end(output: Any, size: tuple[int, int], classes: int) -> list[Answer]:
    """Of heads that suppress boxes themselves, as YOLOv10: [N, boxes, 6] of corners in pixels, score, class from 0."""
    raw = _of_width(output, 6, "corners, score and class")
    return [{"boxes": row[:, :4], "scores": row[:, 4], "labels": row[:, 5].long() + 1} for row in raw]


def detr(output: Any, size: tuple[int, int], classes: int) -> list[Answer]:
    """Of DETR, YOLOS and Table Transformer: `logits` (or `pred_logits`) [N, queries, classes + 1], the last of them
    "nothing", and `pred_boxes`, the centre, width and height in 0..1. A softmax gives the scores.
    """
    logits, edges = _of_queries(output, size, classes + 1, '`detr`, with one for "nothing"')
    scores, labels = logits.softmax(-1)[..., :-1].max(-1)
    rows = zip(edges, scores, labels, strict=True)
    return [{"boxes": box, "scores": score, "labels": label + 1} for box, score, label in rows]


def detr_sigmoid(output: Any, size: tuple[int, int], classes: int) -> list[Answer]:
    """As `detr`, but [N, queries, classes]: each class has a sigmoid of its own, as in Deformable DETR and RT-DETR."""
    logits, edges = _of_queries(output, size, classes, "`detr-sigmoid`")
    return [_best_pairs(box, scores) for box, scores in zip(edges, logits.sigmoid(), strict=True)]


def _of_queries(output: Any, size: tuple[int, int], width: int, what: str) -> tuple[Tensor, Tensor]:
    """The logits of an answer and its boxes as corners in pixels, in float32."""
    logits, boxes = part_of(output, "pred_logits"), part_of(output, "pred_boxes")
    logits = part_of(output, "logits") if logits is None else logits
    if not isinstance(logits, Tensor) or not isinstance(boxes, Tensor) or logits.shape[-1] != width:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else "missing"
        raise ValueError(
            f"`logits` or `pred_logits` [N, queries, {width}] and `pred_boxes` are expected of {what}, and the logits "
            f"are {shape}; there are `detr` (softmax, one more than classes) and `detr-sigmoid` (as many as classes)"
        )
    return logits.float(), _corners(boxes.float()) * boxes.new_tensor(size * 2, dtype=torch.float32)


def _best_pairs(boxes: Tensor, scores: Tensor) -> Answer:
    """The best pairs of box and class, as RT-DETR picks them: a box may have several classes."""
    best, places = scores.flatten().topk(min(_QUERIES, scores.numel()))
    classes = scores.shape[-1]
    return {"boxes": boxes[places // classes], "scores": best, "labels": places % classes + 1}


def _of_width(output: Any, width: int, what: str) -> Tensor:
    """The first tensor of the answer as [N, boxes, width], in float32."""
    raw = first_tensor(output)
    shape = () if raw is None else tuple(raw.shape)
    if raw is not None and len(shape) == 3 and width in shape[1:]:
        return (raw if shape[2] == width else raw.transpose(1, 2)).float()
    raise ValueError(
        f"a tensor of the shape {shape} came, and one with {width} numbers for each box is expected: {what}"
    )


def _corners(boxes: Tensor) -> Tensor:
    """Centre, width and height -> left, top, right, bottom."""
    return torch.cat((boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2), -1)


def _suppressed(boxes: Tensor, scores: Tensor) -> Answer:
    """The boxes of the best class each, without those that overlap a better one of the class."""
    best, classes = scores.max(1)
    best, places = best.topk(min(_MOST_BOXES, len(best)))
    places = places[best >= _LEAST_SCORE]
    kept = suppress(boxes[places], best[: len(places)], classes[places], _MAX_OVERLAP)
    return {"boxes": kept.boxes, "scores": kept.scores, "labels": kept.classes + 1}
