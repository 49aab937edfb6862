"""The parts of a site policy as they may be written, and what is checked of each alone."""

from __future__ import annotations

from datetime import time
from typing import Annotated, Any, Literal

import msgspec

from policies.sensitivity import Sensitivity
from policies.site.rules import Fraction
from policies.site.schedule import Day
from policies.site.toml_errors import Problem

OF_TRACKS = frozenset({"sights", "of", "hidden_s", "join_s", "max_speed"})
"""Settings of `movement` that a track has wherever it goes, so that no sector can have its own."""
_DEFAULT_RULE = Sensitivity().rule
_OF_ONE_RULE = frozenset({"k", "weights", "threshold"})


class SectorText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    polygon: list[list[float]] | None = None
    coordinates: str | None = None


class LineText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    a: tuple[Fraction, Fraction]
    b: tuple[Fraction, Fraction]
    directions: tuple[str, str] = ("left_to_right", "right_to_left")


class TargetText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    classes: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class ScheduleText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    between: tuple[str, str] | None = None
    days: Annotated[tuple[Day, ...], msgspec.Meta(min_length=1)] | None = None
    sun: Literal["up", "down"] | None = None
    darker_than: Fraction | None = None
    brighter_than: Fraction | None = None


class SuppressionText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    box: tuple[Fraction, Fraction, Fraction, Fraction]
    overlap: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    targets: tuple[str, ...] = ()
    max_score: Fraction = 1.0
    between: tuple[str, str] | None = None


def over(above: dict[str, Any], here: dict[str, Any]) -> dict[str, Any]:
    """A table over the one above it, and so the tables within; another rule of sensitivity inherits nothing that is of
    the one above.
    """
    if "rule" in here and here["rule"] != above.get("rule", _DEFAULT_RULE):
        above = {key: value for key, value in above.items() if key not in _OF_ONE_RULE}
    return above | {
        key: over(above[key], value) if isinstance(value, dict) and isinstance(above.get(key), dict) else value
        for key, value in here.items()
    }


def check_sensitivity(given: Sensitivity, path: tuple[str, ...]) -> None:
    if given.rule != "at_least" and given.k != 1:
        raise Problem((*path, "sensitivity", "k"), 'k only means something with rule = "at_least"')
    if given.rule != "weighted" and given.weights:
        raise Problem((*path, "sensitivity", "weights"), 'weights only mean something with rule = "weighted"')
    if given.rule != "weighted" and given.threshold != 1:
        raise Problem((*path, "sensitivity", "threshold"), 'threshold only means something with rule = "weighted"')


def hours(between: tuple[str, str] | None, path: tuple[str, ...]) -> tuple[time | None, time | None]:
    """A stretch of the day by the site's clock; None and None: all of it."""
    if between is None:
        return None, None
    try:
        start, end = (time.fromisoformat("00:00" if clock == "24:00" else clock) for clock in between)
        if start.tzinfo or end.tzinfo:
            raise ValueError("the clock is the site's")
    except ValueError:
        raise Problem(path, 'write two times of the site\'s clock: ["22:00", "06:00"]') from None
    return start, end
