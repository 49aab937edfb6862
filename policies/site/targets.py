"""The shipped targets: named groups of classes, across COCO's and ImageNet's vocabularies; and classes of a user's own
models, which are targets by themselves where no group knows them.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from policies.observation import ModelInfo

MOVING = "moving"
"""The target of whatever moves. Models that vote on no other target vote on it with their regions."""

_TYPO = 0.8
"""From this likeness on, in 0..1, a name is a target's with a mistake: `persn`, and not `present`, is `person`."""

SHIPPED: dict[str, frozenset[str]] = {
    "person": frozenset({"person", "pedestrian"}),
    "vehicle": frozenset(
        {
            *("car", "bus", "truck", "motorcycle", "motorbike"),
            *("minivan", "cab", "pickup", "jeep", "convertible", "sports car", "limousine", "racer"),
            *("beach wagon", "minibus", "trolleybus", "school bus", "police van", "ambulance", "moving van"),
            *("garbage truck", "tow truck", "trailer truck", "fire engine", "recreational vehicle"),
            *("moped", "motor scooter"),
        }
    ),
    "bicycle": frozenset({"bicycle", "mountain bike", "bicycle-built-for-two"}),
    "animal": frozenset({"bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"}),
    MOVING: frozenset({"moving"}),
}

LABEL_OF = {name: target for target, classes in SHIPPED.items() if target != MOVING for name in classes}
"""A class of a detector -> the shipped target that it belongs to."""


def is_moving(target: str, classes: frozenset[str]) -> bool:
    """Whether a target is that of whatever moves. A user's own group of that name is as any other."""
    return target == MOVING and classes == SHIPPED[MOVING]


def can_vote(info: ModelInfo, target: str, classes: frozenset[str]) -> bool:
    """Whether a model votes on a target with these classes. One that votes on no other votes on `moving`."""
    return (info.votes or is_moving(target, classes)) and not classes.isdisjoint(info.classes)


def named_targets(raw: Mapping[str, Any]) -> list[str]:
    """Every name in a list `targets` of a site file, wherever it stands, but for those of `suppress`; sorted."""
    names: set[str] = set()
    waiting: list[Any] = [raw]  # and no recursion: a file may nest its lists as deep as it likes
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            listed = value.get("targets")
            if isinstance(listed, list):
                names.update(name for name in listed if isinstance(name, str))
            waiting += [each for key, each in value.items() if key != "suppress"]
        elif isinstance(value, list):
            waiting += value
    return sorted(names)


def is_class_of_its_own(name: str, targets: Mapping[str, frozenset[str]]) -> bool:
    """Whether a name that is no target can only be a class of a user's own model: no group has such a class, and it is
    not the name of a target with a mistake.
    """
    if name in targets or not name.strip() or not name.isprintable():
        return False
    is_known = any(name in classes for classes in targets.values())
    return not is_known and not difflib.get_close_matches(name, targets, 1, _TYPO)
