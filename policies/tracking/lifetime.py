"""Every time rule of tracks, visits and crossings: when something is over, and when it counts.

| case | holds when | then |
|---|---|---|
| doubted | a track is not confirmed and DOUBTED_FRAMES frames in a row do not show it | the track is gone |
| stopped | something that moves had slowed down to a part of its speed, in view or along its edge, and was as large as before, before it was not seen; for the longer of `stopped_s` and `hidden_s`, or until something that counts begins there | the track is gone, its visits lasted till then |
| at the edge | its last box touches the frame's edge; unseen for the shorter of `outside_s` and `hidden_s` | the track is gone |
| overlooked | it stood still for STILL_AFTER_S, and the gap before the first frame without it is at most `hidden_s`; unseen for OVERLOOKED_FACTOR times `hidden_s` | the track is gone |
| hidden | any other track; unseen for `hidden_s` | the track is gone |
| outside | seen outside for `outside_s` and not on the border, or WELL_OUTSIDE body heights from it, or the track is gone | the visit is over |
| on the border | seen outside for `outside_s`, within `border` body heights of the border | the visit goes on |
| held | an earlier visit goes on in a sector to which a track can move, and the feet were only on this one's border | the visit does not count |
| dwell | the visit lasted `dwell_s` and is not held | it counts: `entered` |
| linger | the visit lasted `linger_s`, and `linger_s` is not 0 | `lingered` |
| join | the visit began at most `join_s` after the last one ended | `moved` |
| crossing | `outside_s` passed without a step back over the line, and the thing does not stand on it | `crossed` |

A track unseen for the limit of the first of "stopped", "at the edge", "overlooked" and "hidden" that fits it is gone.
"""  # noqa: E501 - a table row is one line

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from statistics import median
from typing import NamedTuple

from policies.geometry import Edge, area, distance
from policies.site.rules import Movement
from policies.site.sectors import Line, Sector
from policies.tracking.motion import frame_side, leaves_frame, went_to_edge
from policies.tracking.track import Closed, Crossed, Track, Visit

DOUBTED_FRAMES = 3
"""Frames, not seconds: each is a chance to see the thing again."""
STILL_AFTER_S = 3.0
OVERLOOKED_FACTOR = 4.0
"""A thing that stood still does not leave unseen while frames follow closely, so the models overlooked it."""
STOOD_S = 1.5
"""A thing that was in one place for so long stands there."""
STOOD_WITHIN = 0.12
"""Body heights: the feet of a thing in one place are not further apart, whatever its box does."""
LEAST_STOOD = 0.02
"""The same in frame heights, at least."""
WENT_S = 2.0
"""What moved for so long, at least, may have stopped: a shorter course gives no speed to compare with."""
SLOWED = 0.7
"""What moved and was not seen any more, at less than this part of its mean speed, has stopped."""
SHOWN = 0.5
"""What shows less than this part of its usual area is hidden by something, and has not stopped."""
WELL_OUTSIDE = 0.1
"""Body heights from a sector's border at which feet are outside at once."""
LEAST_BORDER = 0.01
"""A border's width in frame heights, at least: the box of a thing far away jitters by pixels."""


class UnseenCase(NamedTuple):
    """A kind of track that no frame shows any more, and for how many seconds it is remembered."""

    name: str
    fits: Callable[[Track, Movement], bool]
    limit_s: Callable[[Movement], float]


def _is_at_edge(track: Track, rules: Movement) -> bool:
    return frame_side(track.box) != "unknown"


def _is_overlooked(track: Track, rules: Movement) -> bool:
    if track.motion is None or not track.motion.is_still():
        return False
    assert track.missed_us is not None
    stood_us, gap_us = track.seen_us - track.born_us, track.missed_us - track.seen_us
    return stood_us >= STILL_AFTER_S * 1e6 and gap_us <= rules.hidden_s * 1e6


def has_stopped(track: Track) -> bool:
    """Whether something that moved has stopped in view, and is not seen since."""
    course, motion, box = track.course, track.motion, track.box
    if not course or course.goes_on or motion is None or box is None:
        return False
    if not track.confirmed or track.missed_us is None:
        return False
    took_s = (course.last_us - track.born_us) / 1e6
    if took_s < WENT_S or track.trail[-1][0] - track.trail[-2][0] > WENT_S * 1e6:
        return False
    speed, past = math.hypot(motion.vx, motion.vy), [each for _, each in track.past]
    if speed > SLOWED * course.way / took_s or area(box) < SHOWN * median(area(each) for each in past):
        return False
    return not (leaves_frame(box, motion) or went_to_edge(past[0], box))


UNSEEN_CASES = (
    UnseenCase("stopped", lambda track, rules: has_stopped(track), lambda rules: max(rules.stopped_s, rules.hidden_s)),
    UnseenCase("at the edge", _is_at_edge, lambda rules: min(rules.outside_s, rules.hidden_s)),
    UnseenCase("overlooked", _is_overlooked, lambda rules: rules.hidden_s * OVERLOOKED_FACTOR),
    UnseenCase("hidden", lambda track, rules: True, lambda rules: rules.hidden_s),
)


def is_gone(track: Track, rules: Movement, at_us: int) -> bool:
    """Whether a track is given up at the instant of a frame."""
    if track.missed_us is None:
        return False
    if not track.confirmed and track.misses >= DOUBTED_FRAMES:
        return True
    limit_s = next(case.limit_s(rules) for case in UNSEEN_CASES if case.fits(track, rules))
    return at_us - track.missed_us >= limit_s * 1e6


def is_outside(track: Track, visit: Visit, sector: Sector, at_us: int, aspect: float) -> bool:
    """Whether a visit is over although its track goes on."""
    if visit.gone_us is None:
        return False
    is_long = at_us - visit.gone_us >= sector.rules.movement.outside_s * 1e6
    if track.motion is None or track.seen_us != at_us:
        return is_long
    edges, width = sector.inner_border, border_width(sector, track, aspect)
    far = distance(edges, track.motion.ground(aspect), aspect)
    if far >= width:
        return is_long or far >= WELL_OUTSIDE * track.motion.h
    return is_long and not _may_stand_on(edges, width, track, visit.gone_us, aspect)


def is_on_border(visit: Visit, sector: Sector, track: Track, at_us: int, aspect: float) -> bool:
    """Whether a thing that has been seen outside for `outside_s` stands on the sector's border."""
    if visit.gone_us is None or at_us - visit.gone_us < sector.rules.movement.outside_s * 1e6:
        return False
    width = border_width(sector, track, aspect)
    return _is_near(sector.inner_border, width, track, -1, aspect) and _stands(track, aspect)


def is_well_inside(sector: Sector, track: Track, first_us: int, aspect: float) -> bool:
    """Whether a thing that is in the sector since `first_us` does not stand on its border."""
    return not _may_stand_on(sector.inner_border, border_width(sector, track, aspect), track, first_us, aspect)


def is_on_line(line: Line, track: Track, rules: Movement, crossed_us: int, aspect: float) -> bool:
    """Whether a thing that crossed a line at `crossed_us` stands on it, or may do so."""
    return _may_stand_on([(line.a, line.b)], _width(rules, track), track, crossed_us, aspect)


def border_width(sector: Sector, track: Track, aspect: float) -> float:
    """How near to the sector's border feet are on it, in frame heights: a quarter of the sector at most, so that it has
    an inside.
    """
    left, top, right, bottom = sector.bounds
    return min(_width(sector.rules.movement, track), (right - left) * aspect / 4, (bottom - top) / 4)


def _width(rules: Movement, track: Track) -> float:
    if not rules.border or track.motion is None:
        return 0.0
    return max(rules.border * track.motion.h, LEAST_BORDER)


def _may_stand_on(edges: Sequence[Edge], width: float, track: Track, since_us: int, aspect: float) -> bool:
    """Whether a thing that came over these edges at `since_us` is near them and stands there, or was near them twice in
    a time that is too short to know.
    """
    if not _is_near(edges, width, track, -1, aspect):
        return False
    if track.seen_us - since_us >= STOOD_S * 1e6:
        return _stands(track, aspect)
    return _is_near(edges, width, track, -2, aspect)


def _is_near(edges: Sequence[Edge], width: float, track: Track, step: int, aspect: float) -> bool:
    """Whether one of the latest steps of a track was on the border that these edges are."""
    if not width or len(track.trail) < -step:
        return False
    return distance(edges, track.trail[step][1:], aspect) < width


def _stands(track: Track, aspect: float) -> bool:
    """Whether the thing has been in one place for STOOD_S. Who turns round or slows down at a border has not."""
    assert track.motion is not None
    now_us, x, y = track.trail[-1]
    limit = max(STOOD_WITHIN * track.motion.h, LEAST_STOOD)
    for at_us, then_x, then_y in reversed(track.trail):
        if math.hypot((x - then_x) * aspect, y - then_y) > limit:
            return False
        if now_us - at_us >= STOOD_S * 1e6:
            return True
    return False


def is_held(visit: Visit, visits: Sequence[Visit], apart: Collection[tuple[str, str]]) -> bool:
    """Whether an earlier one of a track's visits keeps this one from counting."""
    if visit.deep or visit.counted:
        return False
    earlier = itertools.takewhile(lambda other: other is not visit, visits)
    return any((other.sector, visit.sector) in apart for other in earlier)


def has_lasted(visit: Visit, end_us: int, needed_s: float) -> bool:
    """Whether a visit lasted `needed_s` until `end_us`: `dwell_s` to count, `confirm_s` to begin a presence."""
    needed_us = int(needed_s * 1e6)
    return visit.lasted_us(end_us, needed_us) >= needed_us


def lingers(visit: Visit, rules: Movement) -> bool:
    return rules.linger_s > 0 and visit.out_us is None and visit.last_us - visit.entry_us >= rules.linger_s * 1e6


def joins(closed: Closed, visit: Visit, rules: Movement) -> bool:
    """Whether a visit follows one that is over closely enough to be one movement."""
    return -visit.entry_slack_us <= visit.entry_us - closed.end_us <= int(rules.join_s * 1e6)


def may_be_joined(closed: Closed, at_us: int, rules: Movement) -> bool:
    """Whether a later visit may still join one that is over."""
    return at_us - closed.end_us <= rules.join_s * 1e6 * 2


def is_settled(crossed: Crossed, rules: Movement, at_us: int) -> bool:
    """Whether nothing undoes a crossing any more."""
    return at_us - crossed.at_us >= rules.outside_s * 1e6


def is_undone(crossed: Crossed, back_us: int, track: Track, rules: Movement) -> bool:
    """Whether a step back over the line at `back_us`, the latest of its track, undoes a crossing: one that is not
    settled after `outside_s` waits because its thing stood on the line.
    """
    outside_us = int(rules.outside_s * 1e6)
    return back_us - crossed.at_us < outside_us or track.trail[-2][0] - crossed.at_us >= outside_us
