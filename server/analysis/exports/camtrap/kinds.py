"""Which type of observation a target or a label is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from policies.site.targets import LABEL_OF, MOVING

ObservationType = Literal["animal", "human", "vehicle", "blank", "unknown", "unclassified"]
OBSERVATION_TYPES: tuple[ObservationType, ...] = get_args(ObservationType)

_OF_SHIPPED: dict[str, ObservationType] = {
    "person": "human",
    "vehicle": "vehicle",
    "bicycle": "vehicle",
    "animal": "animal",
    MOVING: "unknown",
}
"""Of what is only known to move, nobody says what it is."""

Targets = Mapping[str, frozenset[str]]
"""Target to its classes."""


class Kinds:
    """Types of observations; `said` holds those of targets as a person named them, which come first."""

    def __init__(self, said: Mapping[str, ObservationType]) -> None:
        self._said = said

    def of_target(self, target: str, classes: frozenset[str]) -> ObservationType:
        """The type of a target: that of its classes, where they are all of one shipped target; else `unknown`."""
        if target in self._said:
            return self._said[target]
        if target in _OF_SHIPPED:
            return _OF_SHIPPED[target]
        shipped = {LABEL_OF.get(each) for each in classes}
        only = shipped.pop() if len(shipped) == 1 else None
        return "unknown" if only is None else _OF_SHIPPED[only]

    def of_label(self, label: str, targets: Targets) -> ObservationType | None:
        """The type of a class; None for one that neither a target of the site nor a shipped one has."""
        named = next((target for target, classes in targets.items() if target != MOVING and label in classes), None)
        if named is not None:
            return self.of_target(named, targets[named])
        shipped = LABEL_OF.get(label)
        return None if shipped is None else self.of_target(shipped, frozenset({label}))
