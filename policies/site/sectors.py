"""Sectors and counting lines: where a camera's view is asked about."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from functools import cached_property

import msgspec
from msgspec.structs import replace

from policies.geometry import Edge, Point, Polygon, bounds, inner_border, overlap, to_edge, to_edges
from policies.observation import Box
from policies.site.rules import Rules

WHOLE: Polygon = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
_ROUND = ("right", "lower right", "below", "lower left", "left", "upper left", "above", "upper right")
"""Clockwise round the picture's middle, in eighths of a turn from the right on."""
_MARGIN = 0.1
_LEAST_MARGIN = 0.02
_LEAST_WINDOW = 0.25
_MOST_WINDOW = 0.75
MOST_ENLARGED = 16
"""So many enlarged parts may one camera have."""
MOST_SHARED = 0.1
"""A track can move between sectors that share less than this part of the smaller one."""


class Sector(msgspec.Struct, frozen=True, dict=True, omit_defaults=True):
    """A named polygon of a camera's view and the rules in force there.

    `enlarge`: detectors are to see it larger, besides the frame. Without it a sector is stored as before there was such
    a key, so that policies keep their digests.
    """

    name: str
    polygon: Polygon
    rules: Rules
    enlarge: bool = False

    @cached_property
    def bounds(self) -> Box:
        """The smallest rectangle around it."""
        return bounds(self.polygon)

    @cached_property
    def window(self) -> Box:
        """The part of the frame that shows it enlarged.

        It has the shape of the frame, so that nothing is distorted, and is at least a quarter as wide and high. It has
        a margin of a tenth of the sector's longer side on every side, twice that above: what stands in the sector rises
        over it. At the frame's edge it is moved inwards.
        """
        left, top, right, bottom = self.bounds
        width, height = right - left, bottom - top
        margin = max(_MARGIN * max(width, height), _LEAST_MARGIN)
        side = min(max(width + 2 * margin, height + 3 * margin, _LEAST_WINDOW), 1.0)
        x = round(min(max((left + right - side) / 2, 0.0), 1 - side), 5)
        y = round(min(max(top - (side - height) * 2 / 3, 0.0), 1 - side), 5)
        return x, y, min(round(x + side, 5), 1.0), min(round(y + side, 5), 1.0)

    @property
    def times_larger(self) -> float:
        """How many times as large detectors also see it; 1 where it does not ask for that, and where its window is
        nearly the whole frame, which shows no more.
        """
        side = self.window[2] - self.window[0]
        return 1 / side if self.enlarge and side <= _MOST_WINDOW else 1.0

    @cached_property
    def inner_border(self) -> tuple[Edge, ...]:
        """Its border without what lies on the frame's edge, over which nobody goes to another sector."""
        return inner_border(self.polygon)

    @cached_property
    def middle(self) -> Point:
        """The middle of what a classifier is shown of it."""
        left, top, right, bottom = self.bounds
        return ((left + right) / 2, (top + bottom) / 2)


class Line(msgspec.Struct, frozen=True):
    """A counting line. For whoever stands at `a` and looks to `b`, `directions[0]` is the way from the right hand to
    the left: from left to right in the picture where `a` is at the top and `b` at the bottom.
    """

    name: str
    a: Point
    b: Point
    directions: tuple[str, str]

    @property
    def sides(self) -> tuple[str, str]:
        """Where the first of the two ways over the line comes from in the picture, and where the second does."""
        (ax, ay), (bx, by) = self.a, self.b
        turns = math.atan2(bx - ax, ay - by) / (2 * math.pi)
        eighth = round(8 * turns)
        return _ROUND[eighth % 8], _ROUND[(eighth + 4) % 8]


def pairs_apart(polygons: dict[str, Polygon]) -> frozenset[tuple[str, str]]:
    """The ordered pairs of sectors between which a track can move: a track is in both at once where they overlap."""
    return frozenset(
        (a, b) for a in polygons for b in polygons if a != b and overlap(polygons[a], polygons[b]) < MOST_SHARED
    )


def up_to_edges(sectors: Sequence[Sector], apart: Collection[tuple[str, str]]) -> dict[str, Sector]:
    """Sector name to the sector with a border near the frame's edge moved onto the edge. One that another sector parts
    from the edge stays as it is drawn.
    """
    reaching = {}
    for sector in sectors:
        polygon = to_edges(sector.polygon)
        others = [other.polygon for other in sectors if (sector.name, other.name) in apart]
        is_free = all(overlap(polygon, other) < MOST_SHARED for other in others)
        reaching[sector.name] = replace(sector, polygon=polygon) if is_free and polygon != sector.polygon else sector
    return reaching


def line_to_edges(line: Line) -> Line:
    """The line, led on to the frame's edge where it ends near it."""
    return replace(line, a=to_edge(line.b, line.a), b=to_edge(line.a, line.b))
