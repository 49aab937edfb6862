"""Plane geometry in frame coordinates: 0..1, x to the right, y down."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import combinations

from policies.observation import Box

Point = tuple[float, float]
Polygon = tuple[Point, ...]
Edge = tuple[Point, Point]

NEAR_EDGE = 0.03
"""A border within this of the frame's edge, in parts of the frame, counts as reaching it. Nobody draws to the pixel,
and the feet of a thing that the picture cuts off lie on the edge itself.
"""
_INSIDE = 1e-3
_GRID = tuple(((i + 0.5) / 48, (j + 0.5) / 48) for i in range(48) for j in range(48))


def inside(x: float, y: float) -> Point:
    """The point, moved just inside the frame if it lies on its edge or beyond."""
    return (min(max(x, _INSIDE), 1 - _INSIDE), min(max(y, _INSIDE), 1 - _INSIDE))


def foot(box: Box) -> Point:
    """The point of a box that stands on the ground: its bottom centre, kept just inside the frame."""
    return inside((box[0] + box[2]) / 2, box[3])


def contains(polygon: Polygon, point: Point) -> bool:
    """Whether the point lies in the polygon (even-odd rule; a point on an edge belongs to one side only)."""
    x, y = point
    inside = False
    x1, y1 = polygon[-1]
    for x2, y2 in polygon:
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            inside = not inside
        x1, y1 = x2, y2
    return inside


def in_pixels(numbers: Sequence[float]) -> str | None:
    """What to say of coordinates that are pixels instead of fractions of the frame; None: they are not."""
    if max(numbers) <= 2:
        return None
    written = ", ".join(f"{number:g}" for number in numbers)
    return f"[{written}] looks like pixels: divide x by the picture's width and y by its height"


def bounds(polygon: Polygon) -> Box:
    """The smallest rectangle around a polygon."""
    xs, ys = [x for x, _ in polygon], [y for _, y in polygon]
    return (min(xs), min(ys), max(xs), max(ys))


def to_edges(polygon: Polygon) -> Polygon:
    """The polygon with every corner near the frame's edge moved onto the edge."""
    xs, ys = ([point[axis] for point in polygon] for axis in (0, 1))
    return tuple(zip(_to_edges(xs), _to_edges(ys), strict=True))


def _to_edges(values: Sequence[float]) -> list[float]:
    """Coordinates along one axis, those near 0 or 1 moved there. A strip that lies near an edge keeps its width: only
    the half nearer to the edge moves.
    """
    least, most = min(values), max(values)
    middle = (least + most) / 2
    low = min(NEAR_EDGE, middle) + 1e-9
    high = max(1 - NEAR_EDGE, middle) - 1e-9
    return [
        0.0 if value <= low and value < most else 1.0 if value >= high and value > least else value for value in values
    ]


def to_edge(here: Point, there: Point) -> Point:
    """The end `there` of a line, or the point in which the line meets the frame's edge if that is near."""
    ways = []
    for axis in (0, 1):
        step = there[axis] - here[axis]
        gap = 1 - there[axis] if step > 0 else there[axis]
        if step and gap <= NEAR_EDGE + 1e-9:
            ways.append(gap / abs(step))
    on = min(ways, default=0.0)
    further = (there[0] + on * (there[0] - here[0]), there[1] + on * (there[1] - here[1]))
    is_near = math.dist(further, there) <= 2 * NEAR_EDGE
    return (min(max(further[0], 0.0), 1.0), min(max(further[1], 0.0), 1.0)) if is_near else there


def overlap(a: Polygon, b: Polygon) -> float:
    """Shared area as a fraction of the smaller polygon's, by counting the points of a regular grid."""
    in_a, in_b = _grid_points(a), _grid_points(b)
    smaller = min(len(in_a), len(in_b))
    return len(in_a & in_b) / smaller if smaller else 0.0


@lru_cache(64)
def _grid_points(polygon: Polygon) -> frozenset[Point]:
    return frozenset(point for point in _GRID if contains(polygon, point))


def area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def shared(a: Box, b: Box) -> float:
    """Area two boxes have in common."""
    if a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]:  # most pairs
        return 0.0
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    return w * h if w > 0 and h > 0 else 0.0


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, in 0..1."""
    both = shared(a, b)
    return both / (area(a) + area(b) - both) if both else 0.0


def side_of(a: Point, b: Point, point: Point) -> float:
    """The cross product: positive for a point to the picture's left, where `a` is at the top and `b` at the bottom."""
    return (b[1] - a[1]) * (a[0] - point[0]) - (b[0] - a[0]) * (a[1] - point[1])


def crossing(a: Point, b: Point, p: Point, q: Point) -> float | None:
    """Where the step p -> q passes through the segment a-b, as a fraction of the step; None if it does not."""
    before, after = side_of(a, b, p), side_of(a, b, q)
    if (before > 0) == (after > 0):
        return None
    if (side_of(p, q, a) > 0) == (side_of(p, q, b) > 0):
        return None
    total = abs(before) + abs(after)
    return abs(before) / total if total else 0.0


def border_step(polygon: Polygon, here: Point, there: Point, *, leaving: bool) -> tuple[float, Edge] | None:
    """Where the way from here to there first leaves, or last enters, the polygon: its fraction, and the edge that it
    crosses. None: nowhere.
    """
    edges = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    steps = [(part, edge) for edge in edges if (part := crossing(*edge, here, there)) is not None]
    if not steps:
        return None
    return min(steps) if leaving else max(steps)


def inner_border(polygon: Polygon) -> tuple[Edge, ...]:
    """The edges of a polygon that do not lie on the frame's edge."""
    edges = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return tuple((a, b) for a, b in edges if not any(a[axis] == b[axis] in (0.0, 1.0) for axis in (0, 1)))


def distance(edges: Iterable[Edge], point: Point, aspect: float) -> float:
    """From the point to the nearest of the edges, in frame heights; `aspect` is the frame's width over its height."""
    px, py = point[0] * aspect, point[1]
    nearest = math.inf
    for (x1, y1), (x2, y2) in edges:
        ax, ay, dx, dy = x1 * aspect, y1, (x2 - x1) * aspect, y2 - y1
        along = ((px - ax) * dx + (py - ay) * dy) / (dx * dx + dy * dy or 1.0)
        part = min(max(along, 0.0), 1.0)
        nearest = min(nearest, math.hypot(ax + part * dx - px, ay + part * dy - py))
    return nearest


def points_of(text: str) -> list[list[float]]:
    """Points as Frigate writes them, `x,y,x,y,...`. Raises ValueError."""
    try:
        numbers = [float(n) for n in text.split(",")]
    except ValueError:
        raise ValueError(f"coordinates must be numbers parted by commas, not {text!r}") from None
    if len(numbers) % 2:
        raise ValueError("coordinates hold an odd count of numbers; they come in pairs x,y")
    return [list(pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]


def polygon_of(points: Sequence[Sequence[float]]) -> Polygon:
    """Points as a polygon, a repeated closing point dropped. Raises ValueError without area, outside 0..1, or where its
    border crosses itself: what is inside then is not what anybody drew.
    """
    polygon = tuple((float(x), float(y)) for x, y in points)
    if len(polygon) > 1 and polygon[0] == polygon[-1]:
        polygon = polygon[:-1]
    if len(polygon) < 3:
        raise ValueError(f"a sector needs at least three points, this one has {len(polygon)}")
    outside = next((p for p in polygon if not (0 <= p[0] <= 1 and 0 <= p[1] <= 1)), None)
    if outside is not None and (hint := in_pixels(outside)):
        raise ValueError(hint)
    if outside is not None:
        raise ValueError(f"the point {list(outside)} lies outside the frame; coordinates are fractions in 0..1")
    edges = list(zip(polygon, polygon[1:] + polygon[:1], strict=True))
    for (a, b), (p, q) in combinations(edges, 2):  # edges that only touch do not cross
        if side_of(a, b, p) * side_of(a, b, q) < 0 and side_of(p, q, a) * side_of(p, q, b) < 0:
            raise ValueError(f"the edges from {list(a)} and from {list(p)} cross: give the corners in order around it")
    twice = sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in edges)
    if abs(twice) < 1e-9:
        raise ValueError("the points lie on one line, so the sector has no area")
    return polygon
