"""Privacy masks: polygons that are painted black before a picture is used in any way.

Coordinates are fractions of the frame, x to the right, y down, so that a mask fits pictures of any size. Every burst
carries the digest of its masks, which tells what the models could not see.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import combinations
from typing import Annotated

from msgspec import Meta

Fraction = Annotated[float, Meta(ge=0, le=1)]
Point = tuple[Fraction, Fraction]
Polygon = Annotated[tuple[Point, ...], Meta(min_length=3)]
Polygons = tuple[Polygon, ...]
_PAINT = "black"


def mask_digest(masks: Polygons) -> str | None:
    """SHA-256, in hex, of the masks; None where nothing is masked."""
    if not masks:
        return None
    rounded = [[[f"{x:.6f}", f"{y:.6f}"] for x, y in polygon] for polygon in masks]
    return hashlib.sha256(json.dumps([_PAINT, rounded], separators=(",", ":")).encode()).hexdigest()


def check_polygons(name: str, polygons: Polygons) -> None:
    """Raise `ValueError` for a polygon that crosses itself: parts that it seems to hide would stay visible."""
    for number, polygon in enumerate(polygons):
        edges = list(zip(polygon, polygon[1:] + polygon[:1], strict=True))
        if any(_cross(*first, *second) for first, second in combinations(edges, 2)):
            raise ValueError(f"`{name}[{number}]` crosses itself: give the corners in order around it")


def in_pixels(polygon: Sequence[tuple[float, float]], width: int, height: int) -> list[tuple[int, int]]:
    """The polygon's corners as pixels of a `width` x `height` picture."""
    return [(min(width - 1, round(x * width)), min(height - 1, round(y * height))) for x, y in polygon]


def _cross(a: Point, b: Point, p: Point, q: Point) -> bool:
    """Whether the edges a-b and p-q cross; edges that only touch do not."""
    return _side(a, b, p) * _side(a, b, q) < 0 and _side(p, q, a) * _side(p, q, b) < 0


def _side(a: Point, b: Point, point: Point) -> float:
    return (b[1] - a[1]) * (a[0] - point[0]) - (b[0] - a[0]) * (a[1] - point[1])
