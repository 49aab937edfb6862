"""A track's stay in one sector, and when it began and ended.

Frames are sparse: the moment lies somewhere between two of them, and half of that time is its uncertainty. Where the
track was seen on both sides of the border, the moment is where the straight way between its two feet meets the
border. Where it came or went by the frame's own edge, it is when its box met that edge, at the speed it
had. Else, something hid it, and the moment lies halfway.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from policies.geometry import Point, Polygon, crossing
from policies.observation import Box
from policies.tracking.association import STILL, Motion

EDGE = 0.06


class Evidence(msgspec.Struct, frozen=True):
    """The frame that shows something, and how the models voted on it."""

    burst_id: str
    frame_sha256: str
    score: float
    votes: dict[str, str]
    margin: float | None

    @property
    def decides(self) -> bool:
        """Whether the votes in this frame are enough; a track goes on through frames in which they are not."""
        return self.margin is not None and self.margin >= 0


class Visit(msgspec.Struct, frozen=True):
    """A track's stay in one sector.

    It began at `entry_us`, give or take `entry_slack_us`, and was seen inside from `first_us` to `last_us`.
    `crossed_in` tells that it was seen outside before; `came_by` is the frame's side it came in by, if it did. Since
    `out_us` (None: not yet) it is seen outside; it went out at `gone_us`. `counted` once it has lasted long enough
    to be a fact.
    """

    sector: str
    entry_us: int
    entry_slack_us: int
    first_us: int
    last_us: int
    evidence: Evidence
    came_by: str
    last_box: Box | None
    crossed_in: bool = False
    out_us: int | None = None
    gone_us: int | None = None
    counted: bool = False
    lingered: bool = False

    def seen_inside(self, at_us: int, box: Box | None, motion: Motion | None, aspect: float) -> Visit:
        """The visit after one more frame that shows it; while it is young, its beginning is known ever better."""
        entry_us = self.entry_us
        if not (self.crossed_in or self.counted):
            ago_us = _edge_us(box, self.came_by, motion, aspect, coming=True)
            if ago_us is not None:
                entry_us = min(self.first_us, max(self.first_us - 2 * self.entry_slack_us, at_us - ago_us))
        return replace(self, entry_us=entry_us, last_us=at_us, last_box=box, out_us=None, gone_us=None)

    def end(self, missed_us: int | None, motion: Motion | None, aspect: float) -> tuple[int, int]:
        """When it ended and give or take how much, given the first frame that did not show the track."""
        if self.out_us is not None and self.gone_us is not None:
            return self.gone_us, (self.out_us - self.last_us) // 2
        assert missed_us is not None
        half_us = (missed_us - self.last_us) // 2
        ahead_us = _edge_us(self.last_box, frame_side(self.last_box), motion, aspect, coming=False)
        return min(missed_us, self.last_us + (half_us if ahead_us is None else ahead_us)), half_us

    def lasted_us(self, end_us: int, dwell_us: int) -> int:
        """How long it lasted; blind time where it was not seen outside counts for half of `dwell_us` at most."""
        before_us, after_us = self.first_us - self.entry_us, end_us - self.last_us
        if not self.crossed_in:
            before_us = min(before_us, dwell_us // 2)
        if self.out_us is None:
            after_us = min(after_us, dwell_us - dwell_us // 2)
        return before_us + self.last_us - self.first_us + after_us


class Closed(msgspec.Struct, frozen=True):
    """A visit that is over: kept for a while, since the next one may make it a movement."""

    visit: Visit
    end_us: int
    slack_us: int


def border_part(polygon: Polygon, here: Point, there: Point, *, leaving: bool) -> float | None:
    """Where the way from here to there first leaves, or last enters, the polygon, as its fraction; None: nowhere."""
    edges = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    parts = [part for a, b in edges if (part := crossing(a, b, here, there)) is not None]
    if not parts:
        return None
    return min(parts) if leaving else max(parts)


def frame_side(box: Box | None) -> str:
    """The side of the frame a box touches or almost touches: left, right, top or bottom; else unknown."""
    if box is None:
        return "unknown"
    gaps = _gaps(box)
    side = min(gaps, key=lambda name: gaps[name])
    return side if gaps[side] <= EDGE else "unknown"


def _gaps(box: Box) -> dict[str, float]:
    return {"left": box[0], "right": 1 - box[2], "top": box[1], "bottom": 1 - box[3]}


def _edge_us(box: Box | None, side: str, motion: Motion | None, aspect: float, *, coming: bool) -> int | None:
    """Microseconds since the box came over that side of the frame, or until it goes; None where it does neither."""
    if box is None or motion is None or side == "unknown":
        return None
    outward = {"left": -motion.vx, "right": motion.vx, "top": -motion.vy, "bottom": motion.vy}[side]
    speed = -outward if coming else outward
    if speed < STILL * motion.h:
        return None
    gap = max(_gaps(box)[side], 0.0) * (aspect if side in ("left", "right") else 1.0)
    return int(gap / speed * 1e6)
