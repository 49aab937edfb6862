"""The arithmetic of one verdict, for a person: each model's vote and score, its limit, what it counts, and the sum.

`2 of 3 needed, 1 seen: nanodet-g .31, its limit is .35` under rules that count models. Under `weighted` the sum is one
of weights, under `evidence` one of log-odds. Under `agreement` a model that suffices by its score counts as two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
from msgspec import UNSET

from policies.fusion.judgement import Candidate
from policies.observation import Box, Observation
from policies.sensitivity import NEVER, Sensitivity
from policies.site.rules import Rules
from policies.site.site_policy import CameraPolicy
from server.analysis.explain.votes import Ballot, Weighing, weighing_of

Unit = Literal["models", "weight", "log-odds"]
_NOISE = 1e-6


class Line(msgspec.Struct, frozen=True):
    """One model's part. `limit` is the score from which it votes for (None: it has none to reach), `suffices_from` that
    from which it decides alone under `agreement`. `weight` is what its vote weighs (None: the rule has no weights) and
    `counts` what it gives to the sum; None where it does not count.
    """

    model: str
    vote: Literal["for", "against", "abstain", "missing"]
    score: float | None
    limit: float | None
    suffices_from: float | None
    weight: float | None
    counts: float | None
    words: str


class Arithmetic(msgspec.Struct, frozen=True):
    """A candidate's verdict and how it came about. `seen`, `needed` and `margin` are in `unit`; None: no model voted.

    `right`: under `evidence`, how many of 1 such sightings are right, and how many must be. `suppressed` names the
    known nuisance that it was taken for.
    """

    target: str
    sectors: tuple[str, ...]
    box: Box | None
    rule: str
    verdict: str
    unit: Unit
    seen: float | None
    needed: float | None
    margin: float | None
    right: tuple[float, float] | None
    suppressed: str | None
    sentence: str
    margin_in_words: str
    lines: tuple[Line, ...]


def arithmetic_of(policy: CameraPolicy, seen: Observation, candidate: Candidate) -> Arithmetic:
    """The arithmetic of a candidate of a frame; `policy` is that in force in the frame."""
    weighing = weighing_of(policy, seen, candidate)
    sectors = [sector for sector in policy.sectors if sector.name in candidate.sectors]
    rules = (sectors[0].rules if sectors else policy.rules).of(candidate.target)  # of the first sector it stands in
    given = rules.sensitivity
    lines = tuple(_lines(rules, weighing))
    return Arithmetic(
        target=candidate.target,
        sectors=candidate.sectors,
        box=candidate.box,
        rule=given.title,
        verdict=weighing.verdict,
        unit=_unit(given),
        seen=weighing.seen,
        needed=weighing.needed,
        margin=candidate.ruling.margin,
        right=None if weighing.right is UNSET else weighing.right,
        suppressed=candidate.suppressed,
        sentence=_sentence(given, weighing, lines),
        margin_in_words=_margin(given, candidate.ruling.margin),
        lines=lines,
    )


def nearest(arithmetics: Sequence[Arithmetic]) -> Arithmetic | None:
    """The one that came nearest to being present, or is."""
    return max(arithmetics, key=_nearness, default=None)


def _nearness(one: Arithmetic) -> tuple[bool, float, float]:
    best = max((line.score or 0.0 for line in one.lines), default=0.0)
    return one.verdict == "present", float("-inf") if one.margin is None else one.margin, best


def _unit(given: Sensitivity) -> Unit:
    return "log-odds" if given.by_evidence else "weight" if given.rule == "weighted" else "models"


def _lines(rules: Rules, weighing: Weighing) -> Iterator[Line]:
    given = rules.sensitivity
    no = {"against", "missing"} if given.missing == "fail_closed" else {"against"}
    against = {b.model for b in weighing.ballots if b.vote in no and given.opposes(b.model)}
    for ballot in weighing.ballots:
        alone = None
        if given.by_agreement:
            alone = given.suffices_from(ballot.model, ballot.least, is_unopposed=not against - {ballot.model})
            alone = alone if alone < NEVER else None
        votes = ballot.vote in ("for", "against")
        yield Line(
            model=ballot.model,
            vote=ballot.vote,  # type: ignore[arg-type]
            score=ballot.score,
            limit=ballot.least if votes else None,
            suffices_from=alone if votes else None,
            weight=given.weight(ballot.model) if _unit(given) != "models" else None,
            counts=_counts(given, ballot, alone),
            words=_words(given, ballot, alone),
        )


def _counts(given: Sensitivity, ballot: Ballot, alone: float | None) -> float | None:
    """What a model gives to the sum."""
    if given.by_evidence:
        return None if ballot.part is UNSET else ballot.part
    if ballot.vote == "abstain" or (ballot.vote == "missing" and given.missing == "abstain"):
        return None
    if ballot.vote == "missing":
        return _most(given, ballot.model) if given.missing == "fail_open" else 0.0
    if ballot.vote == "against":
        return 0.0
    if given.by_agreement:
        return 2.0 if alone is not None and (ballot.score or 0.0) >= alone else 1.0
    return _weight(given, ballot.model)


def _weight(given: Sensitivity, model: str) -> float:
    return given.weight(model) if given.rule == "weighted" else 1.0


def _most(given: Sensitivity, model: str) -> float:
    """What a model gives at best."""
    if given.by_agreement:
        return given.agreement_part(model, 1.0, 0.0, is_unopposed=True).most / 1000
    return _weight(given, model)


def _words(given: Sensitivity, ballot: Ballot, alone: float | None) -> str:
    """`nanodet-g .31, its limit is .35`."""
    if ballot.vote == "abstain":
        return f"{ballot.model} abstains"
    if ballot.vote == "missing":
        means = {"abstain": "does not count", "fail_open": "counts for", "fail_closed": "counts against"}
        return f"{ballot.model} did not answer and {means[given.missing]}"
    part = f" ({ballot.part:+.2f})" if ballot.part is not UNSET else ""
    if not ballot.score:
        return f"{ballot.model} {'saw nothing' if ballot.vote == 'against' else 'saw it'}{part}"
    score = f"{ballot.model} {score_text(ballot.score, ballot.least)}{part}"
    if ballot.vote == "against":
        return f"{score}, its limit is {_number(ballot.least)}"
    if not given.by_agreement:
        return score
    if alone is None:
        return f"{score}, which does not suffice alone"
    suffices = "suffices" if ballot.score >= alone else "would suffice"
    return f"{score}, which {suffices} alone from {_number(alone)} on"


def _sentence(given: Sensitivity, weighing: Weighing, lines: Sequence[Line]) -> str:
    """What was needed and seen, and whose votes it is about: of a present candidate those for, else those that lack."""
    if weighing.seen is None or weighing.needed is None:
        silent = [line.words for line in lines if line.vote == "missing"]
        return "; ".join(["no model voted", *silent])
    is_present = weighing.verdict == "present" or weighing.suppressed is not None
    named = [line for line in lines if (line.vote == "for") == is_present and line.vote != "abstain"]
    named.sort(key=lambda line: line.score or 0.0, reverse=True)
    if given.by_agreement and not is_present:  # one that votes for and does not suffice lacks something, too
        named = [*(line for line in lines if line.vote == "for"), *named]
    if given.by_evidence:
        named = [line for line in lines if line.counts is not None or line.vote == "missing"]
    whose = f": {'; '.join(line.words for line in named)}" if named else ""
    known = f"; taken for the known nuisance `{weighing.suppressed}`" if weighing.suppressed else ""
    return f"{_sum(given, weighing, lines)}{whose}{known}"


def _sum(given: Sensitivity, weighing: Weighing, lines: Sequence[Line]) -> str:
    assert weighing.seen is not None
    assert weighing.needed is not None
    if weighing.right is not UNSET:
        share, needed = weighing.right
        odds = f"log-odds of {weighing.needed:+.2f} needed, {weighing.seen:+.2f} seen"
        return f"{_number(needed)} of such sightings must be right, {_number(share)} are ({odds})"
    voters = [line for line in lines if line.counts is not None]
    if given.rule == "weighted":
        most = _number(sum(given.weight(line.model) for line in voters))
        return f"weight {_number(weighing.needed)} of {most} needed, {_number(weighing.seen)} seen"
    seen = sum(bool(line.counts) for line in voters)  # one that suffices alone is still one model
    of = f" of {len(voters)}" if len(voters) >= weighing.needed else ""
    return f"{_number(weighing.needed)}{of} needed, {seen} seen"


def _margin(given: Sensitivity, margin: float | None) -> str:
    if margin is None:
        return "no model voted: undecided"
    if given.by_evidence:
        return f"{score_text(abs(margin))} {'short' if margin < 0 else 'more than needed'}, in log-odds"
    what = "of weight" if given.rule == "weighted" else "model" if abs(margin) == 1 else "models"
    if abs(margin) < _NOISE:
        return "just enough: with one vote less it would not count"
    if given.by_agreement and margin > 0:
        return f"{_number(margin)} more than needed, where a model that suffices alone counts as two"
    return f"{_number(abs(margin))} {what} {'short' if margin < 0 else 'more than needed'}"


def score_text(score: float, limit: float = 0.0) -> str:
    """`.31`: two decimals, or as many more as show on which side of the limit it lies."""
    for decimals in (2, 3, 4):
        text = f"{score:.{decimals}f}"
        if (float(text) >= limit) == (score >= limit):
            break
    return text.removeprefix("0")


def _number(number: float) -> str:
    """`.35`, `2`, `1.5`."""
    text = f"{round(number, 6):g}"
    return text.removeprefix("0") if text.startswith("0.") else text
