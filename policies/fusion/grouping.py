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
    groups: list[Group] = []
    for info in models:
        model = info.model
        for prediction in (info.boxes and seen.answers.get(model)) or ():
            box = prediction.box
            if box is None or prediction.label not in classes:
                continue
            best, fit = None, SAME_THING_IOU
            for group in groups:
                for other in () if model in group else group.values():
                    overlap = _fit(box, other.box)
                    if overlap >= fit:
                        best, fit = group, overlap
            if best is None:
                groups.append({model: prediction})
            else:
                best[model] = prediction
    return groups


def _fit(a: Box, b: Box | None) -> float:
    """How well two boxes cover one thing: their IoU, or just enough when one lies mostly inside the other."""
    assert b is not None
    both = shared(a, b)
    if not both:
        return 0.0
    smaller, larger = sorted((area(a), area(b)))
    union = both / (smaller + larger - both)
    if union < SAME_THING_IOU and both / smaller >= SAME_THING_INSIDE:
        return SAME_THING_IOU if larger < 4 * smaller else 0.0
    return union
