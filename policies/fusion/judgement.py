"""From labels to verdicts: what may be there, how each model voted on it, and what the sensitivity rule says.

A *candidate* is something that may be there. Boxes of several models that lie on one thing are one candidate,
on which every detector votes by having a box there or not, and every classifier by its label for the sector
the candidate stands in. Where classifiers see a target in a sector in which no box lies, the sector itself is
the candidate: that is how an ensemble without any detector works.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import is_

import msgspec
from msgspec.structs import replace

from policies.fusion.voters import KEEP_RATIO, Bench, bench_of
from policies.geometry import Point, area, foot, shared
from policies.observation import Box, ModelInfo, Observation, Prediction
from policies.sensitivity import Ruling, Verdict, Vote
from policies.site.site_policy import CameraPolicy, Sector

_FOR, _AGAINST, _ABSTAIN, _MISSING = Vote
_PRESENT = Verdict.PRESENT

SAME_THING_IOU = 0.38
SAME_THING_INSIDE = 0.7


class Candidate(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that may be there: a box (several models' boxes on one thing), or a sector without one.

    `sectors` are those it stands in. `ruling` decides; `kept` says whether it would be present if every
    minimum score were much lower: too little to begin a track, enough to continue one. `score` is the best
    score of its boxes or, without one, of the labels that voted for it. `suppressed` names the known nuisance it was
    taken for: it is absent then, whatever its votes.
    """

    target: str
    sectors: tuple[str, ...]
    votes: dict[str, Vote]
    ruling: Ruling
    kept: bool
    score: float
    box: Box | None = None
    suppressed: str | None = None

    @property
    def present(self) -> bool:
        return self.ruling.verdict is _PRESENT


class Judgement(msgspec.Struct, frozen=True):
    """All candidates of one frame, and the (target, sector) pairs that could not be decided."""

    candidates: tuple[Candidate, ...]
    undecided: tuple[tuple[str, str], ...]


NOTHING = Judgement((), ())
"""Of most frames: nothing seen, and that for certain."""


def judge(policy: CameraPolicy, seen: Observation) -> Judgement:
    """The votes and verdicts of one frame under `policy`; pure, and cheap where nothing was seen."""
    if policy.scheduled:
        policy = policy.in_force(seen.at_us, seen.brightness)
    bench = bench_of(policy, seen.ensemble_info)
    if bench.saw_nothing(seen):
        return Judgement((), bench.undecided)
    groups = {target: _groups(policy, seen, target, bench.models[target]) for target in policy.targets}
    return _judged(policy, seen, bench, groups)


Piles = dict[frozenset[str], "list[_Group]"]
"""Of one frame: the boxes of each set of classes, by the thing they lie on."""


def gist(policy: CameraPolicy, seen: Observation, piles: Piles | None = None) -> Judgement:
    """What `judge` gives, but perhaps without candidates that are neither present nor kept: nothing comes of them.

    Much cheaper where they are all that was seen, as in most frames: detectors see something weak in every yard.
    `piles` keeps what other policies need as well, who judge this very frame.
    """
    if policy.scheduled:
        policy = policy.in_force(seen.at_us, seen.brightness)
    bench = bench_of(policy, seen.ensemble_info)
    if bench.saw_nothing(seen):
        return Judgement((), bench.undecided) if bench.undecided else NOTHING
    if not bench.says_no_by_silence(seen):
        return judge(policy, seen)
    groups: dict[str, list[_Group]] = {}
    for target, classes in policy.targets.items():
        if bench.hears(target, seen.answers):
            found = None if piles is None else piles.get(classes)
            if found is None:
                found = _groups(policy, seen, target, bench.models[target])
                if piles is not None:
                    piles[classes] = found
            heard = [group for group in found if bench.hears_thing(target, group)]
            if heard:
                groups[target] = heard
    return _judged(policy, seen, bench, groups) if groups else NOTHING


def without_known(policy: CameraPolicy, seen: Observation, judged: Judgement) -> Judgement:
    """The gist under a policy, given the one without its suppressions; where detectors say no by silence."""
    candidates = tuple([_unless_suppressed(policy, seen, candidate) for candidate in judged.candidates])
    if all(map(is_, candidates, judged.candidates)):
        return judged
    return Judgement(candidates, judged.undecided)


_Group = dict[str, Prediction]
"""Boxes that lie on one thing, by model."""


def _judged(policy: CameraPolicy, seen: Observation, bench: Bench, groups: Mapping[str, Sequence[_Group]]) -> Judgement:
    candidates: list[Candidate] = []
    undecided: list[tuple[str, str]] = []
    is_no = bench.says_no_by_silence(seen)
    for target, classes in policy.targets.items():
        models = bench.models[target]
        boxed = [_candidate(policy, seen, target, classes, models, group) for group in groups.get(target, ())]
        boxed = [_unless_suppressed(policy, seen, candidate) for candidate in boxed]
        candidates += boxed
        for sector in () if is_no else policy.sectors:
            if target not in sector.rules.targets:
                continue
            if any(c.present for c in boxed if sector.name in c.sectors):
                continue
            bare = _bare(policy, seen, sector, target, classes, models)
            if bare.ruling.verdict is Verdict.UNDECIDED:
                undecided.append((target, sector.name))
            elif bare.present:
                candidates.append(_unless_suppressed(policy, seen, bare))
    return Judgement(tuple(candidates), tuple(undecided))


def _groups(policy: CameraPolicy, seen: Observation, target: str, models: list[ModelInfo]) -> list[_Group]:
    """Boxes that lie on one thing, at most one of each model; the first model's boxes lead."""
    classes = policy.targets[target]
    found = [
        (model_info, prediction)
        for model_info in models
        if model_info.boxes
        for prediction in seen.answers.get(model_info.model) or ()
        if prediction.label in classes and prediction.box is not None
    ]
    groups: list[_Group] = []
    for model_info, prediction in found:
        best, fit = None, SAME_THING_IOU
        for group in groups:
            if model_info.model in group:
                continue
            for other in group.values():
                overlap = _fit(prediction.box, other.box)
                if overlap >= fit:
                    best, fit = group, overlap
        if best is None:
            groups.append({model_info.model: prediction})
        else:
            best[model_info.model] = prediction
    return groups


def _fit(a: Box | None, b: Box | None) -> float:
    """How well two boxes cover one thing: their IoU, or just enough when one lies mostly inside the other."""
    assert a is not None
    assert b is not None
    both = shared(a, b)
    if not both:
        return 0.0
    smaller, larger = area(a), area(b)
    if smaller > larger:
        smaller, larger = larger, smaller
    union = both / (smaller + larger - both)
    if union < SAME_THING_IOU and both / smaller >= SAME_THING_INSIDE:
        return SAME_THING_IOU if larger < 4 * smaller else 0.0
    return union


def _candidate(
    policy: CameraPolicy,
    seen: Observation,
    target: str,
    classes: frozenset[str],
    models: list[ModelInfo],
    group: _Group,
) -> Candidate:
    leader = next(iter(group.values()))
    assert leader.box is not None
    sectors = standing_in(policy, target, foot(leader.box))
    rules = (sectors[0].rules if sectors else policy.rules).of(target)
    fuse = rules.sensitivity.fuse
    votes: dict[str, Vote] = {}
    weaker: dict[str, Vote] = {}
    for model_info in models:
        least = rules.least(model_info.model)
        if model_info.boxes:
            prediction = group.get(model_info.model)
            score = prediction.score if prediction else 0.0
            votes[model_info.model] = _box_vote(seen, model_info, score, least)
            weaker[model_info.model] = _box_vote(seen, model_info, score, least * KEEP_RATIO)
        else:
            votes[model_info.model] = weaker[model_info.model] = _label_vote(seen, model_info, classes, least, sectors)
    return Candidate(
        target=target,
        sectors=tuple([s.name for s in sectors]),
        votes=votes,
        ruling=fuse(votes),
        kept=fuse(weaker).verdict is _PRESENT,
        score=max([s.score for s in group.values()]),
        box=leader.box,
    )


def _bare(
    policy: CameraPolicy,
    seen: Observation,
    sector: Sector,
    target: str,
    classes: frozenset[str],
    models: list[ModelInfo],
) -> Candidate:
    """The sector itself as the candidate: no box lies in it, so every detector that answered votes against."""
    rules = sector.rules.of(target)
    votes = {
        model_info.model: _box_vote(seen, model_info, 0.0, 1.0)
        if model_info.boxes
        else _label_vote(seen, model_info, classes, rules.least(model_info.model), [sector])
        for model_info in models
    }
    scores = [
        _label_score(seen, model_info, classes, [sector]) or 0.0
        for model_info in models
        if votes[model_info.model] is _FOR
    ]
    ruling = rules.sensitivity.fuse(votes)
    present = ruling.verdict is _PRESENT
    return Candidate(target, (sector.name,), votes, ruling, present, max(scores, default=0.0))


def _unless_suppressed(policy: CameraPolicy, seen: Observation, candidate: Candidate) -> Candidate:
    """The candidate, absent if it is present and a known nuisance; a sector without a box lies where its bounds are."""
    if not policy.suppressions or not candidate.present:
        return candidate
    box = candidate.box
    if box is None:
        box = next(s.bounds for s in policy.sectors if s.name == candidate.sectors[0])
    for known in policy.suppressions:
        if known.covers(policy.place, seen.at_us, candidate.target, box, candidate.score):
            ruling = replace(candidate.ruling, verdict=Verdict.ABSENT)
            return replace(candidate, ruling=ruling, suppressed=known.name)
    return candidate


def standing_in(policy: CameraPolicy, target: str, point: Point) -> list[Sector]:
    """The sectors of interest to `target` that hold this point."""
    return [s for s in policy.sectors if target in s.rules.targets and s.holds(point)]


def _box_vote(seen: Observation, model_info: ModelInfo, score: float, least: float) -> Vote:
    if seen.answers.get(model_info.model) is None:
        return _MISSING
    return _FOR if score > 0 and score >= least else _AGAINST


def _label_vote(
    seen: Observation, model_info: ModelInfo, classes: frozenset[str], least: float, sectors: list[Sector]
) -> Vote:
    """A classifier's vote: for when it gives the target's classes enough score in one of these sectors."""
    if seen.answers.get(model_info.model) is None:
        return _MISSING
    score = _label_score(seen, model_info, classes, sectors)
    if score is None:
        return _ABSTAIN
    return _FOR if score > 0 and score >= least else _AGAINST


def _label_score(
    seen: Observation, model_info: ModelInfo, classes: frozenset[str], sectors: list[Sector]
) -> float | None:
    """Summed score of the target's classes where these sectors were shown; None where the model was not asked."""
    shown = {s.sector for s in seen.answers.get(model_info.model) or ()}
    names = {s.name for s in sectors} & {name for name in shown if name is not None} or {None} & shown
    if not names:
        return None
    return max(
        sum(s.score for s in seen.answers.get(model_info.model) or () if s.sector == name and s.label in classes)
        for name in names
    )
