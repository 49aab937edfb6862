"""What happened to a track, as facts from which events are built."""

from __future__ import annotations

from policies.events import Fact
from policies.site.site_policy import CameraPolicy
from policies.tracking.course import OPPOSITE, SIDES, heading, heading_between
from policies.tracking.track import Closed, Crossed, Track, Visit


def entered(policy: CameraPolicy, track: Track, visit: Visit, before: Closed | None, aspect: float) -> Fact:
    """`before`: the visit that this one followed closely."""
    way_in = visit.way_in or "unknown"
    if track.motion is None and before is not None:
        way_in = OPPOSITE.get(way_between(policy, before.visit, visit, aspect), "unknown")
    return Fact(
        "entered",
        track.label,
        visit.entry_us,
        visit.entry_slack_us,
        visit.evidence,
        track=track.id,
        sector=visit.sector,
        direction=way_in,
    )


def left(track: Track, closed: Closed, way_out: str) -> Fact:
    return Fact(
        "left",
        track.label,
        closed.end_us,
        closed.slack_us,
        track.best,
        track=track.id,
        sector=closed.visit.sector,
        direction=way_out,
    )


def moved(policy: CameraPolicy, track: Track, before: Closed, visit: Visit, aspect: float) -> Fact:
    if track.motion is None:
        direction = _between(policy, before.visit, visit, aspect)
    else:
        direction = visit.heading or heading(track, visit.entry_us, aspect)
    return Fact(
        "moved",
        track.label,
        visit.entry_us,
        max(visit.entry_slack_us, before.slack_us),
        visit.evidence,
        track=track.id,
        from_sector=before.visit.sector,
        to_sector=visit.sector,
        direction=direction,
    )


def way_between(policy: CameraPolicy, before: Visit, after: Visit, aspect: float) -> str:
    """The side over which a track made from labels alone went from one sector to another: where the other lies."""
    return SIDES.get(_between(policy, before, after, aspect), "unknown")


def _between(policy: CameraPolicy, before: Visit, after: Visit, aspect: float) -> str:
    there, here = policy.by_name.get(before.sector), policy.by_name[after.sector]
    return "unknown" if there is None else heading_between(there.middle, here.middle, aspect)


def crossed(track: Track, crossing: Crossed) -> Fact:
    return Fact(
        "crossed",
        track.label,
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
        track.label,
        visit.entry_us,
        visit.entry_slack_us,
        track.best,
        track=track.id,
        sector=visit.sector,
    )
