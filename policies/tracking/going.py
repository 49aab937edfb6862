"""Whether something that moves goes somewhere, and what a detector says that it is.

A tree in the wind, an insect on the lens and rain before it move without going anywhere. A thing's course leads
away from where it began, by more than its own size, on a way that is not much longer than that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import UnsetType
from msgspec.structs import replace

from policies.fusion.pieces import covers, gap, longest, shapes_of
from policies.geometry import Point, shared
from policies.observation import Box
from policies.scene.nuisances import times_as_far
from policies.site.site_policy import CameraPolicy
from policies.tracking.motion import EDGE, centre_and_height, frame_side
from policies.tracking.track import Course, Followed, Frame, Track

LEAST_GONE = 1.5
"""Of its size, the geometric mean of its box's sides."""
LEAST_GONE_OF_FRAME = 0.05
"""In frame heights."""
STRAIGHT = 0.9
"""How far it has gone, of the way that it took."""
FAR, STRAIGHT_FAR = 1.5, 0.8
"""So many times as far as LEAST_GONE, the way may have been less straight."""
LEAST_GONE_IN_VIEW, STRAIGHT_IN_VIEW, FAR_IN_VIEW = 0.2, 0.95, 0.5
"""The same of what was not seen to come in, distances in frame heights: an insect crawls straight for a while."""
AHEAD, AHEAD_S = 1.0, 1.5
"""A thing that was lost while it moved is found again as another one within so many of its sizes, from so long before
until so long after: which of two things that meet there was lost is not known.
"""
BESIDE, ALIKE = 1.3, 0.3
"""Pieces of one thing are less than so many times the longest side of their boxes apart, and their speeds differ by no
more than this part.
"""
SEEN_WITHIN = 2
"""A piece is not seen in so many frames at most, since the other one shows that its thing is there."""
STEP_S = 0.35
"""Steps shorter than this are not summed, since a box jitters."""


def longer_course(course: Course | UnsetType, box: Box, at_us: int, aspect: float) -> Course:
    """The course of a thing once its box at an instant is known."""
    x, y, _ = centre_and_height(box, aspect)
    if not course:
        return Course(x, y, 0.0, x, y, at_us)
    if at_us - course.last_us < STEP_S * 1e6:
        return course
    way = course.way + math.hypot(x - course.last_x, y - course.last_y)
    return Course(course.x, course.y, way, x, y, at_us)


def goes_somewhere(frame: Frame, course: Course | UnsetType, box: Box | None) -> bool:
    """Whether a course has led somewhere; of a thing without one, of another target than `moving`, always. In a view
    that is doubted nothing does: a camera that is turned moves everything.
    """
    if not course or box is None:
        return True
    if frame.is_doubted:
        return False
    wide, high = (box[2] - box[0]) * frame.aspect, box[3] - box[1]
    gone = math.hypot(course.last_x - course.x, course.last_y - course.y)
    near = max(LEAST_GONE * math.sqrt(wide * high), LEAST_GONE_OF_FRAME)
    came_in = _began_at_edge(course, wide, high, frame.aspect)
    least, far = (near, FAR * near) if came_in else (max(near, LEAST_GONE_IN_VIEW), max(FAR * near, FAR_IN_VIEW))
    straight = STRAIGHT_FAR if gone >= far else STRAIGHT if came_in else STRAIGHT_IN_VIEW
    if gone < least or gone < straight * course.way:
        return False
    return gone >= near * times_as_far(frame.places, frame.at_us, course.x / frame.aspect, course.y)


def _began_at_edge(course: Course, wide: float, high: float, aspect: float) -> bool:
    """Whether a thing of this size (in frame heights) was seen first at the edge of the frame."""
    across, along = min(course.x, aspect - course.x) - wide / 2, min(course.y, 1 - course.y) - high / 2
    return across <= EDGE * aspect or along <= EDGE


def is_piece(frame: Frame, one: Track, followed: Sequence[Followed]) -> bool:
    """Whether a thing goes along with an older one beside it: both are pieces of one, as the wheels of a car are."""
    return any(
        other.course
        and (other.born_us, other.id) < (one.born_us, one.id)
        and other.misses <= SEEN_WITHIN
        and _goes_along(one, other, frame.aspect)
        for other in (each.track for each in followed)  # what has a course has a box
    )


def _goes_along(one: Track, other: Track, aspect: float) -> bool:
    mine, its = one.motion, other.motion
    assert mine is not None
    assert its is not None
    assert one.box is not None
    assert other.box is not None
    if math.hypot(mine.vx - its.vx, mine.vy - its.vy) > ALIKE * math.hypot(its.vx, its.vy):
        return False
    return gap(one.box, other.box, aspect) < BESIDE * longest(one.box, other.box, aspect)


def has_gone_on(frame: Frame, stopped: Track, followed: Sequence[Followed]) -> bool:
    """Whether another track began at or near the place where this one stopped, at that time or later, or is there at
    that time: its thing goes on under that name.
    """
    assert stopped.box is not None
    left, top, right, bottom = stopped.box
    wide, high = (right - left) * AHEAD, (bottom - top) * AHEAD
    around_it = (left - wide, top - high, right + wide, bottom + high)
    since_us, until_us = (stopped.seen_us + int(way * AHEAD_S * 1e6) for way in (-1, 1))
    for other in (each.track for each in followed):
        if not other.course or other.id == stopped.id or other.hit_history.bit_count() < 2:
            continue
        if other.born_us >= since_us and _holds(around_it, other.course.x / frame.aspect, other.course.y):
            return True
        is_meeting = other.misses == 0 and frame.at_us <= until_us
        if is_meeting and other.box is not None and shared(around_it, other.box) > 0:
            return True
    return False


def _holds(box: Box, x: float, y: float) -> bool:
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def gone_on(track: Track) -> Track:
    """The track of a thing that goes on as another one."""
    assert track.course
    return replace(track, course=replace(track.course, goes_on=True))


def went_nowhere(frame: Frame, followed: Sequence[Followed]) -> list[Point]:
    """Where something that moved is given up near the place where it began, since nothing is seen there any more."""
    points = []
    for each in followed:
        track, course = each.track, each.track.course
        if not each.is_gone or track.confirmed or not course or track.box is None:
            continue
        gone = math.hypot(course.last_x - course.x, course.last_y - course.y)
        if gone <= LEAST_GONE_OF_FRAME * 2 and frame_side(track.box) == "unknown":
            points.append((course.x / frame.aspect, course.y))
    return points


def name_of(policy: CameraPolicy, frame: Frame, box: Box) -> str | None:
    """The target of the best detector's box that covers a thing, None where none does."""
    return next((s.label for s in shapes_of(frame.seen, policy.rules) if s.box and covers(s.box, box)), None)
