"""Stage: the visits of tracks to sectors: begun, going on, over; and when each counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from policies.events import Fact
from policies.geometry import Edge, border_step
from policies.site.site_policy import CameraPolicy
from policies.tracking import facts
from policies.tracking.course import LATEST_S, heading, side_come, side_gone, side_of_step
from policies.tracking.lifetime import (
    has_lasted,
    is_held,
    is_on_border,
    is_outside,
    is_well_inside,
    joins,
    lingers,
    may_be_joined,
)
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
        visits = track.visits if each.sight is None else _after_sight(policy, frame, each, each.sight)
        is_waiting = _is_waiting(frame, each)
        may_end = each.is_gone or (not is_waiting and any(visit.gone_us is not None for visit in visits))
        if may_end and (over := _over(policy, frame, each, visits)):
            held = [c for c in over if is_held(c.visit, visits, policy.apart)]
            visits = tuple([v for v in visits if all(v is not c.visit for c in over)])
            if track.confirmed:
                ended = [c for c in over if c not in held]
                closed += [(track.target, c) for c in ended]
                track, told = _with_closed(policy, frame, track, visits, ended)
                settled += told
        if each.is_gone:
            continue
        if track.confirmed:
            before, visits = visits, tuple([_marked(policy, visits, visit) for visit in visits])
            for old, new in zip(before, visits, strict=True):
                if new is not old:
                    settled += _marks(policy, frame, track, old, new)
        tracks.append(track if visits is track.visits else replace(track, visits=visits))
    return tuple(tracks), closed, settled


def _is_waiting(frame: Frame, followed: Followed) -> bool:
    """Whether visits wait until it is known that their thing goes somewhere; not where nothing counts anyhow."""
    track = followed.track
    return bool(track.course) and not (track.confirmed or followed.is_gone or frame.is_doubted)


def _after_sight(policy: CameraPolicy, frame: Frame, followed: Followed, sight: Sight) -> tuple[Visit, ...]:
    """The visits once a sight shows where the track is: known ones first, then those that begin."""
    known = followed.track.visits
    names = {visit.sector for visit in known}
    begun = [_begun(policy, frame, followed, sight, sector) for sector in sight.sectors if sector not in names]
    visits = (*[_continued(policy, frame, followed.track, sight, visit) for visit in known], *begun)
    back = [new for old, new in zip(known, visits, strict=False) if old.out_us is not None and new.out_us is None]
    if not any(visit.sector not in sight.sectors for visit in back):
        return visits
    # It stands on a border, so it did not go over to where it seemed to be: if it does, that is still to come.
    return tuple([visit for visit in visits if not is_held(visit, visits, policy.apart)])


def _continued(policy: CameraPolicy, frame: Frame, track: Track, sight: Sight, visit: Visit) -> Visit:
    """A known visit after a sight of its track."""
    at_us, sector = frame.at_us, policy.reaching[visit.sector]
    if visit.sector in sight.sectors or is_on_border(visit, sector, track, at_us, frame.aspect):
        visit = visit.seen_inside(at_us, sight.candidate.box, sight.motion, frame.aspect)
        if visit.counted:
            return visit
        deep = is_well_inside(sector, track, visit.first_us, frame.aspect)
        return _coming(frame, track, visit if visit.deep == deep else replace(visit, deep=deep))
    if visit.out_us is not None:
        return visit
    gone_us, border = _over_border(policy, visit.sector, track, leaving=True)
    if gone_us is None:
        gone_us = (visit.last_us + at_us) // 2
    way_out = side_of_step(track, border, frame.aspect, leaving=True)
    return replace(visit, out_us=at_us, gone_us=gone_us, way_out=way_out)


def _coming(frame: Frame, track: Track, visit: Visit) -> Visit:
    """A visit that does not count yet, with what the latest sight shows of how its track came."""
    if visit.crossed_in:
        if frame.at_us - visit.entry_us > LATEST_S * 1e6:
            return visit
        way = heading(track, visit.entry_us, frame.aspect)
        return visit if visit.heading == way else replace(visit, heading=way)
    if visit.way_in is not None:
        return visit
    side = side_come(track, visit.first_us, 2 * visit.entry_slack_us / 1e6, frame.aspect)
    return visit if side is None else replace(visit, way_in=side)


def _begun(policy: CameraPolicy, frame: Frame, followed: Followed, sight: Sight, sector: str) -> Visit:
    at_us, box = frame.at_us, sight.candidate.box
    assert followed.evidence is not None
    # A new thing came at some time since the last frame, a known one since it was last seen elsewhere.
    before_us = followed.before_us
    if before_us is None or before_us >= at_us:
        before_us = frame.previous_us
    half_us = 0 if before_us is None else (at_us - before_us) // 2
    track = followed.track
    entry_us, border = _over_border(policy, sector, track, leaving=False)
    reaching = policy.reaching[sector]
    crossed_in = len(track.trail) > 1
    visit = Visit(
        sector,
        at_us - half_us if entry_us is None else entry_us,
        half_us,
        at_us,
        at_us,
        followed.evidence,
        frame_side(box),
        box,
        crossed_in=crossed_in,
        way_in=side_of_step(track, border, frame.aspect, leaving=False) if crossed_in else None,
        deep=is_well_inside(reaching, track, at_us, frame.aspect),
    )
    return _coming(frame, track, visit)


def _over_border(
    policy: CameraPolicy, sector: str, track: Track, *, leaving: bool
) -> tuple[int, Edge] | tuple[None, None]:
    """When the track was on a border of a sector in its last step, and on which; None where that is not known."""
    if len(track.trail) < 2:
        return None, None
    (before_us, *there), (at_us, *here) = track.trail[-2:]
    polygon = policy.reaching[sector].polygon
    step = border_step(polygon, (there[0], there[1]), (here[0], here[1]), leaving=leaving)
    return (None, None) if step is None else (before_us + int(step[0] * (at_us - before_us)), step[1])


def _over(policy: CameraPolicy, frame: Frame, followed: Followed, visits: Sequence[Visit]) -> list[Closed]:
    """The visits that end with this frame, in order."""
    track, aspect = followed.track, frame.aspect
    over = [
        visit.end(track.missed_us, track.motion, aspect)
        for visit in visits
        if followed.is_gone or is_outside(track, visit, policy.reaching[visit.sector], frame.at_us, aspect)
    ]
    return sorted(over, key=lambda c: (c.end_us, c.slack_us, c.visit.sector)) if len(over) > 1 else over


def _with_closed(
    policy: CameraPolicy, frame: Frame, track: Track, visits: Sequence[Visit], over: Sequence[Closed]
) -> tuple[Track, Sequence[Fact]]:
    """The track with those of its ended visits that counted, and the facts of those."""
    settled: list[Fact] = []
    for closed in over:
        visit = closed.visit
        if not visit.counted:
            if not has_lasted(visit, closed.end_us, policy.by_name[visit.sector].rules.movement.dwell_s):
                continue
            settled += _entry(policy, frame, track, visit)
        settled.append(facts.left(track, closed, _way_out(policy, frame, track, visits, closed)))
        recent = [c for c in track.closed if may_be_joined(c, closed.end_us, policy.rules.movement)]
        track = replace(track, closed=(*recent, closed))
    return track, settled


def _way_out(policy: CameraPolicy, frame: Frame, track: Track, visits: Sequence[Visit], closed: Closed) -> str:
    """The side by which a track went out of a sector."""
    visit = closed.visit
    if track.motion is None:
        after = [
            v for v in visits if (visit.sector, v.sector) in policy.apart and joins(closed, v, policy.rules.movement)
        ]
        return facts.way_between(policy, visit, after[-1], frame.aspect) if after else "unknown"
    if visit.out_us is not None:
        return visit.way_out or "unknown"
    assert track.missed_us is not None
    return side_gone(track, track.missed_us, frame.aspect)


def _marked(policy: CameraPolicy, visits: Sequence[Visit], visit: Visit) -> Visit:
    """The visit, marked once it lasted long enough to count, and to linger."""
    rules = policy.by_name[visit.sector].rules.movement
    if visit.counted and (visit.lingered or not rules.linger_s):  # most visits
        return visit
    counted = visit.counted or (
        has_lasted(visit, visit.last_us, rules.dwell_s) and not is_held(visit, visits, policy.apart)
    )
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
    before = [
        closed
        for closed in track.closed
        if (closed.visit.sector, visit.sector) in policy.apart and joins(closed, visit, policy.rules.movement)
    ]
    last = max(before, key=lambda closed: closed.end_us, default=None)
    yield facts.entered(policy, track, visit, last, frame.aspect)
    if last is not None:
        yield facts.moved(policy, track, last, visit, frame.aspect)
