"""One track and its visits: a thing followed by its boxes or, from labels alone, one unbroken presence.

A visit begins halfway between the last frame that did not show the track in the sector and the first that did,
and ends likewise; the half is its uncertainty. It counts once it has lasted `dwell_s`, and is over once the
track was seen outside for `outside_s`, or is lost.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from policies.geometry import Point, crossing, side_of
from policies.judgement import Candidate
from policies.observation import Box, Observation
from policies.site_policy import CameraPolicy, Sector
from policies.tracking import Motion

TRAIL_S = 2.5
FULL_SECOND_US = 1_000_000


class Evidence(msgspec.Struct, frozen=True):
    """The frame that shows something, and how the models voted on it."""

    burst_id: str
    frame_sha256: str
    score: float
    votes: dict[str, str]
    margin: float | None


class Visit(msgspec.Struct, frozen=True):
    """A track's stay in one sector.

    It began at `entry_us`, give or take `entry_slack_us`; it was last seen inside at `last_us` and first seen
    outside after that at `out_us` (None: not yet). `came_by` is the frame's side it came in by, if it did.
    `counted` once it has lasted long enough to be a fact.
    """

    sector: str
    entry_us: int
    entry_slack_us: int
    last_us: int
    evidence: Evidence
    came_by: str
    last_box: Box | None
    out_us: int | None = None
    counted: bool = False
    lingered: bool = False

    def end(self, missed_us: int | None) -> tuple[int, int]:
        """When it ended and give or take how much, given the first frame that did not show the track."""
        after = self.out_us if self.out_us is not None else missed_us
        assert after is not None
        half = (after - self.last_us) // 2
        return self.last_us + half, half

    def lasted_us(self, end_us: int, dwell_us: int) -> int:
        """How long it lasted; blind time on either side counts for no more than half of `dwell_us`."""
        first = self.entry_us + self.entry_slack_us
        before = min(self.entry_slack_us, dwell_us // 2)
        after = min(end_us - self.last_us, dwell_us - dwell_us // 2)
        return before + self.last_us - first + after


class Closed(msgspec.Struct, frozen=True):
    """A visit that is over: kept for a while, since the next one may make it a movement."""

    visit: Visit
    end_us: int
    slack_us: int


class Crossed(msgspec.Struct, frozen=True):
    """A line crossed, not yet told: it may be undone in the next second."""

    line: str
    direction: str
    at_us: int
    slack_us: int
    evidence: Evidence


class Track(msgspec.Struct, frozen=True):
    """One thing through time. `motion` and `box` are None for a track made from labels alone.

    `trail` holds its latest feet `(at_us, x, y)`; the bits of `marks` say which of its latest frames decidedly
    showed it (the lowest bit is the newest frame); `firm` once enough of them did.
    """

    id: str
    target: str
    born_us: int
    seen_us: int
    marks: int
    best: Evidence
    firm: bool = False
    motion: Motion | None = None
    box: Box | None = None
    missed_us: int | None = None
    trail: tuple[tuple[int, float, float], ...] = ()
    visits: tuple[Visit, ...] = ()
    closed: tuple[Closed, ...] = ()
    crossed: tuple[Crossed, ...] = ()


class Sight(msgspec.Struct, frozen=True):
    """A track shown by a frame: which candidate it was, where it stands (None without a box) and in which
    sectors, when, and when the frame before was taken.
    """

    candidate: Candidate
    ground: Point | None
    sectors: tuple[str, ...]
    at_us: int
    previous_us: int | None
    evidence: Evidence


def evidence_of(seen: Observation, candidate: Candidate) -> Evidence:
    votes = {model: str(vote) for model, vote in candidate.votes.items()}
    return Evidence(seen.burst_id, seen.frame_sha256, candidate.score, votes, candidate.ruling.margin)


def shown(policy: CameraPolicy, track: Track, sight: Sight, motion: Motion | None) -> Track:
    """The track after a frame that shows it: trail, open visits and line crossings brought up to date."""
    candidate, at_us = sight.candidate, sight.at_us
    trail, crossed = track.trail, track.crossed
    if sight.ground is not None:
        x, y = sight.ground
        crossed = _undo(crossed + tuple(_crossings(policy, track, sight, sight.ground)), policy)
        oldest_us = at_us - int(TRAIL_S * 1e6)
        trail = (*(p for i, p in enumerate(trail) if p[0] >= oldest_us or i >= len(trail) - 3), (at_us, x, y))
    rules = policy.rules.movement
    marks = (track.marks << 1 | candidate.present) & ((1 << rules.of) - 1)
    return replace(
        track,
        seen_us=at_us,
        missed_us=None,
        marks=marks,
        firm=track.firm or marks.bit_count() >= rules.sights,
        best=max(track.best, sight.evidence, key=lambda e: e.score),
        motion=motion,
        box=candidate.box,
        trail=trail,
        crossed=crossed,
        visits=tuple(_visits(track, sight)),
    )


def missed(policy: CameraPolicy, track: Track, at_us: int) -> Track:
    """The track after a frame that does not show it."""
    marks = (track.marks << 1) & ((1 << policy.rules.movement.of) - 1)
    return replace(track, marks=marks, missed_us=track.missed_us if track.missed_us is not None else at_us)


def _visits(track: Track, sight: Sight) -> Iterable[Visit]:
    inside = set(sight.sectors)
    for visit in track.visits:
        if visit.sector in inside:
            inside.discard(visit.sector)
            yield replace(visit, last_us=sight.at_us, last_box=sight.candidate.box, out_us=None)
        else:
            yield visit if visit.out_us is not None else replace(visit, out_us=sight.at_us)
    # A new thing came at some time since the last frame, a known one since it was last seen elsewhere.
    before_us = track.seen_us if track.seen_us < sight.at_us else sight.previous_us
    half_us = (sight.at_us - before_us) // 2 if before_us is not None else 0
    for sector in sight.sectors:
        if sector in inside:
            box = sight.candidate.box
            yield Visit(sector, sight.at_us - half_us, half_us, sight.at_us, sight.evidence, frame_side(box), box)


def _crossings(policy: CameraPolicy, track: Track, sight: Sight, here: Point) -> Iterable[Crossed]:
    if not track.trail:
        return
    before_us, x, y = track.trail[-1]
    for line in policy.lines:
        part = crossing(line.a, line.b, (x, y), here)
        if part is None:
            continue
        gap_us = sight.at_us - before_us
        direction = line.directions[0 if side_of(line.a, line.b, (x, y)) > 0 else 1]
        yield Crossed(line.name, direction, before_us + int(part * gap_us), gap_us // 2, sight.evidence)


def _undo(crossed: tuple[Crossed, ...], policy: CameraPolicy) -> tuple[Crossed, ...]:
    """Drops a crossing and the one that takes it back within `outside_s`."""
    limit_us = int(policy.rules.movement.outside_s * 1e6)
    kept: list[Crossed] = []
    for step in crossed:
        back = next((c for c in kept if c.line == step.line and c.direction != step.direction), None)
        if back is not None and step.at_us - back.at_us < limit_us:
            kept.remove(back)
        else:
            kept.append(step)
    return tuple(kept)


def over(track: Track, sector: Sector, visit: Visit, at_us: int) -> bool:
    """Whether a visit has ended although the track goes on: it was seen outside for `outside_s`."""
    if visit.out_us is None:
        return False
    end_us, _ = visit.end(None)
    return at_us - end_us >= sector.rules.movement.outside_s * 1e6


def heading(track: Track, at_us: int, aspect: float) -> str:
    """left, right, up or down: the way the track went in the second around `at_us`; unknown if it hardly moved."""
    before = [p for p in track.trail if at_us - FULL_SECOND_US <= p[0] <= at_us] or list(track.trail[:1])
    after = [p for p in track.trail if at_us <= p[0] <= at_us + FULL_SECOND_US] or list(track.trail[-1:])
    if track.motion is None:
        return "unknown"
    dx = (after[-1][1] - before[0][1]) * aspect
    dy = after[-1][2] - before[0][2]
    if max(abs(dx), abs(dy)) < 0.1 * track.motion.h:
        return "unknown"
    if abs(dx) >= abs(dy):
        return "right" if dx > 0 else "left"
    return "down" if dy > 0 else "up"


def frame_side(box: Box | None, margin: float = 0.06) -> str:
    """The side of the frame a box touches or almost touches: left, right, top or bottom; else unknown."""
    if box is None:
        return "unknown"
    gaps = {"left": box[0], "right": 1 - box[2], "top": box[1], "bottom": 1 - box[3]}
    side = min(gaps, key=lambda name: gaps[name])
    return side if gaps[side] <= margin else "unknown"
