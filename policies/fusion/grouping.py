"""Which boxes of several models lie on one thing."""

from __future__ import annotations

from collections.abc import Sequence

from policies.geometry import area, shared
from policies.observation import Box, ModelInfo, Observation, Prediction

SAME_THING_IOU = 0.38
SAME_THING_INSIDE = 0.7

Group = dict[str, Prediction]
"""Boxes that lie on one thing, by model."""


def group_boxes(seen: Observation, classes: frozenset[str], models: Sequence[ModelInfo]) -> list[Group]:
    """The boxes of these classes by the thing they lie on, at most one of each model; the first model's boxes lead."""
    boxes = [
        (model_info, prediction)
        for model_info in models
        if model_info.boxes
        for prediction in seen.answers.get(model_info.model) or ()
        if prediction.label in classes and prediction.box is not None
    ]
    groups: list[Group] = []
    for model_info, prediction in boxes:
        best, fit = None, SAME_THING_IOU
        for group in groups:
            if model_info.model in group:
                continue
            for other in group.values():
                overlap = _fit(prediction.box, other.box)
                if overlap >= fit:
                    best, fit = group, overlap
        if best is None:
            groups.append({model_info.model: prediction})
        else:
            best[model_info.model] = prediction
    return groups


def _fit(a: Box | None, b: Box | None) -> float:
    """How well two boxes cover one thing: their IoU, or just enough when one lies mostly inside the other."""
    assert a is not None
    assert b is not None
    both = shared(a, b)
    if not both:
        return 0.0
    smaller, larger = area(a), area(b)
    if smaller > larger:
        smaller, larger = larger, smaller
    union = both / (smaller + larger - both)
    if union < SAME_THING_IOU and both / smaller >= SAME_THING_INSIDE:
        return SAME_THING_IOU if larger < 4 * smaller else 0.0
    return union
