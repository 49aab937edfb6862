"""Shapes over a picture, for SVG whose view box is 1000 by 1000 and stretches with the picture."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from policies.geometry import Point, Polygon
from policies.site.site_policy import CameraPolicy

UNITS = 1000
"""The side of the view box."""


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
