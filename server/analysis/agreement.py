"""How far each model can be trusted, from nothing but how they agree: Dawid and Skene's estimate.

Dawid, Skene (1979): Maximum likelihood estimation of observer error-rates using the EM algorithm, Applied
Statistics 28. Here with two classes (there, not there) and votes for and against; a model that abstained or did not
answer says nothing. Equal vote patterns are counted together, so that the size of the past does not matter. Needs
three models at least, and that they err independently: models that err together look better than they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import log, prod

from policies.fusion.judgement import Judgement
from policies.sensitivity import Vote

Pattern = tuple[bool | None, ...]
"""One candidate's votes in the order of the models: for, against, or nothing said."""

FEWEST_MODELS = 3
_ROUNDS = 500
_STILL = 1e-9
_PRIOR = 1.0
"""Imaginary votes of each sort for every model (Laplace), so that no rate becomes 0 or 1."""
_TELLS = 1.0
"""Least log-odds weight of a model that tells anything (its vote for makes 2.7 times the odds of its vote against)."""
_TOGETHER = 0.15
"""Agreement beyond what independent models would show by chance, from which on two are told as erring together."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """Of one model: how often it votes for what is there, and for what is not; its weight as a log-odds."""

    model: str
    hits: float
    false: float

    @property
    def weight(self) -> float:
        """What its vote for says beyond its vote against, in natural log-odds; 0 for one that knows nothing."""
        return max(0.0, log(self.hits / self.false) - log((1 - self.hits) / (1 - self.false)))


@dataclass(frozen=True, slots=True)
class Estimate:
    """Every model's reliability, the share of candidates that are real, and pairs that err together."""

    models: tuple[Reliability, ...]
    share: float
    candidates: int
    together: tuple[tuple[str, str], ...]

    @property
    def trust(self) -> str:
        """How far to believe this, in a sentence."""
        if len(self.models) < FEWEST_MODELS:
            return f"Not at all: {FEWEST_MODELS} models at least are needed to tell who errs."
        if sum(one.weight >= _TELLS for one in self.models) < FEWEST_MODELS:
            return f"Not at all: fewer than {FEWEST_MODELS} of the models tell anything, and so many are needed."
        if self.together:
            pairs = ", ".join(" and ".join(pair) for pair in self.together)
            return f"Little: {pairs} agree more than independent models would, so they look better than they are."
        if self.candidates < 200:
            return f"Little: {self.candidates} candidates are few."
        return "Somewhat: it assumes that models err independently, and ten annotated events are worth more."

    @property
    def threshold(self) -> float | None:
        """The sum of weights from which a candidate that all models voted on is likelier real than not.

        None where no such rule can be: where it would take none of the votes, or more than there are.
        """
        telling = [one for one in self.models if one.weight > 0]
        needed = -log(self.share / (1 - self.share)) - sum(log((1 - m.hits) / (1 - m.false)) for m in telling)
        return needed if 0.005 <= needed <= sum(one.weight for one in telling) else None

    def likely(self, pattern: Pattern) -> float:
        """The probability that a candidate with these votes is real."""
        there = self.share * _odds(pattern, [m.hits for m in self.models])
        nothing = (1 - self.share) * _odds(pattern, [m.false for m in self.models])
        return there / (there + nothing)


def patterns_of(judgements: Iterable[Judgement], models: Sequence[str]) -> Counter[Pattern]:
    """How often each vote pattern occurs among all candidates."""
    said = {Vote.FOR: True, Vote.AGAINST: False}
    return Counter(
        tuple(said.get(candidate.votes[model]) if model in candidate.votes else None for model in models)
        for judgement in judgements
        for candidate in judgement.candidates
    )


def estimated(patterns: Mapping[Pattern, int], models: Sequence[str]) -> Estimate:
    """The reliability of `models` from their votes; a pattern nobody voted for anything in is left out.

    Of the two mirror-image solutions the one is taken in which the models are, on the whole, right.
    """
    voted = {p: n for p, n in patterns.items() if any(v is not None for v in p)}
    real = {p: sum(v is True for v in p) / sum(v is not None for v in p) for p in voted}
    share, hits, false = 0.5, [0.5] * len(models), [0.5] * len(models)
    for _ in range(_ROUNDS):
        before = [share, *hits, *false]
        share = _rate(sum(real[p] * n for p, n in voted.items()), sum(voted.values()))
        hits = [_votes(voted, real, i) for i in range(len(models))]
        false = [_votes(voted, {p: 1 - r for p, r in real.items()}, i) for i in range(len(models))]
        for p in voted:
            there, nothing = share * _odds(p, hits), (1 - share) * _odds(p, false)
            real[p] = there / (there + nothing)
        if max(abs(a - b) for a, b in zip(before, [share, *hits, *false], strict=True)) < _STILL:
            break
    found = tuple(Reliability(model, h, f) for model, h, f in zip(models, hits, false, strict=True))
    return Estimate(found, share, sum(voted.values()), tuple(_together(voted, real, found)))


def _votes(voted: Mapping[Pattern, int], weight: Mapping[Pattern, float], model: int) -> float:
    """The share of a model's votes that were for, each candidate counted by `weight`."""
    cast = [(p[model], weight[p] * n) for p, n in voted.items() if p[model] is not None]
    return _rate(sum(w for vote, w in cast if vote), sum(w for _, w in cast))


def _rate(part: float, whole: float) -> float:
    return (part + _PRIOR) / (whole + 2 * _PRIOR)


def _odds(pattern: Pattern, rates: Sequence[float]) -> float:
    return prod(rate if vote else 1 - rate for vote, rate in zip(pattern, rates, strict=True) if vote is not None)


def _together(
    voted: Mapping[Pattern, int], real: Mapping[Pattern, float], models: Sequence[Reliability]
) -> list[tuple[str, str]]:
    """Pairs of models that agree more than they would if each erred for itself."""
    found = []
    for i, j in combinations(range(len(models)), 2):
        both = {p: n for p, n in voted.items() if p[i] is not None and p[j] is not None}
        count = sum(both.values())
        agreed = sum(n for p, n in both.items() if p[i] == p[j])
        a, b = models[i], models[j]
        there = a.hits * b.hits + (1 - a.hits) * (1 - b.hits)
        nothing = a.false * b.false + (1 - a.false) * (1 - b.false)
        expected = sum(n * (real[p] * there + (1 - real[p]) * nothing) for p, n in both.items())
        if count and (agreed - expected) / count > _TOGETHER:
            found.append((a.model, b.model))
    return found
