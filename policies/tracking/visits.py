"""Stage: the visits of tracks to sectors: begun, going on, over; and when each counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from msgspec.structs import replace

from policies.events import Fact
from policies.geometry import border_part
from policies.site.site_policy import CameraPolicy
from policies.tracking import facts
from policies.tracking.lifetime import has_lasted, is_outside, joins, lingers, may_be_joined
from policies.tracking.motion import frame_side
from policies.tracking.track import Closed, Followed, Frame, Sight, Track, Visit


class VisitUpdate(msgspec.Struct, frozen=True):
    """The tracks that go on, the visits of confirmed tracks that are over (with their targets), and the facts."""

    tracks: tuple[Track, ...]
    closed: Sequence[tuple[str, Closed]]
    facts: Sequence[Fact]


def update_visits(policy: CameraPolicy, frame: Frame, followed: Sequence[Followed]) -> VisitUpdate:
    """Bring every track's visits up to date, and leave out the tracks that are gone."""
    tracks: list[Track] = []
    closed: list[tuple[str, Closed]] = []
    settled: list[Fact] = []
    for one in followed:
        track = one.track
        visits = track.visits if one.sight is None else tuple(_after_sight(policy, frame, one, one.sight))
        over = sorted(_over(policy, frame, one, visits), key=lambda c: (c.end_us, c.slack_us, c.visit.sector))
        if over:
            visits = tuple([v for v in visits if all(v is not c.visit for c in over)])
            closed += [(track.target, c) for c in over if track.confirmed]
            track = _close(policy, frame, track, over, settled)
        if one.is_gone:
            continue
        if track.confirmed:
            visits = tuple([_counted(policy, frame, track, visit, settled) for visit in visits])
        tracks.append(track if visits is track.visits else replace(track, visits=visits))
    return VisitUpdate(tuple(tracks), closed, settled)


def _after_sight(policy: CameraPolicy, frame: Frame, one: Followed, sight: Sight) -> Iterator[Visit]:
    """The visits once a sight shows where the track is: known ones first, then those that begin."""
    known = set()
    for visit in one.track.visits:
        known.add(visit.sector)
        if visit.sector in sight.sectors:
            yield visit.seen_inside(frame.at_us, sight.candidate.box, sight.motion, frame.aspect)
        elif visit.out_us is not None:
            yield visit
        else:
            halfway_us = (visit.last_us + frame.at_us) // 2
            gone_us = _at_border_us(policy, visit.sector, one.track, leaving=True)
            yield replace(visit, out_us=frame.at_us, gone_us=halfway_us if gone_us is None else gone_us)
    for sector in sight.sectors:
        if sector not in known:
            yield _begun(policy, frame, one, sight, sector)


def _begun(policy: CameraPolicy, frame: Frame, one: Followed, sight: Sight, sector: str) -> Visit:
    at_us, box = frame.at_us, sight.candidate.box
    assert one.evidence is not None
    # A new thing came at some time since the last frame, a known one since it was last seen elsewhere.
    before_us = one.before_us
    if before_us is None or before_us >= at_us:
        before_us = frame.previous_us
    half_us = 0 if before_us is None else (at_us - before_us) // 2
    entry_us = _at_border_us(policy, sector, one.track, leaving=False)
    return Visit(
        sector,
        at_us - half_us if entry_us is None else entry_us,
        half_us,
        at_us,
        at_us,
        one.evidence,
        frame_side(box),
        box,
        crossed_in=len(one.track.trail) > 1,
    )


def _at_border_us(policy: CameraPolicy, sector: str, track: Track, *, leaving: bool) -> int | None:
    """When the track was on a sector's border on the way of its last step; None where that is not known."""
    if len(track.trail) < 2:
        return None
    (before_us, *there), (at_us, *here) = track.trail[-2:]
    part = border_part(policy.by_name[sector].polygon, (there[0], there[1]), (here[0], here[1]), leaving=leaving)
    return None if part is None else before_us + int(part * (at_us - before_us))


def _over(policy: CameraPolicy, frame: Frame, one: Followed, visits: Sequence[Visit]) -> Iterator[Closed]:
    """The visits that end with this frame."""
    track = one.track
    for visit in visits:
        if one.is_gone or is_outside(track, visit, policy.by_name[visit.sector], frame.at_us, frame.aspect):
            yield Closed(visit, *visit.end(track.missed_us, track.motion, frame.aspect))


def _close(policy: CameraPolicy, frame: Frame, track: Track, over: Sequence[Closed], settled: list[Fact]) -> Track:
    """The track with those of its ended visits that counted. Adds the facts of those to `settled`."""
    if not track.confirmed:
        return track
    for closed in over:
        visit = closed.visit
        if not visit.counted:
            if not has_lasted(visit, closed.end_us, policy.by_name[visit.sector].rules.movement.dwell_s):
                continue
            settled += _entry(policy, frame, track, visit)
        settled.append(facts.left(track, closed))
        recent = [c for c in track.closed if may_be_joined(c, closed.end_us, policy.rules.movement)]
        track = replace(track, closed=(*recent, closed))
    return track


def _counted(policy: CameraPolicy, frame: Frame, track: Track, visit: Visit, settled: list[Fact]) -> Visit:
    """The visit, marked once it lasted long enough to count, and to linger. Adds the facts of both to `settled`."""
    rules = policy.by_name[visit.sector].rules.movement
    if not visit.counted and has_lasted(visit, visit.last_us, rules.dwell_s):
        settled += _entry(policy, frame, track, visit)
        visit = replace(visit, counted=True)
    if visit.counted and not visit.lingered and lingers(visit, rules):
        settled.append(facts.lingered(track, visit))
        visit = replace(visit, lingered=True)
    return visit


def _entry(policy: CameraPolicy, frame: Frame, track: Track, visit: Visit) -> Iterator[Fact]:
    """That a visit counts and, if it followed another closely, that the track moved."""
    yield facts.entered(track, visit)
    before = [
        closed
        for closed in track.closed
        if (closed.visit.sector, visit.sector) in policy.apart and joins(closed, visit, policy.rules.movement)
    ]
    if before:
        yield facts.moved(track, max(before, key=lambda closed: closed.end_us), visit, frame.aspect)
