"""How often models agree: for each target and each pair of models, their votes on the same candidates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from typing import NamedTuple

from policies.fusion.judgement import Judgement
from policies.sensitivity import Vote

HEADING = ("target", "model A", "model B", "both voted", "agree", "both for", "only A", "only B")

_COUNTED = (Vote.FOR, Vote.AGAINST)


class PairAgreement(NamedTuple):
    """How two models voted on the candidates of one target on which both voted for or against."""

    target: str
    a: str
    b: str
    both_for: int
    both_against: int
    only_a: int
    only_b: int

    @property
    def candidates(self) -> int:
        return self.both_for + self.both_against + self.only_a + self.only_b

    @property
    def share(self) -> float:
        """The share of the candidates on which both gave the same vote."""
        return (self.both_for + self.both_against) / self.candidates

    def cells(self) -> tuple[str, ...]:
        """The cells of a table with `HEADING`."""
        counts = (self.both_for, self.only_a, self.only_b)
        return (self.target, self.a, self.b, str(self.candidates), f"{self.share:.0%}", *map(str, counts))


def pair_agreements(judgements: Iterable[Judgement]) -> list[PairAgreement]:
    """One row for each target and pair of models that both voted on some candidate, in alphabetical order."""
    counts: Counter[tuple[str, str, str, Vote, Vote]] = Counter()
    for judgement in judgements:
        for candidate in judgement.candidates:
            cast = sorted((model, vote) for model, vote in candidate.votes.items() if vote in _COUNTED)
            counts.update((candidate.target, a, b, of_a, of_b) for (a, of_a), (b, of_b) in combinations(cast, 2))
    return [
        PairAgreement(
            *row,
            both_for=counts[*row, Vote.FOR, Vote.FOR],
            both_against=counts[*row, Vote.AGAINST, Vote.AGAINST],
            only_a=counts[*row, Vote.FOR, Vote.AGAINST],
            only_b=counts[*row, Vote.AGAINST, Vote.FOR],
        )
        for row in sorted({(target, a, b) for target, a, b, _, _ in counts})
    ]
