"""What moves, whatever it is: the regions in which frames differ, as boxes of things.

`frame-change` gives one region for a thing. Regions whose boxes overlap are of one thing all the same. A detector's
box that much of a region lies in gives the thing its shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from policies.fusion.grouping import Group
from policies.geometry import area, shared
from policies.observation import Box, ModelInfo, Observation, Prediction
from policies.site.rules import Rules
from policies.site.targets import LABEL_OF, MOVING

WEAK = 0.9
"""Regions whose score is less than this part of what a vote needs are noise."""
MOST_REGIONS = 32
"""Regions of a frame that are looked at, the best ones: rain has hundreds, and each may become a track."""
COVERED = 0.6
"""A detector's box covers what lies in it by this part."""
FILLED = 0.1
"""A thing that moves fills this part of a detector's box. Less is something else before or behind it."""
LARGER = 6.0
"""A region so many times as large as a detector's box is more than that thing."""


def group_moving(seen: Observation, classes: frozenset[str], models: Sequence[ModelInfo], rules: Rules) -> list[Group]:
    """The regions of `models` by the thing they are of, the box of the group's first prediction being the thing's."""
    groups: list[Group] = []
    for model in [info.model for info in models if info.boxes]:
        least = rules.of(MOVING).least(model) * WEAK
        answer = seen.answers.get(model) or ()
        regions = [p for p in answer if p.box is not None and p.label in classes and p.score >= least]
        if not regions:
            continue
        if len(regions) > MOST_REGIONS:
            regions = sorted(regions, key=lambda p: (-p.score, p.box or ()))[:MOST_REGIONS]
        shapes = list(shapes_of(seen, rules))
        while shapes:
            shape = shapes.pop(0)
            parts = [region for region in regions if _is_part(region, shape)]
            if sum(shared(_box(part), _box(shape)) for part in parts) < FILLED * area(_box(shape)):
                continue
            regions = [region for region in regions if region not in parts]
            groups.append({model: replace(max(parts, key=lambda part: part.score), box=shape.box)})
        groups += [{model: whole} for whole in joined(regions)]
    return groups


def shapes_of(seen: Observation, rules: Rules) -> Iterator[Prediction]:
    """The boxes of detectors that vote for any target, best score first, with the target for a label."""
    found: list[Prediction] = []
    for info in seen.ensemble_info.models:
        if not (info.votes and info.boxes):
            continue
        for prediction in seen.answers.get(info.model) or ():
            label = LABEL_OF.get(prediction.label)
            if label is None or prediction.box is None:
                continue
            if prediction.score >= rules.of(label).least(info.model):
                found.append(replace(prediction, label=label))
    yield from sorted(found, key=lambda p: (-p.score, p.box or ()))


def joined(regions: Sequence[Prediction]) -> list[Prediction]:
    """The regions with those that overlap joined, until none do; best score first."""
    whole = list(regions)
    place = 0
    while place < len(whole):
        near = [other for other in whole[place + 1 :] if _overlap(_box(whole[place]), _box(other))]
        if not near:
            place += 1
            continue
        parts = [whole[place], *near]
        whole = [each for each in whole if all(each is not part for part in parts)]
        best = max(parts, key=lambda part: part.score)
        whole.insert(0, replace(best, box=around([_box(part) for part in parts])))
        place = 0
    return sorted(whole, key=lambda p: (-p.score, p.box or ()))


def around(boxes: Sequence[Box]) -> Box:
    """The smallest box that holds these."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def covers(shape: Box, region: Box) -> bool:
    """Whether a detector's box and a region that moved are of one thing."""
    if area(region) > LARGER * area(shape):
        return False
    return shared(shape, region) >= COVERED * min(area(shape), area(region))


def _is_part(region: Prediction, shape: Prediction) -> bool:
    return covers(_box(shape), _box(region))


def gap(one: Box, other: Box, aspect: float) -> float:
    """How far two boxes are apart, in frame heights; below 0 where they overlap."""
    across = max(one[0], other[0]) - min(one[2], other[2])
    along = max(one[1], other[1]) - min(one[3], other[3])
    return max(across * aspect, along)


def longest(one: Box, other: Box, aspect: float) -> float:
    """The longest side of two boxes, in frame heights."""
    return max(max((box[2] - box[0]) * aspect, box[3] - box[1]) for box in (one, other))


def _overlap(one: Box, other: Box) -> bool:
    return shared(one, other) > 0


def _box(prediction: Prediction) -> Box:
    assert prediction.box is not None
    return prediction.box
