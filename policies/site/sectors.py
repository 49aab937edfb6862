"""Sectors and counting lines: where a camera's view is asked about."""

from __future__ import annotations

from functools import cached_property

import msgspec

from policies.geometry import Point, Polygon, bounds, contains, overlap
from policies.observation import Box
from policies.site.rules import Rules

WHOLE: Polygon = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))


class Sector(msgspec.Struct, frozen=True, dict=True):
    """A named polygon of a camera's view and the rules in force there."""

    name: str
    polygon: Polygon
    rules: Rules

    @cached_property
    def bounds(self) -> Box:
        """The smallest rectangle around it."""
        return bounds(self.polygon)

    def holds(self, point: Point) -> bool:
        """Whether the point lies in it."""
        x, y = point
        left, top, right, bottom = self.bounds
        return left <= x <= right and top <= y <= bottom and contains(self.polygon, point)


class Line(msgspec.Struct, frozen=True):
    """A counting line. `directions[0]` is the way from left to right where `a` is at the top and `b` at the bottom."""

    name: str
    a: Point
    b: Point
    directions: tuple[str, str]


def pairs_apart(polygons: dict[str, Polygon]) -> frozenset[tuple[str, str]]:
    """The ordered pairs of sectors between which a track can move: a track is in both at once where they overlap."""
    return frozenset((a, b) for a in polygons for b in polygons if a != b and overlap(polygons[a], polygons[b]) < 0.1)
