"""Stage: from labels to candidates, votes and verdicts.

A *candidate* is something that may be there. Boxes of several models that lie on one thing are one candidate. Every
detector votes on it by having a box there or not, and every classifier by its label for the sector the candidate
stands in. Where classifiers see a target in a sector in which no box lies, the sector itself is the candidate: that
is how an ensemble without any detector works.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from policies.fusion.grouping import Group, group_boxes
from policies.fusion.judgement import NOTHING, Candidate, Judgement
from policies.fusion.pieces import group_moving
from policies.fusion.voters import Voters, voters_of
from policies.geometry import Point, contains, foot
from policies.observation import ModelInfo, Observation, Prediction
from policies.sensitivity import Verdict, Vote
from policies.site.sectors import WHOLE, Sector
from policies.site.site_policy import CameraPolicy
from policies.site.targets import is_moving

_FOR = Vote.FOR


def judge(policy: CameraPolicy, seen: Observation) -> Judgement:
    """The votes and verdicts of one frame under `policy`; pure, and cheap where nothing was seen."""
    if policy.scheduled:
        policy = policy.in_force(seen.at_us, seen.brightness)
    voters = voters_of(policy, seen.ensemble_info)
    if voters.saw_something(seen) is False:
        return voters.nothing
    groups = {target: _groups(policy, seen, target, voters) for target in policy.targets}
    return _judged(policy, seen, voters, groups)


def relevant_judgement(policy: CameraPolicy, seen: Observation) -> Judgement:
    """What `judge` gives, perhaps without candidates that are neither present nor kept: no event depends on them.

    Much cheaper in most frames, because detectors see something weak in every yard.
    """
    if policy.scheduled:
        policy = policy.in_force(seen.at_us, seen.brightness)
    voters = voters_of(policy, seen.ensemble_info)
    has_boxes = voters.saw_something(seen)
    if has_boxes is False:
        return voters.nothing
    if has_boxes is None or voters.undecided:
        return judge(policy, seen)
    groups: dict[str, list[Group]] = {}
    for target, thresholds in voters.thresholds.items():
        if thresholds.may_be_present(seen.answers):
            grouped = _groups(policy, seen, target, voters)
            if relevant := [group for group in grouped if thresholds.may_be_one(group)]:
                groups[target] = relevant
    return _judged(policy, seen, voters, groups) if groups else NOTHING


def _groups(policy: CameraPolicy, seen: Observation, target: str, voters: Voters) -> list[Group]:
    """The boxes of a target by the thing that they lie on."""
    classes, models = policy.targets[target], voters.models[target]
    if is_moving(target, classes):
        return group_moving(seen, classes, models, policy.rules)
    return group_boxes(seen, classes, models)


def _judged(
    policy: CameraPolicy, seen: Observation, voters: Voters, groups: Mapping[str, Sequence[Group]]
) -> Judgement:
    candidates: list[Candidate] = []
    undecided: list[tuple[str, str]] = []
    is_silence_absent = not voters.undecided and voters.saw_something(seen) is not None
    for target in voters.models:
        boxed = [
            _candidate(policy, seen, target, voters, sectors_at(policy, target, _foot(group)), group)
            for group in groups.get(target, ())
        ]
        if policy.suppressions:
            boxed = [_unless_suppressed(policy, seen, candidate) for candidate in boxed]
        candidates += boxed
        for sector in () if is_silence_absent else policy.sectors:
            if target not in sector.rules.targets:
                continue
            if any(c.present for c in boxed if sector.name in c.sectors):
                continue
            bare = _candidate(policy, seen, target, voters, [sector], {})
            if bare.ruling.verdict is Verdict.UNDECIDED:
                undecided.append((target, sector.name))
            elif bare.present:
                candidates.append(_unless_suppressed(policy, seen, bare))
    return Judgement(tuple(candidates), tuple(undecided))


def _candidate(
    policy: CameraPolicy, seen: Observation, target: str, voters: Voters, sectors: Sequence[Sector], group: Group
) -> Candidate:
    """The boxes of a group as a candidate or, if there are none, the sector itself: every detector that answered votes
    against it.
    """
    scores = [_score(policy, seen, target, info, sectors, group) for info in voters.models[target]]
    ballot = voters.ballots(policy, target, sectors[0] if sectors else None).of(seen.answers, scores)
    if group:
        boxes = [prediction.score for prediction in group.values()]
        box = next(iter(group.values())).box
    else:
        boxes = [score or 0.0 for score, vote in zip(scores, ballot.votes.values(), strict=True) if vote is _FOR]
        box = None
    return Candidate(
        target,
        tuple([s.name for s in sectors]),
        ballot.votes,
        ballot.ruling,
        ballot.kept,
        max(boxes, default=0.0),
        box,
        parts=ballot.parts,
    )


def _score(
    policy: CameraPolicy, seen: Observation, target: str, info: ModelInfo, sectors: Sequence[Sector], group: Group
) -> float | None:
    """A model's score for a candidate: 0 where it saw nothing, None where it was not asked."""
    if info.boxes:
        return group[info.model].score if info.model in group else 0.0
    return _label_score(seen, info, policy.targets[target], sectors)


def _unless_suppressed(policy: CameraPolicy, seen: Observation, candidate: Candidate) -> Candidate:
    """The candidate, absent if it is present and a known nuisance. A sector without a box lies where its bounds are."""
    if not policy.suppressions or not candidate.present:
        return candidate
    box = candidate.box
    if box is None:
        box = policy.by_name[candidate.sectors[0]].bounds
    for nuisance in policy.suppressions:
        if nuisance.covers(policy.place, seen.at_us, candidate.target, box, candidate.score):
            ruling = replace(candidate.ruling, verdict=Verdict.ABSENT)
            return replace(candidate, ruling=ruling, suppressed=nuisance.name)
    return candidate


def _foot(group: Group) -> Point:
    """The point on which the leading box of a group stands."""
    leader = next(iter(group.values()))
    assert leader.box is not None
    return foot(leader.box)


def sectors_at(policy: CameraPolicy, target: str, point: Point) -> list[Sector]:
    """The sectors that ask for `target` and hold this point."""
    x, y = point
    return [
        sector
        for sector, (left, top, right, bottom) in policy.asking.get(target, ())
        if left <= x <= right and top <= y <= bottom and contains(sector.polygon, point)
    ]


def _label_score(
    seen: Observation, info: ModelInfo, classes: frozenset[str], sectors: Sequence[Sector]
) -> float | None:
    """Summed score of the target's classes where these sectors were shown; None where the model was not asked."""
    answer = seen.answers.get(info.model) or ()
    names = sectors_shown(answer, sectors)
    if not names:
        return None
    return max(sum(s.score for s in answer if s.sector == name and s.label in classes) for name in names)


def sectors_shown(answer: Sequence[Prediction], sectors: Sequence[Sector]) -> set[str | None]:
    """The sectors whose labels speak for a candidate in these: those that are part of the view, if it was shown any,
    else those that are the whole view, else the frame (None), as in observations from before 0.3.0.
    """
    shown = {s.sector for s in answer}
    asked = [s for s in sectors if s.name in shown]
    parts: set[str | None] = {s.name for s in asked if s.polygon != WHOLE}
    return parts or {s.name for s in asked} or shown & {None}


def blind_targets(policy: CameraPolicy, judged: Judgement) -> frozenset[str]:
    """The targets of which a frame shows nothing either way: none of their sectors could be decided."""
    if not judged.undecided:
        return frozenset()
    pairs = {(target, s.name) for s in policy.sectors for target in s.rules.targets}
    decided = {target for target, _ in pairs - set(judged.undecided)} | {c.target for c in judged.candidates}
    return frozenset(policy.targets) - decided
