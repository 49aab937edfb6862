"""A candidate of a frame in detail: each model's vote with its score, and what the sensitivity rule needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from msgspec import UNSET, UnsetType

from policies.calibration import share_of
from policies.fusion.judge import sectors_shown
from policies.fusion.judgement import Candidate
from policies.fusion.voters import voters_of
from policies.geometry import iou
from policies.observation import ModelInfo, Observation, Prediction
from policies.sensitivity import Vote
from policies.site.rules import Rules
from policies.site.sectors import Sector
from policies.site.site_policy import CameraPolicy


@dataclass(frozen=True, slots=True)
class Ballot:
    """One model's vote on a candidate, its score (None: it gave none), and the least score of a vote for.

    Under `evidence`, that is the score from which its sightings are rather right than wrong, and `part` is the model's
    part of the sum, in log-odds.
    """

    model: str
    vote: str
    score: float | None
    least: float
    part: float | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class Weighing:
    """A candidate in a frame: every vote, the verdict, and what was missing.

    `seen` is the support it had and `needed` what the rule requires, in models (in weight under `weighted`, in log-odds
    under `evidence`; one that suffices counts as two under `agreement`); None where no model voted. `right`, under
    `evidence`: how many of 1 such sightings are right, and how many must be. `suppressed` names the nuisance that it
    matched.
    """

    target: str
    sectors: tuple[str, ...]
    box: tuple[float, float, float, float] | None
    verdict: str
    suppressed: str | None
    seen: float | None
    needed: float | None
    ballots: tuple[Ballot, ...]
    right: tuple[float, float] | UnsetType = UNSET


def weighing_of(policy: CameraPolicy, seen: Observation, candidate: Candidate) -> Weighing:
    sectors = [s for s in policy.sectors if s.name in candidate.sectors]
    judged_by = sectors[0].rules if sectors else policy.rules  # those of the first sector it stands in
    rules = judged_by.of(candidate.target)
    classes = policy.targets.get(candidate.target, frozenset())
    support, given = _support(rules, candidate), rules.sensitivity
    margin = candidate.ruling.margin
    needed = None if margin is None else round(support - margin, 6)
    least_of = _least_of(rules, voters_of(policy, seen.ensemble_info).models.get(candidate.target, ()))
    return Weighing(
        target=candidate.target,
        sectors=candidate.sectors,
        box=candidate.box,
        verdict=candidate.ruling.verdict.value,
        suppressed=candidate.suppressed,
        seen=None if margin is None else support,
        needed=needed,
        ballots=tuple(
            _ballot(model, vote, _heard(seen.answers.get(model) or (), sectors), candidate, classes, least_of(model))
            for model, vote in candidate.votes.items()
        ),
        right=(share_of(1000 * support), given.share) if given.by_evidence and margin is not None else UNSET,
    )


def _least_of(rules: Rules, models: Iterable[ModelInfo]) -> Callable[[str], float]:
    """The score from which a model's vote is one for."""
    if not rules.sensitivity.by_evidence:
        return rules.least
    even = {info.model: info.calibrated.even for info in models if info.calibrated is not None}
    return lambda model: even.get(model, 1.0)


def _heard(answer: Sequence[Prediction], sectors: Sequence[Sector]) -> list[Prediction]:
    """The boxes of an answer, and those of its labels that judge these sectors."""
    shown = sectors_shown(answer, sectors)
    return [s for s in answer if s.box is not None or s.sector in shown]


def _ballot(
    model: str, vote: Vote, answer: Sequence[Prediction], candidate: Candidate, classes: frozenset[str], least: float
) -> Ballot:
    # If this vote is against, a box above the threshold is another candidate's; if it is for, a box below it is.
    boxed = [s for s in answer if s.box is not None and (s.score >= least) == (vote is Vote.FOR)]
    named = [s for s in answer if s.box is None]
    return Ballot(
        model, vote.value, _score([*boxed, *named], candidate, classes), least, candidate.parts.get(model, UNSET)
    )


def _support(rules: Rules, candidate: Candidate) -> float:
    given = rules.sensitivity
    if given.by_evidence:
        return round(sum(candidate.parts.values()), 3)
    if given.by_agreement:
        return (candidate.ruling.margin or 0.0) + given.needed(len(candidate.votes))
    counted = {Vote.FOR, Vote.MISSING} if given.missing == "fail_open" else {Vote.FOR}
    weight = given.weight if given.rule == "weighted" else (lambda _: 1.0)
    return round(sum(weight(model) for model, vote in candidate.votes.items() if vote in counted), 6)


def _score(answer: Sequence[Prediction], candidate: Candidate, classes: frozenset[str]) -> float | None:
    """The score that a model gave a candidate: that of its best box there, or of its labels for the sector."""
    mine = [s for s in answer if s.label in classes]
    named = [s.score for s in mine if s.box is None]
    box = candidate.box
    boxed = [] if box is None else [(iou(s.box, box), s.score) for s in mine if s.box is not None]
    shared, score = max(boxed, default=(0.0, 0.0))
    return score if shared > 0 else max(named, default=None)


def nearness(weighing: Weighing) -> tuple[float, float]:
    """A sort key for how near a candidate came to being present: its margin, then its best score."""
    margin = float("-inf") if weighing.seen is None or weighing.needed is None else weighing.seen - weighing.needed
    return margin, max((b.score or 0.0 for b in weighing.ballots), default=0.0)
