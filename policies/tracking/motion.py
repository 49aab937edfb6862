"""How a thing moves: a constant-velocity Kalman filter (Kalman 1960) in the frame's plane, and the frame's edges.

Acceleration is white noise. A velocity decays with time, because nobody walks straight on for long. Noise scales with
the highest plausible speed of the target, so that a car is not followed as if it walked. Distances are in frame
heights; covariances are in squared body heights, so that near and far things are alike.
"""

from __future__ import annotations

import math

import msgspec

from policies.geometry import Point, inside
from policies.observation import Box

POSITION_NOISE = 0.125
SPEED_SPREAD = 0.22
"""The spread of speeds as a part of the highest plausible one; so is `ACCELERATION`, per root of a second."""
ACCELERATION = 0.143
VELOCITY_LIFE_S = 3.4
HEIGHT_GAIN = 0.35
STILL = 0.15
"""Body heights a second below which a thing stands still."""
EDGE = 0.06
"""A box that is this near to a side of the frame, in parts of the frame, touches it."""


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
        x, y, h = centre_and_height(box, aspect)
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
        x, y, h = centre_and_height(box, aspect)
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

    def two_point_init(self, box: Box, aspect: float, dt_s: float) -> Motion:
        """The motion that a first and a second sight give on their own, without a prediction between them
        (two-point differencing; Bar-Shalom, Li and Kirubarajan 2001).
        """
        x, y, h = centre_and_height(box, aspect)
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


def centre_and_height(box: Box, aspect: float) -> tuple[float, float, float]:
    """A box's centre `x, y` and its height, in frame heights."""
    return ((box[0] + box[2]) / 2 * aspect, (box[1] + box[3]) / 2, max(box[3] - box[1], 1e-3))


def frame_side(box: Box | None) -> str:
    """The side of the frame a box touches or almost touches: left, right, top or bottom; else unknown."""
    if box is None:
        return "unknown"
    gaps = frame_gaps(box)
    side = min(gaps, key=lambda name: gaps[name])
    return side if gaps[side] <= EDGE else "unknown"


def leaves_frame(box: Box, motion: Motion) -> bool:
    """Whether a box touches a side of the frame and goes over it; not if it goes along that side."""
    gaps, outward = frame_gaps(box), _outward(motion)
    return any(gaps[side] <= EDGE and outward[side] >= STILL * motion.h for side in gaps)


def went_to_edge(before: Box, now: Box) -> bool:
    """Whether a box touches a side of the frame towards which it has gone, however slowly it goes now: an edge that
    cuts a thing off slows its box down.
    """
    across, down = (now[0] + now[2] - before[0] - before[2]) / 2, (now[1] + now[3] - before[1] - before[3]) / 2
    ways = {"left": -across, "right": across, "top": -down, "bottom": down}
    gaps = frame_gaps(now)
    return any(gaps[side] <= EDGE <= ways[side] for side in gaps)


def edge_us(box: Box | None, side: str, motion: Motion | None, aspect: float, *, coming: bool) -> int | None:
    """Microseconds since the box came over that side of the frame, or until it goes; None where it does neither."""
    if box is None or motion is None or side == "unknown":
        return None
    outward = _outward(motion)[side]
    speed = -outward if coming else outward
    if speed < STILL * motion.h:
        return None
    gap = max(frame_gaps(box)[side], 0.0) * (aspect if side in ("left", "right") else 1.0)
    return int(gap / speed * 1e6)


def _outward(motion: Motion) -> dict[str, float]:
    """How fast a thing goes towards each side of the frame."""
    return {"left": -motion.vx, "right": motion.vx, "top": -motion.vy, "bottom": motion.vy}


def frame_gaps(box: Box) -> dict[str, float]:
    """How far each side of a box is from that of the frame, in parts of the frame."""
    return {"left": box[0], "right": 1 - box[2], "top": box[1], "bottom": 1 - box[3]}
