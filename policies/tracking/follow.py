"""Stage: tracks after a frame: continued, begun, missed or given up."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET
from msgspec.structs import replace

from policies.events import Evidence, event_id
from policies.geometry import Point
from policies.observation import Box
from policies.sensitivity import Vote
from policies.site.rules import Movement
from policies.site.site_policy import CameraPolicy
from policies.site.targets import MOVING
from policies.tracking.going import goes_somewhere, gone_on, has_gone_on, is_piece, longer_course, name_of
from policies.tracking.lifetime import has_stopped, is_gone
from policies.tracking.track import Followed, Frame, Match, Sight, Track

TRAIL_S = 2.5
PAST_GAP_S = 0.25

_WRITTEN = {vote: str(vote) for vote in Vote}


def follow(policy: CameraPolicy, frame: Frame, matches: Sequence[Match]) -> Sequence[Followed]:
    """Each track with what the frame shows of it. Visits and crossings are as they were before."""
    rules = policy.rules.movement
    followed = [
        _unseen(rules, frame, track) if sight is None else _seen(policy, frame, track, sight)
        for track, sight in matches
    ]
    if not policy.has_moving:
        return followed
    followed = [_whole(frame, before, each, followed) for (before, _), each in zip(matches, followed, strict=True)]
    return [_stopped(rules, each, followed, frame) if has_stopped(each.track) else each for each in followed]


def _whole(frame: Frame, before: Track | None, each: Followed, every: Sequence[Followed]) -> Followed:
    """A track that would count from this frame on, but does not while it is a piece of another one."""
    is_new = each.track.confirmed and not (before is not None and before.confirmed)
    if not is_new or not each.track.course or not is_piece(frame, each.track, every):
        return each
    return replace(each, track=replace(each.track, confirmed=False))


def _stopped(rules: Movement, stopped: Followed, every: Sequence[Followed], frame: Frame) -> Followed:
    """A track that stopped in view: it stays where it is until it is given up, or another one began there."""
    track, at_us = stopped.track, frame.at_us
    assert track.missed_us is not None
    goes_on = has_gone_on(frame, track, every)
    if at_us - track.missed_us < rules.hidden_s * 1e6:
        return replace(stopped, track=gone_on(track)) if goes_on else stopped
    is_gone = stopped.is_gone or goes_on
    visits = tuple([visit if visit.out_us is not None else replace(visit, last_us=at_us) for visit in track.visits])
    return Followed(replace(track, visits=visits, missed_us=at_us if is_gone else track.missed_us), is_gone=is_gone)


def _seen(policy: CameraPolicy, frame: Frame, track: Track | None, sight: Sight) -> Followed:
    seen, candidate, rules = frame.seen, sight.candidate, policy.rules.movement
    votes = {model: _WRITTEN[vote] for model, vote in candidate.votes.items()}
    evidence = Evidence(seen.burst_id, seen.frame_sha256, candidate.score, votes, candidate.ruling.margin)
    before_us = None if track is None else track.seen_us
    if track is None:
        born_us, place = frame.at_us, (candidate.target, frame.at_us, candidate.box, candidate.sectors)
        name = event_id(seen.site, seen.camera, *place)[:12]
        track = Track(name, candidate.target, born_us, born_us, 0, evidence)
    best = track.best
    if (evidence.decides, evidence.score) > (best.decides, best.score):
        best = evidence
    course, named = track.course, track.named
    if policy.has_moving and track.target == MOVING and candidate.box is not None:
        course = longer_course(course, candidate.box, frame.at_us, frame.aspect)
        named = named or name_of(policy, frame, candidate.box) or UNSET
    hits = (track.hit_history << 1 | candidate.present) & _latest(rules)
    track = replace(
        track,
        seen_us=frame.at_us,
        missed_us=None,
        misses=0,
        hit_history=hits,
        confirmed=track.confirmed
        or (hits.bit_count() >= rules.min_hits and goes_somewhere(frame, course, candidate.box)),
        course=course,
        named=named,
        best=best,
        motion=sight.motion,
        box=candidate.box,
        trail=track.trail if sight.ground is None else _longer(track.trail, frame.at_us, sight.ground),
        past=track.past if candidate.box is None else _with_box(track.past, frame.at_us, candidate.box),
    )
    # Votes that are not enough continue a track, but are no evidence of anything.
    return Followed(track, sight, before_us, evidence if evidence.decides else best)


def _unseen(rules: Movement, frame: Frame, track: Track | None) -> Followed:
    assert track is not None
    if track.target not in frame.blind:
        track = replace(
            track,
            hit_history=(track.hit_history << 1) & _latest(rules),
            misses=track.misses + 1,
            missed_us=frame.at_us if track.missed_us is None else track.missed_us,
        )
    return Followed(track, is_gone=is_gone(track, rules, frame.at_us))


def _latest(rules: Movement) -> int:
    """The bits of a hit history that are looked at."""
    return (1 << rules.window_frames) - 1


def _longer(
    trail: tuple[tuple[int, float, float], ...], at_us: int, ground: Point
) -> tuple[tuple[int, float, float], ...]:
    """The trail with one more step, without what is older than TRAIL_S before its last three."""
    oldest_us, old = at_us - int(TRAIL_S * 1e6), 0
    while old < len(trail) - 3 and trail[old][0] < oldest_us:
        old += 1
    return (*trail[old:], (at_us, *ground))


def _with_box(past: tuple[tuple[int, Box], ...], at_us: int, box: Box) -> tuple[tuple[int, Box], ...]:
    """The past with one more box, about PAST_GAP_S apart, without what is older than TRAIL_S before its last three."""
    if len(past) > 1 and past[-1][0] - past[-2][0] < PAST_GAP_S * 1e6:
        past = past[:-1]
    oldest_us, old = at_us - int(TRAIL_S * 1e6), 0
    while old < len(past) - 2 and past[old][0] < oldest_us:
        old += 1
    return (*past[old:], (at_us, box))
