"""One track and its visits: a thing followed by its boxes or, from labels alone, one unbroken presence.

A visit counts once it has lasted `dwell_s`. It is over once the track was seen outside for `outside_s`, or well
outside, or is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from policies.fusion.judgement import Candidate
from policies.geometry import Point, crossing, distance, side_of
from policies.observation import Box, Observation
from policies.site.site_policy import CameraPolicy, Sector
from policies.tracking.association import Motion
from policies.tracking.visit import Closed, Evidence, Visit, border_part, frame_side

TRAIL_S = 2.5
FULL_SECOND_US = 1_000_000
WELL_OUTSIDE = 0.1
"""Body heights from a sector's border at which feet are taken to be outside for certain: they jitter by less."""
STILL_AFTER_S = 3.0
PATIENCE = 4.0
"""How many times as long a thing that stood still is remembered: while we look it does not leave unseen, so it was
overlooked.
"""

DOUBTED = 3
"""So many frames in a row without a thing that has not counted yet say that it was none. Frames, not seconds: each is a
chance to see it again.
"""


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
    showed it (the lowest bit is the newest frame); `firm` once enough of them did. The latest `blanks` frames did not
    show it at all.
    """

    id: str
    target: str
    born_us: int
    seen_us: int
    marks: int
    best: Evidence
    firm: bool = False
    blanks: int = 0
    motion: Motion | None = None
    box: Box | None = None
    missed_us: int | None = None
    trail: tuple[tuple[int, float, float], ...] = ()
    visits: tuple[Visit, ...] = ()
    closed: tuple[Closed, ...] = ()
    crossed: tuple[Crossed, ...] = ()


class Sight(msgspec.Struct, frozen=True):
    """A track shown by a frame: which candidate it was, its motion and where it stands (None without a box), in which
    sectors, when, when the frame before was taken, and the frame's width over its height.
    """

    candidate: Candidate
    motion: Motion | None
    ground: Point | None
    sectors: tuple[str, ...]
    at_us: int
    previous_us: int | None
    aspect: float
    evidence: Evidence


def evidence_of(seen: Observation, candidate: Candidate) -> Evidence:
    votes = {model: str(vote) for model, vote in candidate.votes.items()}
    return Evidence(seen.burst_id, seen.frame_sha256, candidate.score, votes, candidate.ruling.margin)


def shown(policy: CameraPolicy, track: Track, sight: Sight) -> Track:
    """The track after a frame that shows it: trail, open visits and line crossings brought up to date."""
    candidate, at_us = sight.candidate, sight.at_us
    best, new = track.best, sight.evidence
    if (new.decides, new.score) > (best.decides, best.score):
        best = new
    if not new.decides:  # it goes on through this frame, but nobody's vote here is why it is there
        sight = replace(sight, evidence=best)
    trail, crossed = track.trail, track.crossed
    if sight.ground is not None:
        x, y = sight.ground
        crossed += tuple(_crossings(policy, track, sight, sight.ground))
        if crossed:
            crossed = _undo(crossed, policy)
        trail = (*trail[_forgotten(trail, at_us) :], (at_us, x, y))
    rules = policy.rules.movement
    marks = (track.marks << 1 | candidate.present) & ((1 << rules.of) - 1)
    return replace(
        track,
        seen_us=at_us,
        missed_us=None,
        blanks=0,
        marks=marks,
        firm=track.firm or marks.bit_count() >= rules.sights,
        best=best,
        motion=sight.motion,
        box=candidate.box,
        trail=trail,
        crossed=crossed,
        visits=tuple(_visits(policy, track, sight)),
    )


def _forgotten(trail: Sequence[tuple[int, float, float]], at_us: int) -> int:
    """How many feet at the trail's beginning are too old to be kept; its last three are."""
    oldest_us, count = at_us - int(TRAIL_S * 1e6), 0
    while count < len(trail) - 3 and trail[count][0] < oldest_us:
        count += 1
    return count


def missed(policy: CameraPolicy, track: Track, at_us: int) -> Track:
    """The track after a frame that does not show it."""
    marks = (track.marks << 1) & ((1 << policy.rules.movement.of) - 1)
    missed_us = at_us if track.missed_us is None else track.missed_us
    return replace(track, marks=marks, blanks=track.blanks + 1, missed_us=missed_us)


def is_gone(policy: CameraPolicy, track: Track, at_us: int) -> bool:
    """Whether a track that is missed is given up: it was hidden for too long or, if it never counted, some frames in a
    row do not show it.
    """
    assert track.missed_us is not None
    if not track.firm and track.blanks >= DOUBTED:
        return True
    return at_us - track.missed_us >= _remembered_s(policy, track) * 1e6


def _remembered_s(policy: CameraPolicy, track: Track) -> float:
    """How long a track that is missed may go unseen before it is taken to be gone."""
    assert track.missed_us is not None
    rules, motion = policy.rules.movement, track.motion
    if frame_side(track.box) != "unknown":  # what vanishes at the frame's edge has most likely walked out
        return min(rules.outside_s, rules.hidden_s)
    stood_us = track.seen_us - track.born_us if motion is not None and motion.is_still() else 0
    blind_us = track.missed_us - track.seen_us
    is_overlooked = stood_us >= STILL_AFTER_S * 1e6 and blind_us <= rules.hidden_s * 1e6
    return rules.hidden_s * PATIENCE if is_overlooked else rules.hidden_s


def _visits(policy: CameraPolicy, track: Track, sight: Sight) -> Iterable[Visit]:
    inside = set(sight.sectors)
    box = sight.candidate.box
    for visit in track.visits:
        if visit.sector in inside:
            inside.discard(visit.sector)
            yield visit.seen_inside(sight.at_us, box, sight.motion, sight.aspect)
        elif visit.out_us is not None:
            yield visit
        else:
            gone_us = _at_border_us(policy, visit.sector, track, sight, leaving=True)
            halfway_us = (visit.last_us + sight.at_us) // 2
            yield replace(visit, out_us=sight.at_us, gone_us=halfway_us if gone_us is None else gone_us)
    # A new thing came at some time since the last frame, a known one since it was last seen elsewhere.
    before_us = track.seen_us if track.seen_us < sight.at_us else sight.previous_us
    half_us = (sight.at_us - before_us) // 2 if before_us is not None else 0
    for sector in sight.sectors:
        if sector in inside:
            entry_us = _at_border_us(policy, sector, track, sight, leaving=False)
            yield Visit(
                sector,
                sight.at_us - half_us if entry_us is None else entry_us,
                half_us,
                sight.at_us,
                sight.at_us,
                sight.evidence,
                frame_side(box),
                box,
                crossed_in=bool(track.trail),
            )


def _at_border_us(policy: CameraPolicy, sector: str, track: Track, sight: Sight, *, leaving: bool) -> int | None:
    """When the track was on a sector's border, on its way from where it was seen before; None where it is not known."""
    if not track.trail or sight.ground is None:
        return None
    before_us, x, y = track.trail[-1]
    polygon = next(s.polygon for s in policy.sectors if s.name == sector)
    part = border_part(polygon, (x, y), sight.ground, leaving=leaving)
    return None if part is None else before_us + int(part * (sight.at_us - before_us))


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


def over(track: Track, sector: Sector, visit: Visit, at_us: int, aspect: float) -> bool:
    """Whether a visit has ended although the track goes on: it was seen outside for `outside_s`, or well outside."""
    if visit.gone_us is None:
        return False
    if at_us - visit.gone_us >= sector.rules.movement.outside_s * 1e6:
        return True
    if track.motion is None or track.seen_us != at_us:
        return False
    return distance(sector.polygon, track.motion.ground(aspect), aspect) >= WELL_OUTSIDE * track.motion.h


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
