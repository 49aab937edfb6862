"""Following things by their boxes through sparse and irregular time.

A person's box hardly overlaps itself a second later, so boxes are matched by where motion in seconds says
they should be, measured in body heights: a constant-velocity Kalman filter per track (Kalman 1960; white-noise
acceleration), the joint negative log-likelihood as cost, and one optimal assignment per frame. A velocity is
believed only for a while (it decays), and a thing may always have stayed where it was, so that a still one is
found again after any blind time. The height of a box counts as well: people who meet in the moment in which one turns
differ in little else. How fast and how lively things are is taken from the highest plausible speed of
their target, so that a car is not followed as if it walked.

Who runs is further off in the second frame than anybody of unknown speed is expected. So what one frame alone showed
is matched once more, with what nothing else explains, by nothing but what is possible.
Distances are in frame heights; covariances are in squared body heights, so that near and far things are alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from policies.fusion.judgement import Candidate
from policies.geometry import Point, area, inside, shared
from policies.observation import Box
from policies.tracking.assignment import assign

POSITION_NOISE = 0.125
SPEED_SPREAD = 0.22
"""Of speeds, as a part of the highest plausible one; so is `ACCELERATION`, per root of a second."""
ACCELERATION = 0.143
VELOCITY_LIFE_S = 3.4
NEW_THING_COST = 6.0
WEAK_COST = 1.1
STAYED_COST = 4.0
SIZE_SPREAD = 0.3
REACH = 0.65
HEIGHT_GAIN = 0.35
TWIN_OVERLAP = 0.33
NEAR_EDGE = 0.18
LEAVING_SPEED = 0.15
GONE_COST = 8.0
STILL = 0.15
"""Body heights a second below which a thing goes nowhere."""


class Motion(msgspec.Struct, frozen=True):
    """Where a thing was last seen and how fast it goes.

    Box centre `x, y` and velocity `vx, vy` per second in frame heights; body height `h` in frame heights;
    variances of position `pp` and of speed `vv`, and their covariance `pv`, in body heights.
    """

    x: float
    y: float
    vx: float
    vy: float
    h: float
    pp: float
    pv: float
    vv: float

    @staticmethod
    def begun(box: Box, aspect: float, max_speed: float) -> Motion:
        """A thing seen for the first time; `aspect` is the frame's width over its height, `max_speed` the highest
        plausible one in body heights a second.
        """
        x, y, h = _place(box, aspect)
        return Motion(x, y, 0.0, 0.0, h, POSITION_NOISE**2, 0.0, (SPEED_SPREAD * max_speed) ** 2)

    def after(self, dt_s: float, max_speed: float) -> Motion:
        """The prediction `dt_s` seconds later."""
        reach_s = VELOCITY_LIFE_S * (1 - math.exp(-dt_s / VELOCITY_LIFE_S))
        fade = 1 - reach_s / VELOCITY_LIFE_S
        q = (ACCELERATION * max_speed) ** 2
        return Motion(
            self.x + self.vx * reach_s,
            self.y + self.vy * reach_s,
            self.vx * fade,
            self.vy * fade,
            self.h,
            self.pp + 2 * reach_s * self.pv + reach_s * reach_s * self.vv + q * reach_s**2 * dt_s / 3,
            fade * (self.pv + reach_s * self.vv) + q * fade * reach_s**2 / 2,
            fade * fade * self.vv + q * reach_s,
        )

    def corrected(self, box: Box, aspect: float) -> Motion:
        """The prediction once the box is known."""
        x, y, h = _place(box, aspect)
        s = self.pp + POSITION_NOISE**2
        gain_p, gain_v = self.pp / s, self.pv / s
        dx, dy = x - self.x, y - self.y
        return Motion(
            self.x + gain_p * dx,
            self.y + gain_p * dy,
            self.vx + gain_v * dx,
            self.vy + gain_v * dy,
            self.h + HEIGHT_GAIN * (h - self.h),
            (1 - gain_p) * self.pp,
            (1 - gain_p) * self.pv,
            self.vv - gain_v * self.pv,
        )

    def hurried(self, box: Box, aspect: float, dt_s: float) -> Motion:
        """A thing seen for the second time, as far off as nobody expected: its speed is what these two sights say
        (two-point differencing; Bar-Shalom, Li and Kirubarajan 2001).
        """
        x, y, h = _place(box, aspect)
        noise = POSITION_NOISE**2
        return Motion(
            x,
            y,
            (x - self.x) / dt_s,
            (y - self.y) / dt_s,
            self.h + HEIGHT_GAIN * (h - self.h),
            noise,
            noise / dt_s,
            2 * noise / dt_s**2,
        )

    def is_still(self) -> bool:
        return math.hypot(self.vx, self.vy) < STILL * self.h

    def ground(self, aspect: float) -> Point:
        """Where the thing stands, in 0..1 of the frame: steadier than the bottom of its latest box."""
        return inside(self.x / aspect, self.y + self.h / 2)


class Known(msgspec.Struct, frozen=True):
    """A thing to be found again: its motion, its last box, how long ago that was, and whether the last frame is the
    only one that ever showed it.
    """

    motion: Motion
    box: Box
    ago_s: float
    once: bool = False


def match(known: Sequence[Known], candidates: Sequence[Candidate], aspect: float, max_speed: float) -> list[int | None]:
    """For each known thing the index of the candidate that continues it, or None."""
    if not known or not candidates:
        return [None] * len(known)
    places = [_place(candidate.box, aspect) for candidate in candidates if candidate.box is not None]
    weak = [0.0 if candidate.present else WEAK_COST for candidate in candidates]
    seen = list(zip(places, weak, strict=True))
    return assign([_costs(thing, seen, aspect, max_speed) for thing in known])


def match_hurried(
    known: Sequence[Known],
    candidates: Sequence[Candidate],
    found: Sequence[int | None],
    aspect: float,
    max_speed: float,
) -> dict[int, int]:
    """What `match` left over, matched again: known things that were seen once -> candidates that begin nothing else.

    Of all that may have got there in the time, the nearest and likest in size.
    """
    once = [place for place, thing in enumerate(known) if thing.once and found[place] is None]
    if not once:
        return {}
    taken = [box for place, candidate in enumerate(candidates) if place in found and (box := candidate.box) is not None]
    new = [
        place
        for place, candidate in enumerate(candidates)
        if place not in found and candidate.present and candidate.box is not None and not is_twin(candidate.box, taken)
    ]
    costs = [[_haste(known[thing], candidates[place], aspect, max_speed) for place in new] for thing in once]
    return {thing: new[index] for thing, index in zip(once, assign(costs), strict=True) if index is not None}


def is_twin(box: Box, others: Sequence[Box]) -> bool:
    """Whether a box covers much the same place as another one, so that it shows no further thing."""
    return any(shared(box, other) >= TWIN_OVERLAP * min(area(box), area(other)) for other in others)


def _place(box: Box, aspect: float) -> tuple[float, float, float]:
    return ((box[0] + box[2]) / 2 * aspect, (box[1] + box[3]) / 2, max(box[3] - box[1], 1e-3))


def _costs(
    thing: Known, seen: Sequence[tuple[tuple[float, float, float], float]], aspect: float, max_speed: float
) -> list[float]:
    """Negative log-likelihood that each candidate is the thing, less that of its being a new one.

    Of a candidate: its place, and what it costs to be a weak one.
    """
    expected = thing.motion.after(thing.ago_s, max_speed)
    reach = REACH + max_speed * thing.ago_s
    last_x, last_y, _ = _place(thing.box, aspect)
    gone = GONE_COST if _walked_out(thing.motion, expected, aspect) else 0.0
    costs: list[float] = []
    for (x, y, h), weak in seen:
        if math.hypot(x - last_x, y - last_y) > reach * max(expected.h, h):
            costs.append(1.0)
            continue
        going = _surprise(x - expected.x, y - expected.y, expected.h, expected.pp + POSITION_NOISE**2)
        stayed = _surprise(x - last_x, y - last_y, expected.h, (2 * POSITION_NOISE) ** 2) + STAYED_COST
        costs.append(min(going, stayed) + 2 * _unlikeness(h, expected.h) + weak + gone - NEW_THING_COST)
    return costs


def _haste(thing: Known, candidate: Candidate, aspect: float, max_speed: float) -> float:
    """The part of what is possible in distance and size that it takes to be the thing, less one."""
    assert candidate.box is not None
    x, y, h = _place(candidate.box, aspect)
    last_x, last_y, last_h = _place(thing.box, aspect)
    reach = (REACH + max_speed * thing.ago_s) * max(h, last_h)
    return math.hypot(x - last_x, y - last_y) / reach + _unlikeness(h, last_h) - 1.0


def _walked_out(was: Motion, expected: Motion, aspect: float) -> bool:
    """Whether it was on its way over the frame's edge and its middle should be there by now, so that what is seen near
    there is rather somebody else. Who stands at the edge, half in the frame, is not on the way.
    """
    near, least = NEAR_EDGE * expected.h, LEAVING_SPEED * expected.h
    return (
        (expected.x < near and -was.vx > least)
        or (expected.x > aspect - near and was.vx > least)
        or (expected.y < near and -was.vy > least)
        or (expected.y > 1.0 - near and was.vy > least)
    )


def _unlikeness(h: float, expected_h: float) -> float:
    """Negative log density of a Cauchy distribution, less that of equal heights: a box's height mostly errs little,
    and then again by any amount, where somebody is half hidden or two are one box.
    """
    return math.log1p((math.log(h / expected_h) / SIZE_SPREAD) ** 2)


def _surprise(dx: float, dy: float, h: float, spread: float) -> float:
    """Twice the negative log density of a normal distribution in the plane, distances in body heights."""
    return (dx * dx + dy * dy) / (h * h * spread) + 2 * math.log(spread)
