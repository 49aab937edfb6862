"""Shapes over a picture, for SVG whose view box is 1000 by 1000 and stretches with the picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from policies.geometry import Point, Polygon
from policies.observation import Box
from policies.site.site_policy import CameraPolicy

UNITS = 1000
"""The side of the view box."""
_HEAD = 28
_ACROSS = 60
_NEAR = 80


class Outline(msgspec.Struct, frozen=True):
    """A sector: its corners in 0..1 of the frame, and its state where a page shows one."""

    name: str
    corners: tuple[Point, ...]
    state: str = ""

    @property
    def points(self) -> str:
        """The corners as an SVG polygon has them."""
        return svg_points(self.corners)


def svg_points(corners: Polygon | Iterable[Point]) -> str:
    """`0,0 500,250` for corners in 0..1."""
    return " ".join(f"{x * UNITS:.0f},{y * UNITS:.0f}" for x, y in corners)


def outlines(policy: CameraPolicy) -> tuple[Outline, ...]:
    """The sectors of a camera."""
    return tuple(Outline(sector.name, tuple(sector.polygon)) for sector in policy.sectors)


class Rectangle(msgspec.Struct, frozen=True):
    """A box over a picture: its upper left corner and size in units, and what is written beside it, in which line."""

    x: int
    y: int
    width: int
    height: int
    text: str
    state: str = ""
    rank: int = 0


class Arrow(msgspec.Struct, frozen=True):
    """A course, as the points of an SVG polyline, and those of the head at its end."""

    points: str
    head: str
    text: str = ""


class Scale(msgspec.Struct, frozen=True):
    """A view box that is 1000 units wide and as high as a picture of this size (pixels): nothing is stretched."""

    size: tuple[int, int]

    @property
    def height(self) -> int:
        return max(1, round(UNITS * self.size[1] / max(1, self.size[0])))

    def points(self, corners: Iterable[Point]) -> str:
        """`0,0 500,375` for corners in 0..1."""
        return " ".join(f"{x * UNITS:.0f},{y * self.height:.0f}" for x, y in corners)

    def rectangle(self, box: Box, text: str, state: str = "") -> Rectangle:
        x1, y1, x2, y2 = box
        left, top = round(x1 * UNITS), round(y1 * self.height)
        return Rectangle(left, top, round(x2 * UNITS) - left, round(y2 * self.height) - top, text, state)

    def course(self, points: Sequence[Point], text: str = "") -> Arrow:
        """A course through these points, with its head where it ends."""
        there = [(x * UNITS, y * self.height) for x, y in points]
        line = " ".join(f"{x:.0f},{y:.0f}" for x, y in there)
        far = [point for point in there[:-1] if math.dist(point, there[-1]) >= _HEAD]
        return Arrow(line, _head(far[-1], there[-1]) if far else "", text)

    def across(self, a: Point, b: Point, text: str = "") -> Arrow:
        """The way over a line from `a` to `b` that its first direction names: from the right hand to the left of
        whoever stands at `a` and looks to `b`.
        """
        (ax, ay), (bx, by) = ((x * UNITS, y * self.height) for x, y in (a, b))
        length = math.dist((ax, ay), (bx, by)) or 1.0
        middle, way = ((ax + bx) / 2, (ay + by) / 2), ((by - ay) / length, (ax - bx) / length)
        first, last = ((middle[0] + part * way[0], middle[1] + part * way[1]) for part in (-_ACROSS, _ACROSS))
        return Arrow(f"{first[0]:.0f},{first[1]:.0f} {last[0]:.0f},{last[1]:.0f}", _head(first, last), text)


def ranked(rectangles: Iterable[Rectangle]) -> tuple[Rectangle, ...]:
    """The boxes, with a line of its own for the text of each that begins near another."""
    placed: list[Rectangle] = []
    for each in rectangles:
        near = sum(abs(each.x - one.x) < _NEAR and abs(each.y - one.y) < _NEAR for one in placed)
        placed.append(msgspec.structs.replace(each, rank=near))
    return tuple(placed)


def _head(before: tuple[float, float], tip: tuple[float, float]) -> str:
    """The corners of an arrow's head."""
    angle = math.atan2(tip[1] - before[1], tip[0] - before[0])
    sides = [(tip[0] - _HEAD * math.cos(angle + turn), tip[1] - _HEAD * math.sin(angle + turn)) for turn in (-0.5, 0.5)]
    return " ".join(f"{x:.0f},{y:.0f}" for x, y in (tip, *sides))
