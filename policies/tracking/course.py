"""Which way a thing goes, from its course: over which side it comes and goes, and its heading.

A box alone does not say where its thing went: somebody who walks out to the right close by touches the picture's lower
edge all the way. So the sides come from the way between boxes, or between the feet on both sides of a border. Ways are
in frame heights. Where a way leads as far across as up or down, left and right are chosen. `unknown`: none is seen.
"""

from __future__ import annotations

import math

from policies.geometry import Edge, Point
from policies.observation import Box
from policies.tracking.motion import EDGE, frame_gaps
from policies.tracking.track import Track

LATEST_S = 1.0
"""The latest course is that of this time. Whoever did not move in it, the whole of the past is looked at."""
LEAST_WAY = 0.15
"""Body heights: whoever moved less has only swayed."""
LEAST_PART = 0.3
"""A way leads over a side if this part of it does."""
AHEAD_S = 2.0
"""For so long at most a thing is taken to go on as it did."""
CUT_OFF = 0.02
"""A box that is this near to an edge, in parts of the frame, is cut off there: feet are out of view below it."""
HIGH = 0.5
LEAST_HEADING = 0.1

SIDES = {"left": "left", "right": "right", "up": "top", "down": "bottom"}
"""A heading -> the side over which whoever keeps to it goes."""
OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}


def side_gone(track: Track, until_us: int, aspect: float) -> str:
    """The side of the frame over which a track went that the frame of `until_us` does not show."""
    if len(track.past) < 2:
        return "unknown"
    now_us, box = track.past[-1]
    latest_us = now_us - int(LATEST_S * 1e6)
    latest = next((seen for seen in track.past[:-1] if seen[0] >= latest_us), track.past[-2])
    for then_us, then in (latest, track.past[0]):
        side = side_over(then, box, (now_us - then_us) / 1e6, (until_us - now_us) / 1e6, aspect)
        if side is not None:
            return side
    return "unknown"


def side_come(track: Track, first_us: int, blind_s: float, aspect: float) -> str | None:
    """The side of the frame over which a track came that was first seen at `first_us`, after so many blind seconds;
    None while it has not moved.
    """
    seen = [each for each in track.past if each[0] >= first_us]
    if len(seen) < 2:
        return None
    (then_us, then), (now_us, now) = seen[0], seen[-1]
    return side_over(now, then, (now_us - then_us) / 1e6, blind_s, aspect)


def side_over(then: Box, now: Box, took_s: float, ahead_s: float, aspect: float) -> str | None:
    """The side of the frame over which a thing goes in the next seconds if it goes on as it went from one box to the
    other; `unknown` if over none, None if it hardly moved. Backwards in time, it is the side over which it came.
    """
    dx, dy = _way_across(then, now) * aspect, _way_down(then, now, aspect)
    height = max(then[3] - then[1], now[3] - now[1])
    if max(abs(dx), abs(dy)) < LEAST_WAY * height or took_s <= 0:
        return None
    least = max(LEAST_WAY * height, LEAST_PART * math.hypot(dx, dy))
    gaps = frame_gaps(now)
    out: dict[str, float] = {}
    for side, way in {"left": -dx, "right": dx, "top": -dy, "bottom": dy}.items():
        gap = max(gaps[side], 0.0) * (aspect if side in ("left", "right") else 1.0)
        touches = gaps[side] <= EDGE
        if side == "top":  # the head of whoever is near touches it, wherever he goes: the feet must be high as well
            gap, touches = (now[1] + now[3]) / 2, touches and now[3] <= HIGH
        if way >= least and (touches or gap <= way / took_s * min(ahead_s, AHEAD_S)):
            out[side] = round(way, 6)
    return max(out, key=lambda side: out[side], default="unknown")


def _way_across(then: Box, now: Box) -> float:
    """How far the middle went to the right. Of a thing that one side of the frame cuts off, its other side."""
    is_cut_left = min(then[0], now[0]) <= CUT_OFF
    is_cut_right = max(then[2], now[2]) >= 1 - CUT_OFF
    if is_cut_left == is_cut_right:
        return (now[0] + now[2] - then[0] - then[2]) / 2
    return now[2] - then[2] if is_cut_left else now[0] - then[0]


def _way_down(then: Box, now: Box, aspect: float) -> float:
    """How far the feet went down. Of a thing whose feet the lower edge cuts off, how much it grew, or how far its head
    went down: it comes nearer.
    """
    down = now[3] - then[3]
    if now[3] < 1 - CUT_OFF:
        return down
    down = max(down, now[3] - now[1] - then[3] + then[1], now[1] - then[1])
    if now[1] <= CUT_OFF and then[0] > CUT_OFF and then[2] < 1 - CUT_OFF:
        down = max(down, (now[2] - now[0] - then[2] + then[0]) * aspect)
    return down


def side_of_step(track: Track, border: Edge | None, aspect: float, *, leaving: bool) -> str:
    """The side by which a track left, or entered, a polygon in its last step, over that border of it: the side to
    which its latest course leads furthest across the border.
    """
    if track.motion is None or len(track.trail) < 2:
        return "unknown"
    (_, *there), (now_us, x, y) = track.trail[-2:]
    first = next(seen for seen in track.trail if seen[0] >= now_us - LATEST_S * 1e6)
    first = track.trail[-2] if first is track.trail[-1] else first
    way = ((x - first[1]) * aspect, y - first[2])
    last = ((x - there[0]) * aspect, y - there[1])
    if math.hypot(*way) < LEAST_HEADING * track.motion.h:
        return "unknown"
    if border is not None:
        way = _across(border, way, last, aspect)
    side = SIDES[_dominant(*way)]
    return side if leaving else OPPOSITE[side]


def _across(edge: Edge, way: Point, last: Point, aspect: float) -> Point:
    """How far a way leads across an edge, by its part across the picture and its part up or down. Of the last step, if
    the way leads back.
    """
    (ax, ay), (bx, by) = edge
    nx, ny = by - ay, (ax - bx) * aspect
    if last[0] * nx + last[1] * ny < 0:
        nx, ny = -nx, -ny
    dx, dy = way if way[0] * nx + way[1] * ny > 0 else last
    return math.copysign(max(dx * nx, 0.0), dx), math.copysign(max(dy * ny, 0.0), dy)


def heading(track: Track, at_us: int, aspect: float) -> str:
    """left, right, up or down: the way the track went in the second around `at_us`; unknown if it hardly moved."""
    assert track.motion is not None
    around_us = int(LATEST_S * 1e6)
    before = [p for p in track.trail if at_us - around_us <= p[0] <= at_us] or list(track.trail[:1])
    after = [p for p in track.trail if at_us <= p[0] <= at_us + around_us] or list(track.trail[-1:])
    dx = (after[-1][1] - before[0][1]) * aspect
    dy = after[-1][2] - before[0][2]
    if max(abs(dx), abs(dy)) < LEAST_HEADING * track.motion.h:
        return "unknown"
    return _dominant(dx, dy)


def heading_between(a: Point, b: Point, aspect: float) -> str:
    """The heading from one sector's middle to another's; unknown where they lie on each other."""
    dx, dy = (b[0] - a[0]) * aspect, b[1] - a[1]
    return _dominant(dx, dy) if dx or dy else "unknown"


def _dominant(dx: float, dy: float) -> str:
    if round(abs(dx), 6) >= round(abs(dy), 6):
        return "right" if dx > 0 else "left"
    return "down" if dy > 0 else "up"
