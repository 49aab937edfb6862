"""Privacy masks: polygons that are painted over before anything else is done with a picture.

Coordinates are fractions of the frame, x to the right, y down, so one mask serves every size of picture. The
digest goes with each burst: whoever looks at the labels later can tell what the models were not shown.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import combinations
from typing import Annotated

import msgspec
from msgspec import Meta

Part = Annotated[float, Meta(ge=0, le=1)]
Point = tuple[Part, Part]
Polygon = Annotated[tuple[Point, ...], Meta(min_length=3)]
Polygons = tuple[Polygon, ...]
_PAINT = "black"


class Form(msgspec.Struct, frozen=True):
    """What every camera makes of its pictures: masks painted, then made smaller, then JPEG."""

    quality: int = 85
    max_width: int = 1280
    masks: Polygons = ()
    is_thrifty: bool = False
    """Whether even a JPEG that the camera made itself is made anew, for the sake of its size."""


def mask_digest(masks: Polygons) -> str | None:
    """SHA-256, in hex, of the masks in one spelling; None where nothing is masked."""
    if not masks:
        return None
    said = [[[f"{x:.6f}", f"{y:.6f}"] for x, y in polygon] for polygon in masks]
    return hashlib.sha256(json.dumps([_PAINT, said], separators=(",", ":")).encode()).hexdigest()


def check_shapes(name: str, polygons: Polygons) -> None:
    """Raises `ValueError` for one whose border crosses itself: what is painted of it is not what anybody drew, so that
    something would show that was to be hidden.
    """
    for number, polygon in enumerate(polygons):
        edges = list(zip(polygon, polygon[1:] + polygon[:1], strict=True))
        if any(_cross(*one, *other) for one, other in combinations(edges, 2)):
            raise ValueError(f"`{name}[{number}]` crosses itself: give the corners in order around it")


def _cross(a: Point, b: Point, p: Point, q: Point) -> bool:
    """Whether the edges a-b and p-q cross; those that only touch do not."""
    return _side(a, b, p) * _side(a, b, q) < 0 and _side(p, q, a) * _side(p, q, b) < 0


def _side(a: Point, b: Point, point: Point) -> float:
    return (b[1] - a[1]) * (a[0] - point[0]) - (b[0] - a[0]) * (a[1] - point[1])


def in_pixels(polygon: Sequence[tuple[float, float]], width: int, height: int) -> list[tuple[int, int]]:
    """The polygon's corners in a picture of that size, on its pixels."""
    return [(min(width - 1, round(x * width)), min(height - 1, round(y * height))) for x, y in polygon]
