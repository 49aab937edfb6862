"""Which boxes of several models lie on one thing."""

from __future__ import annotations

from collections.abc import Sequence

from policies.geometry import area, shared
from policies.observation import Box, Observation, Seat, Sighting

SAME_THING_IOU = 0.38
SAME_THING_INSIDE = 0.7

Group = dict[str, Sighting]
"""Boxes that lie on one thing, by model."""


def group_boxes(seen: Observation, classes: frozenset[str], seats: Sequence[Seat]) -> list[Group]:
    """The boxes of these classes by the thing they lie on, at most one of each model; the first model's boxes lead."""
    boxes = [
        (seat, sighting)
        for seat in seats
        if seat.boxes
        for sighting in seen.answers.get(seat.model) or ()
        if sighting.label in classes and sighting.box is not None
    ]
    groups: list[Group] = []
    for seat, sighting in boxes:
        best, fit = None, SAME_THING_IOU
        for group in groups:
            if seat.model in group:
                continue
            for other in group.values():
                overlap = _fit(sighting.box, other.box)
                if overlap >= fit:
                    best, fit = group, overlap
        if best is None:
            groups.append({seat.model: sighting})
        else:
            best[seat.model] = sighting
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
