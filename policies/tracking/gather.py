"""Stage for what moves: regions that lie where a known thing is expected are pieces of it, and become one candidate.

A thing keeps its size for a while: when only its front is seen to move, its box is still as large as it was, and holds
what is seen. A region that holds several known things is parted into these: each keeps its size and its speed, and the
outermost ones are where the region ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from policies.fusion.judge import sectors_at
from policies.fusion.judgement import Candidate, Judgement
from policies.fusion.pieces import around
from policies.geometry import area, foot, shared
from policies.observation import Box
from policies.site.site_policy import CameraPolicy
from policies.site.targets import MOVING
from policies.tracking.track import Frame, Track

PART = 0.6
"""A region is a piece of a thing if this part of it, or of the thing, lies where the other is."""
WIDER = 0.3
"""By this part of its size a thing may be to either side of where it is expected."""
LEAST_PARTED = 0.25
"""Of two things in one region, the smaller one has this part of the other's size at least, unless it counts already."""
SHRINKS = 0.3
"""By this part of its size a thing may become smaller in a second."""


def gather(policy: CameraPolicy, frame: Frame, tracks: Sequence[Track], judged: Judgement) -> Judgement:
    """The judgement with one candidate for each known thing that moves."""
    if not policy.has_moving:
        return judged
    known = [track for track in tracks if track.target == MOVING and len(track.past) > 1]
    regions = [c for c in judged.candidates if c.target == MOVING and c.box is not None]
    if not regions or not known:
        return judged
    places = [_expected(policy, frame, track) for track in known]
    pieces: dict[int, list[Candidate]] = {}
    whole: list[Candidate] = []
    for region in regions:
        fits = [_fit(_box(region), _wider(place)) for place in places]
        holds = _held(_box(region), places, known)
        best = max(range(len(fits)), key=lambda n: (fits[n], known[n].confirmed, -known[n].born_us))
        if len(holds) > 1 and area(_box(region)) > sum(area(places[n]) for n in holds) / 2:
            parted = _parted(_box(region), {n: _expected(policy, frame, known[n], shrinks=False) for n in holds})
            whole += [_at(policy, region, place) for n, place in parted.items() if n not in pieces]
        elif fits[best] >= PART:
            pieces.setdefault(best, []).append(region)
        else:
            whole.append(region)
    for number, parts in pieces.items():
        apart = _apart(parts)
        for some in apart:
            leader, seen = max(some, key=lambda part: (part.present, part.score)), around([_box(part) for part in some])
            whole.append(_at(policy, leader, _holding(places[number], seen) if len(apart) == 1 else seen))
    others = tuple(c for c in judged.candidates if c.target != MOVING or c.box is None)
    return Judgement((*others, *sorted(whole, key=lambda c: (-c.score, _box(c)))), judged.undecided)


def _held(region: Box, places: Sequence[Box], known: Sequence[Track]) -> list[int]:
    """Which known things, expected at these places, a region holds. What does not count yet and is much smaller than
    another one is a piece of that, which was seen first, and is left out.
    """
    held = [n for n, place in enumerate(places) if shared(place, region) >= (1 - PART) * area(place)]
    largest = max((area(places[n]) for n in held), default=0.0)
    return [n for n in held if known[n].confirmed or area(places[n]) >= LEAST_PARTED * largest]


def _parted(region: Box, places: Mapping[int, Box]) -> dict[int, Box]:
    """Where things are that are seen as one region, from where each is expected: the outermost one to each side is
    where the region ends.
    """
    found = dict(places)
    for low, high in ((0, 2), (1, 3)):
        first, last = min(found, key=lambda n: found[n][low]), max(found, key=lambda n: found[n][high])
        if first != last:
            found[first] = _moved(found[first], low, region[low] - found[first][low])
            found[last] = _moved(found[last], low, region[high] - found[last][high])
    return found


def _moved(box: Box, low: int, by: float) -> Box:
    """The box moved across (its sides 0 and 2) or down (1 and 3)."""
    left, top, right, bottom = box
    return (left + by, top, right + by, bottom) if low == 0 else (left, top + by, right, bottom + by)


def _expected(policy: CameraPolicy, frame: Frame, track: Track, *, shrinks: bool = True) -> Box:
    """Where a thing's box is expected now. One that `shrinks` may be smaller: its region shows how large it is."""
    assert track.motion is not None
    assert track.box is not None
    left, top, right, bottom = track.box
    ahead_s = (frame.at_us - track.seen_us) / 1e6
    ahead = track.motion.after(ahead_s, policy.rules.movement.fastest(MOVING))
    right_by, down_by = (ahead.x - track.motion.x) / frame.aspect, ahead.y - track.motion.y
    less = min(SHRINKS * ahead_s, 0.5) / 2 if shrinks else 0.0
    wide, high = (right - left) * less, (bottom - top) * less
    return left + right_by + wide, top + down_by + high, right + right_by - wide, bottom + down_by - high


def _wider(place: Box) -> Box:
    wide, high = (place[2] - place[0]) * WIDER, (place[3] - place[1]) * WIDER
    return place[0] - wide, place[1] - high, place[2] + wide, place[3] + high


def _fit(region: Box, place: Box) -> float:
    return shared(region, place) / max(min(area(region), area(place)), 1e-9)


def _apart(pieces: Sequence[Candidate]) -> list[list[Candidate]]:
    """The pieces by the thing they are of: two things went as one so far if neither a row nor a column of the frame
    shows some of both, and the smaller one is no splinter of the other.
    """
    groups: list[list[Candidate]] = []
    for piece in pieces:
        mine = [group for group in groups if any(_is_in_line(_box(piece), _box(other)) for other in group)]
        groups = [group for group in groups if group not in mine] + [[piece, *(one for group in mine for one in group)]]
    sizes = [area(around([_box(one) for one in group])) for group in groups]
    if min(sizes) < LEAST_PARTED * max(sizes):
        return [list(pieces)]
    return groups


def _is_in_line(one: Box, other: Box) -> bool:
    return (one[0] < other[2] and other[0] < one[2]) or (one[1] < other[3] and other[1] < one[3])


def _holding(place: Box, seen: Box) -> Box:
    """The place, moved as little as need be to hold what is seen of the thing, or grown where that is larger."""
    edges = []
    for low, high, seen_low, seen_high in (
        (place[0], place[2], seen[0], seen[2]),
        (place[1], place[3], seen[1], seen[3]),
    ):
        size = max(high - low, seen_high - seen_low)
        start = min(max(low, seen_high - size), seen_low)
        edges.append((start, start + size))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def _at(policy: CameraPolicy, candidate: Candidate, place: Box) -> Candidate:
    """The candidate at a place that holds some of what is seen of it."""
    left, top, right, bottom = (round(min(max(edge, 0.0), 1.0), 5) for edge in place)
    box = (left, top, right, bottom)
    return replace(candidate, box=box, sectors=tuple(s.name for s in sectors_at(policy, MOVING, foot(box))))


def _box(candidate: Candidate) -> Box:
    assert candidate.box is not None
    return candidate.box
