"""Stage: which candidate of a frame continues which track, and which begins a new one.

A person's box hardly overlaps itself a second later. So boxes are matched by where motion in seconds predicts them,
measured in body heights: the joint negative log-likelihood is the cost, and one optimal assignment a frame decides.
A thing may always have stayed where it was, so that a still one is found again after any blind time. The height of a
box counts as well: people who meet in the moment in which one turns differ in little else.

What comes nearer hurries in the picture: a car on a road under the camera makes steps that grow as its box does. So a
long step may also be as much longer, or shorter, than predicted as the candidate's box is higher or lower. And what was
fast has hardly stayed: the faster a thing went and the shorter ago, the more it costs to find it where it was last
seen, or else a car would continue the track of the one before it that was lost there.

A runner is further off in the second frame than anybody of unknown speed is predicted to be. So tracks that only the
last frame showed are matched a second time, with the candidates that are left, by what is possible at all.

From labels alone there is one track a target, in every sector that shows it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec
from msgspec.structs import replace

from policies.fusion.judge import sectors_at
from policies.fusion.judgement import Candidate, Judgement
from policies.geometry import area, iou, shared
from policies.observation import Box
from policies.site.site_policy import CameraPolicy
from policies.tracking.assignment import assign
from policies.tracking.motion import ACCELERATION, POSITION_NOISE, Motion, centre_and_height
from policies.tracking.track import Frame, Match, Sight, Track

NEW_THING_COST = 6.0
WEAK_COST = 1.1
STAYED_COST = 4.0
SIZE_SPREAD = 0.3
REACH = 0.65
TWIN_OVERLAP = 0.33
NEAR_EDGE = 0.18
LEAVING_SPEED = 0.15
LEFT_COST = 8.0
NOT_THIS_ONE = 1.0
"""The cost of what is certainly another thing: any that is above 0."""
SAME_BOX = 0.9
"""IoU from which two boxes are one: a detector may give one thing two names, such as car and truck, with one box."""
LONG_STEP = 3 * POSITION_NOISE
"""Body heights. A shorter step is lost in what the places of two boxes err."""
STOPS_WITHIN_S = 1.0
"""What moved has this long at most to lose its speed by the accelerations that are expected of it, if it stayed."""
MOST_GROWTH = 2.0
"""A box that is more than so many times higher, or lower, from one frame to the next is another's, or half hidden."""


def associate(policy: CameraPolicy, frame: Frame, tracks: Sequence[Track], judged: Judgement) -> list[Match]:
    """The tracks with what the frame shows of each, target by target, then the sights that begin new ones.

    Tracks of blind targets come without a sight, as unseen ones do.
    """
    matches: list[Match] = []
    for target in policy.targets:
        mine = [track for track in tracks if track.target == target]
        if target in frame.blind:
            matches += [(track, None) for track in mine]
            continue
        candidates = [c for c in judged.candidates if c.target == target]
        if not (mine or candidates):
            continue
        boxed = [c for c in candidates if c.box is not None and (c.kept or c.present)]
        of_target = list(_by_boxes(policy, frame, target, [t for t in mine if t.motion is not None], boxed))
        bare = [c for c in candidates if c.box is None and c.present]
        if bare or any(t.motion is None for t in mine):
            of_target += _by_labels(of_target, [t for t in mine if t.motion is None], bare)
        matches += of_target
    return matches


def _by_boxes(
    policy: CameraPolicy, frame: Frame, target: str, tracks: Sequence[Track], candidates: Sequence[Candidate]
) -> Iterator[Match]:
    if not candidates:
        yield from ((track, None) for track in tracks)
        return
    candidates = _without_doubles(candidates)
    aspect, speed = frame.aspect, policy.rules.movement.fastest(target)
    known = [_known(frame, track, speed) for track in tracks]
    seen = [(*centre_and_height(_box(c), aspect), 0.0 if c.present else WEAK_COST) for c in candidates]
    predicted = assign([_predicted_costs(thing, seen, aspect, speed) for thing in known])
    second = _match_second_sights(known, candidates, predicted, aspect, speed)
    continued: set[int] = set()
    for place, (track, thing) in enumerate(zip(tracks, known, strict=True)):
        index = second.get(place, predicted[place])
        if index is None:
            yield track, None
            continue
        continued.add(index)
        box = _box(candidates[index])
        if place in second:
            motion = thing.motion.two_point_init(box, aspect, thing.ago_s)
        else:
            motion = thing.expected.corrected(box, aspect)
        yield track, _sight(policy, frame, candidates[index], motion)
    taken = [_box(candidate) for index, candidate in enumerate(candidates) if index in continued]
    for index, candidate in enumerate(candidates):
        if index not in continued and candidate.present and not _is_twin(_box(candidate), taken):
            taken.append(_box(candidate))
            yield None, _sight(policy, frame, candidate, Motion.begun(_box(candidate), aspect, speed))


def _without_doubles(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """The candidates, of those with one box the best one only: a weaker one would continue a track nearby."""
    if len(candidates) == 1:
        return candidates
    best: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (not c.present, -c.score, _box(c))):
        if all(iou(_box(candidate), _box(other)) < SAME_BOX for other in best):
            best.append(candidate)
    return candidates if len(best) == len(candidates) else [c for c in candidates if any(c is b for b in best)]


def _by_labels(boxed: Sequence[Match], tracks: Sequence[Track], bare: Sequence[Candidate]) -> Iterator[Match]:
    """The one track from labels, in the sectors that show its target and hold no track with a box."""
    if bare:
        busy = {sector for _, sight in boxed if sight is not None for sector in sight.sectors}
        unseen = [track for track, sight in boxed if track is not None and sight is None]
        busy |= {visit.sector for track in unseen for visit in track.visits if visit.out_us is None}
        bare = [c for c in bare if c.sectors[0] not in busy]
    if not bare:
        yield from ((track, None) for track in tracks)
        return
    best = max(bare, key=lambda c: c.score)
    sectors = tuple(c.sectors[0] for c in bare)
    yield (tracks[0] if tracks else None), Sight(replace(best, sectors=sectors), None, None, sectors)


def _sight(policy: CameraPolicy, frame: Frame, candidate: Candidate, motion: Motion) -> Sight:
    ground = motion.ground(frame.aspect)
    return Sight(candidate, motion, ground, tuple([s.name for s in sectors_at(policy, candidate.target, ground)]))


class _Known(msgspec.Struct, frozen=True):
    """A thing to be found again: its motion, the motion expected now, its last box, how long ago that was, and whether
    the last frame is the only one that ever showed it.
    """

    motion: Motion
    expected: Motion
    box: Box
    ago_s: float
    is_single: bool


def _known(frame: Frame, track: Track, max_speed: float) -> _Known:
    assert track.motion is not None
    assert track.box is not None
    ago_us = frame.at_us - track.seen_us
    is_single = len(track.trail) == 1 and track.seen_us == frame.previous_us and ago_us > 0
    ago_s = ago_us / 1e6
    return _Known(track.motion, track.motion.after(ago_s, max_speed), track.box, ago_s, is_single)


def _match_second_sights(
    known: Sequence[_Known],
    candidates: Sequence[Candidate],
    predicted: Sequence[int | None],
    aspect: float,
    max_speed: float,
) -> dict[int, int]:
    """The second matching: known things that were seen once -> candidates that no prediction explains.

    Among all that can have got there in the time, the nearest and most alike in size.
    """
    single = [place for place, thing in enumerate(known) if thing.is_single and predicted[place] is None]
    if not single:
        return {}
    taken = [_box(candidate) for index, candidate in enumerate(candidates) if index in predicted]
    free = [
        index
        for index, candidate in enumerate(candidates)
        if index not in predicted and candidate.present and not _is_twin(_box(candidate), taken)
    ]
    costs = [
        [_single_sight_cost(known[place], candidates[index], aspect, max_speed) for index in free] for place in single
    ]
    return {place: free[column] for place, column in zip(single, assign(costs), strict=True) if column is not None}


def _is_twin(box: Box, others: Sequence[Box]) -> bool:
    """Whether a box covers much the same place as another one, so that it shows no further thing."""
    return any(shared(box, other) >= TWIN_OVERLAP * min(area(box), area(other)) for other in others)


def _predicted_costs(
    thing: _Known, seen: Sequence[tuple[float, float, float, float]], aspect: float, max_speed: float
) -> list[float]:
    """Negative log-likelihood that each candidate is the thing, less that of its being a new one.

    `seen` holds each candidate's centre and height, and what it costs if it is a weak one.
    """
    was, expected = thing.motion, thing.expected
    expected_x, expected_y, expected_h = expected.x, expected.y, expected.h
    reach = REACH + max_speed * thing.ago_s
    last_x, last_y, _ = centre_and_height(thing.box, aspect)
    near = [
        (place, each)
        for place, each in enumerate(seen)
        if math.hypot(each[0] - last_x, each[1] - last_y) <= reach * max(expected_h, each[2])
    ]
    costs = [NOT_THIS_ONE] * len(seen)
    if not near:  # most things, of most candidates
        return costs
    of_place = _Spread(expected.pp + POSITION_NOISE**2, expected_h)
    of_stay = _Spread((2 * POSITION_NOISE) ** 2, expected_h)
    step_x, step_y = expected_x - was.x, expected_y - was.y
    is_long = math.hypot(step_x, step_y) > LONG_STEP * expected_h
    stopped = STAYED_COST + _stopping_cost(was, thing.ago_s, max_speed)
    left = LEFT_COST if _has_left_frame(was, expected, aspect) else 0.0
    for place, (x, y, h, weak) in near:
        dx, dy = x - expected_x, y - expected_y
        cost = (dx * dx + dy * dy) / of_place.unit + of_place.base
        if is_long:
            more = min(max(h / expected_h, 1 / MOST_GROWTH), MOST_GROWTH) - 1
            dx, dy = dx - more * step_x, dy - more * step_y
            cost = min(cost, (dx * dx + dy * dy) / of_place.unit + of_place.base)
        dx, dy = x - last_x, y - last_y
        cost = min(cost, (dx * dx + dy * dy) / of_stay.unit + of_stay.base + stopped)
        if cost + weak + left < NEW_THING_COST:  # else it is too far whatever its size
            costs[place] = cost + 2 * _size_cost(h, expected_h) + weak + left - NEW_THING_COST
    return costs


def _stopping_cost(was: Motion, ago_s: float, max_speed: float) -> float:
    """Negative log density that a thing lost all its speed since it was seen, less that of a still one. Of a Cauchy
    distribution, since a box that jumps gives its thing a speed that it never had.
    """
    spread = was.vv + (ACCELERATION * max_speed) ** 2 * min(ago_s, STOPS_WITHIN_S)
    return math.log1p((was.vx**2 + was.vy**2) / (was.h**2 * spread))


def _single_sight_cost(thing: _Known, candidate: Candidate, aspect: float, max_speed: float) -> float:
    """How much of the possible distance and size it takes to be the thing, less one."""
    x, y, h = centre_and_height(_box(candidate), aspect)
    last_x, last_y, last_h = centre_and_height(thing.box, aspect)
    reach = (REACH + max_speed * thing.ago_s) * max(h, last_h)
    return math.hypot(x - last_x, y - last_y) / reach + _size_cost(h, last_h) - 1.0


def _has_left_frame(was: Motion, expected: Motion, aspect: float) -> bool:
    """Whether it moved over the frame's edge and its middle is predicted to be there by now: a box seen there now is
    rather somebody else. A thing that stands at the edge, half in the frame, has not left.
    """
    near, least = NEAR_EDGE * expected.h, LEAVING_SPEED * expected.h
    return (
        (expected.x < near and -was.vx > least)
        or (expected.x > aspect - near and was.vx > least)
        or (expected.y < near and -was.vy > least)
        or (expected.y > 1.0 - near and was.vy > least)
    )


def _size_cost(h: float, expected_h: float) -> float:
    """Negative log density of a Cauchy distribution, less that of equal heights. A box's height mostly errs little, but
    by any amount where somebody is half hidden or two people share one box.
    """
    return math.log1p((math.log(h / expected_h) / SIZE_SPREAD) ** 2)


class _Spread:
    """A normal distribution of places in the plane, `variance` in squared body heights. Twice its negative log density
    at a squared distance in frame heights is that by `unit`, and `base`.
    """

    __slots__ = ("base", "unit")

    def __init__(self, variance: float, h: float) -> None:
        self.unit = h * h * variance
        self.base = 2 * math.log(variance)


def _box(candidate: Candidate) -> Box:
    assert candidate.box is not None
    return candidate.box
