"""Where people and vehicles went: the feet of tracks through a stretch, thinned, to be shown on a picture."""

from __future__ import annotations

from collections.abc import Iterable
from math import hypot

from policies.geometry import Point
from policies.tracking.track import Track

Path = tuple[Point, ...]

LEAST_STEP = 0.01
"""Of the picture: a nearer point adds nothing that somebody sees."""
MOST_POINTS = 60


class Paths:
    """Collects the paths of confirmed tracks, `most` at most: the first ones, each with MOST_POINTS at most."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._points: dict[str, list[Point]] = {}

    def add(self, tracks: Iterable[Track]) -> None:
        """Add where the tracks are seen in a frame."""
        for track in tracks:
            if track.confirmed and track.box is not None and not track.misses:
                self._add(track.id, ((track.box[0] + track.box[2]) / 2, track.box[3]))

    def _add(self, track: str, feet: Point) -> None:
        points = self._points.get(track)
        if points is None:
            if len(self._points) < self._most:
                self._points[track] = [feet]
            return
        is_far = hypot(feet[0] - points[-1][0], feet[1] - points[-1][1]) >= LEAST_STEP
        if is_far and len(points) < MOST_POINTS:
            points.append(feet)

    def found(self) -> tuple[Path, ...]:
        """The paths so far, without those of what never moved; coordinates to a thousandth."""
        moved = (points for points in self._points.values() if len(points) > 1)
        return tuple(tuple((round(x, 3), round(y, 3)) for x, y in points) for points in moved)
