"""What happened to a track, as facts from which events are built."""

from __future__ import annotations

from policies.events import Fact
from policies.tracking.motion import frame_side
from policies.tracking.track import Closed, Crossed, Track, Visit

FULL_SECOND_US = 1_000_000


def entered(track: Track, visit: Visit) -> Fact:
    return Fact(
        "entered",
        track.target,
        visit.entry_us,
        visit.entry_slack_us,
        visit.evidence,
        track=track.id,
        sector=visit.sector,
        direction=visit.came_by,
    )


def left(track: Track, closed: Closed) -> Fact:
    return Fact(
        "left",
        track.target,
        closed.end_us,
        closed.slack_us,
        track.best,
        track=track.id,
        sector=closed.visit.sector,
        direction=frame_side(closed.visit.last_box),
    )


def moved(track: Track, before: Closed, visit: Visit, aspect: float) -> Fact:
    return Fact(
        "moved",
        track.target,
        visit.entry_us,
        max(visit.entry_slack_us, before.slack_us),
        visit.evidence,
        track=track.id,
        from_sector=before.visit.sector,
        to_sector=visit.sector,
        direction=heading(track, visit.entry_us, aspect),
    )


def crossed(track: Track, crossing: Crossed) -> Fact:
    return Fact(
        "crossed",
        track.target,
        crossing.at_us,
        crossing.slack_us,
        crossing.evidence,
        track=track.id,
        line=crossing.line,
        direction=crossing.direction,
    )


def lingered(track: Track, visit: Visit) -> Fact:
    return Fact(
        "lingered",
        track.target,
        visit.entry_us,
        visit.entry_slack_us,
        track.best,
        track=track.id,
        sector=visit.sector,
    )


def heading(track: Track, at_us: int, aspect: float) -> str:
    """left, right, up or down: the way the track went in the second around `at_us`; unknown if it hardly moved."""
    if track.motion is None:
        return "unknown"
    before = [p for p in track.trail if at_us - FULL_SECOND_US <= p[0] <= at_us] or list(track.trail[:1])
    after = [p for p in track.trail if at_us <= p[0] <= at_us + FULL_SECOND_US] or list(track.trail[-1:])
    dx = (after[-1][1] - before[0][1]) * aspect
    dy = after[-1][2] - before[0][2]
    if max(abs(dx), abs(dy)) < 0.1 * track.motion.h:
        return "unknown"
    if abs(dx) >= abs(dy):
        return "right" if dx > 0 else "left"
    return "down" if dy > 0 else "up"
