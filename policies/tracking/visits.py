"""Stage: the visits of tracks to sectors: begun, going on, over; and when each counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from policies.events import Fact
from policies.geometry import border_part
from policies.site.site_policy import CameraPolicy
from policies.tracking import facts
from policies.tracking.lifetime import has_lasted, is_outside, joins, lingers, may_be_joined
from policies.tracking.motion import frame_side
from policies.tracking.track import Closed, Followed, Frame, Sight, Track, Visit


def update_visits(
    policy: CameraPolicy, frame: Frame, followed: Sequence[Followed]
) -> tuple[tuple[Track, ...], Sequence[tuple[str, Closed]], Sequence[Fact]]:
    """The tracks that go on, their visits up to date, the visits of confirmed tracks that are over (with their
    targets), and the facts of visits that count, linger or are over.
    """
    tracks: list[Track] = []
    closed: list[tuple[str, Closed]] = []
    settled: list[Fact] = []
    for each in followed:
        track = each.track
        visits = track.visits if each.sight is None else tuple(_after_sight(policy, frame, each, each.sight))
        over = _over(policy, frame, each, visits)
        if over:
            visits = tuple([v for v in visits if all(v is not c.visit for c in over)])
            if track.confirmed:
                closed += [(track.target, c) for c in over]
                track, ended = _with_closed(policy, frame, track, over)
                settled += ended
        if each.is_gone:
            continue
        if track.confirmed:
            before, visits = visits, tuple([_marked(policy, visit) for visit in visits])
            for old, new in zip(before, visits, strict=True):
                if new is not old:
                    settled += _marks(policy, frame, track, old, new)
        tracks.append(track if visits is track.visits else replace(track, visits=visits))
    return tuple(tracks), closed, settled


def _after_sight(policy: CameraPolicy, frame: Frame, followed: Followed, sight: Sight) -> Iterator[Visit]:
    """The visits once a sight shows where the track is: known ones first, then those that begin."""
    known = set()
    for visit in followed.track.visits:
        known.add(visit.sector)
        if visit.sector in sight.sectors:
            yield visit.seen_inside(frame.at_us, sight.candidate.box, sight.motion, frame.aspect)
        elif visit.out_us is not None:
            yield visit
        else:
            halfway_us = (visit.last_us + frame.at_us) // 2
            gone_us = _at_border_us(policy, visit.sector, followed.track, leaving=True)
            yield replace(visit, out_us=frame.at_us, gone_us=halfway_us if gone_us is None else gone_us)
    for sector in sight.sectors:
        if sector not in known:
            yield _begun(policy, frame, followed, sight, sector)


def _begun(policy: CameraPolicy, frame: Frame, followed: Followed, sight: Sight, sector: str) -> Visit:
    at_us, box = frame.at_us, sight.candidate.box
    assert followed.evidence is not None
    # A new thing came at some time since the last frame, a known one since it was last seen elsewhere.
    before_us = followed.before_us
    if before_us is None or before_us >= at_us:
        before_us = frame.previous_us
    half_us = 0 if before_us is None else (at_us - before_us) // 2
    entry_us = _at_border_us(policy, sector, followed.track, leaving=False)
    return Visit(
        sector,
        at_us - half_us if entry_us is None else entry_us,
        half_us,
        at_us,
        at_us,
        followed.evidence,
        frame_side(box),
        box,
        crossed_in=len(followed.track.trail) > 1,
    )


def _at_border_us(policy: CameraPolicy, sector: str, track: Track, *, leaving: bool) -> int | None:
    """When the track was on a sector's border on the way of its last step; None where that is not known."""
    if len(track.trail) < 2:
        return None
    (before_us, *there), (at_us, *here) = track.trail[-2:]
    part = border_part(policy.by_name[sector].polygon, (there[0], there[1]), (here[0], here[1]), leaving=leaving)
    return None if part is None else before_us + int(part * (at_us - before_us))


def _over(policy: CameraPolicy, frame: Frame, followed: Followed, visits: Sequence[Visit]) -> list[Closed]:
    """The visits that end with this frame, in order."""
    track, aspect = followed.track, frame.aspect
    over = [
        visit.end(track.missed_us, track.motion, aspect)
        for visit in visits
        if followed.is_gone or is_outside(track, visit, policy.by_name[visit.sector], frame.at_us, aspect)
    ]
    return sorted(over, key=lambda c: (c.end_us, c.slack_us, c.visit.sector)) if len(over) > 1 else over


def _with_closed(
    policy: CameraPolicy, frame: Frame, track: Track, over: Sequence[Closed]
) -> tuple[Track, Sequence[Fact]]:
    """The track with those of its ended visits that counted, and the facts of those."""
    settled: list[Fact] = []
    for closed in over:
        visit = closed.visit
        if not visit.counted:
            if not has_lasted(visit, closed.end_us, policy.by_name[visit.sector].rules.movement.dwell_s):
                continue
            settled += _entry(policy, frame, track, visit)
        settled.append(facts.left(track, closed))
        recent = [c for c in track.closed if may_be_joined(c, closed.end_us, policy.rules.movement)]
        track = replace(track, closed=(*recent, closed))
    return track, settled


def _marked(policy: CameraPolicy, visit: Visit) -> Visit:
    """The visit, marked once it lasted long enough to count, and to linger."""
    rules = policy.by_name[visit.sector].rules.movement
    counted = visit.counted or has_lasted(visit, visit.last_us, rules.dwell_s)
    lingered = visit.lingered or (counted and lingers(visit, rules))
    if counted == visit.counted and lingered == visit.lingered:
        return visit
    return replace(visit, counted=counted, lingered=lingered)


def _marks(policy: CameraPolicy, frame: Frame, track: Track, old: Visit, new: Visit) -> Iterator[Fact]:
    """The facts of a visit that is marked now and was not before."""
    if not old.counted:
        yield from _entry(policy, frame, track, new)
    if new.lingered:
        yield facts.lingered(track, new)


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
