"""Whether something that moves goes somewhere, and what a detector says that it is.

A tree in the wind, an insect on the lens and rain before it move without going anywhere. A thing's course leads
away from where it began, by more than its own size, on a way that is not much longer than that.
"""

from __future__ import annotations

import math

from policies.fusion.pieces import covers, shapes_of
from policies.observation import Box
from policies.site.site_policy import CameraPolicy
from policies.tracking.motion import centre_and_height
from policies.tracking.track import Course, Frame

LEAST_GONE = 1.5
"""Of its size, the geometric mean of its box's sides."""
LEAST_GONE_OF_FRAME = 0.05
"""In frame heights."""
STRAIGHT = 0.8
"""How far it has gone, of the way that it took."""
STEP_S = 0.35
"""Steps shorter than this are not summed, since a box jitters."""


def longer_course(course: Course | None, box: Box, at_us: int, aspect: float) -> Course:
    """The course of a thing once its box at an instant is known."""
    x, y, _ = centre_and_height(box, aspect)
    if course is None:
        return Course(x, y, 0.0, x, y, at_us)
    if at_us - course.last_us < STEP_S * 1e6:
        return course
    way = course.way + math.hypot(x - course.last_x, y - course.last_y)
    return Course(course.x, course.y, way, x, y, at_us)


def goes_somewhere(course: Course | None, box: Box | None, aspect: float) -> bool:
    """Whether a course has led somewhere; of a thing without one, of another target than `moving`, always."""
    if course is None or box is None:
        return True
    size = math.sqrt((box[2] - box[0]) * aspect * (box[3] - box[1]))
    gone = math.hypot(course.last_x - course.x, course.last_y - course.y)
    return gone >= max(LEAST_GONE * size, LEAST_GONE_OF_FRAME) and gone >= STRAIGHT * course.way


def name_of(policy: CameraPolicy, frame: Frame, box: Box) -> str | None:
    """The target of the best detector's box that covers a thing, None where none does."""
    return next((s.label for s in shapes_of(frame.seen, policy.rules) if s.box and covers(s.box, box)), None)
