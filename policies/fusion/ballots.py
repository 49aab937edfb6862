"""What the models' scores for one candidate come to: their votes, the ruling, and whether it may continue a track.

What a score counts depends only on which of a few levels it reaches, and models are few. So each ballot is worked out
once, and looked up for every other candidate of a replay that reaches the same levels.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from policies.calibration import Part
from policies.observation import ModelInfo, Prediction
from policies.sensitivity import Ruling, Verdict, Vote
from policies.site.rules import Rules

KEEP_RATIO = 0.43
"""By this part of the minimum scores a track goes on."""

_FOR, _AGAINST, _ABSTAIN, _MISSING = Vote

Answers = Mapping[str, tuple[Prediction, ...] | None]


class Ballot(NamedTuple):
    """The votes by model, what they decide, whether they are enough to continue a track, and under `evidence` the
    models' parts of the sum in log-odds.
    """

    votes: dict[str, Vote]
    ruling: Ruling
    kept: bool
    parts: dict[str, float]


class Ballots:
    """The ballots of some models on one target, by the rules of one place for that target."""

    def __init__(self, rules: Rules, models: Sequence[ModelInfo]) -> None:
        self._rules = rules
        self._models = models
        self._levels = [(info.model, _levels(rules, info)) for info in models]
        self._known: dict[tuple[int, ...], Ballot] = {}

    def of(self, answers: Answers, scores: Sequence[float | None]) -> Ballot:
        """The ballot of these scores, one for each model: 0 where it saw nothing, None where it was not asked."""
        reached = tuple([self._level(answers, *each) for each in zip(self._levels, scores, strict=True)])
        ballot = self._known.get(reached)
        if ballot is None:
            ballot = self._known[reached] = self._counted(answers, scores)
        return ballot

    @staticmethod
    def _level(answers: Answers, of_model: tuple[str, list[float]], score: float | None) -> int:
        """What a score counts as: the number of levels that it reaches, and one; less where there is none."""
        model, levels = of_model
        if answers.get(model) is None:
            return -2
        if score is None:
            return -1
        return 1 + bisect_right(levels, score) if score > 0 else 0

    def _counted(self, answers: Answers, scores: Sequence[float | None]) -> Ballot:
        heard = {info.model: score for info, score in zip(self._models, scores, strict=True)}
        rules, sensitivity = self._rules, self._rules.sensitivity
        if sensitivity.by_evidence:
            votes, parts = _calibrated_votes(answers, self._models, heard)
            ruling = sensitivity.fuse(votes, parts)
            weighed = sensitivity.weighed(votes, parts)
            in_log_odds = {model: part / 1000 for model, part in weighed.items()}
            return Ballot(votes, ruling, sensitivity.keeps(ruling), in_log_odds)
        votes, parts = _votes(rules, answers, heard, 1.0)
        kept = sensitivity.fuse(*_votes(rules, answers, heard, KEEP_RATIO)).verdict is Verdict.PRESENT
        return Ballot(votes, sensitivity.fuse(votes, parts), kept, {})


def _levels(rules: Rules, info: ModelInfo) -> list[float]:
    """The scores of a model from which on it counts in another way, in order."""
    given, least = rules.sensitivity, rules.least(info.model)
    if given.by_evidence:
        return [] if info.calibrated is None else sorted({*info.calibrated.levels, info.calibrated.even})
    scores = {least}
    if given.by_agreement:
        scores |= {given.suffices_from(info.model, least, is_unopposed=alone) for alone in (False, True)}
    return sorted({score * ratio for score in scores for ratio in (1.0, KEEP_RATIO)})


def _votes(
    rules: Rules, answers: Answers, heard: Mapping[str, float | None], ratio: float
) -> tuple[dict[str, Vote], dict[str, Part]]:
    """The models' votes by `ratio` of the minimum scores and, under `agreement`, what each model's score counts."""
    given = rules.sensitivity
    votes = {model: _vote(answers, model, score, rules.least(model) * ratio) for model, score in heard.items()}
    if not given.by_agreement:
        return votes, {}
    no = {_AGAINST, _MISSING} if given.missing == "fail_closed" else {_AGAINST}
    against = {model for model, vote in votes.items() if vote in no and given.opposes(model)}
    return votes, {
        model: given.agreement_part(
            model, heard[model] or 0.0, rules.least(model), ratio, is_unopposed=not against - {model}
        )
        for model, vote in votes.items()
        if vote is not _ABSTAIN
    }


def _calibrated_votes(
    answers: Answers, models: Sequence[ModelInfo], heard: Mapping[str, float | None]
) -> tuple[dict[str, Vote], dict[str, Part]]:
    """Under `evidence`: what each model's score is worth, and whether it is rather right than wrong."""
    votes: dict[str, Vote] = {}
    parts: dict[str, Part] = {}
    for info in models:
        model, score = info.model, heard[info.model]
        if info.calibrated is None:
            votes[model] = _vote(answers, model, None, 1.0)
        else:
            votes[model] = _vote(answers, model, score, info.calibrated.even)
            if votes[model] is not _ABSTAIN:
                parts[model] = info.calibrated.part(score or 0.0)
    return votes, parts


def _vote(answers: Answers, model: str, score: float | None, least: float) -> Vote:
    """The vote of a model whose score is None where it was not asked, and 0 where it saw nothing."""
    if answers.get(model) is None:
        return _MISSING
    if score is None:
        return _ABSTAIN
    return _FOR if score > 0 and score >= least else _AGAINST
