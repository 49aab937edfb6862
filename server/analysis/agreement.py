"""How often models agree: for each target and each pair of models, their votes on the same candidates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from policies.events import Event
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


class Record(NamedTuple):
    """How a model voted on events that people judged: true ones, and false ones."""

    model: str
    true_for: int
    true_against: int
    false_for: int
    false_against: int
    silent: int
    """Events on which it abstained or did not answer."""

    @property
    def voted(self) -> int:
        return self.true_for + self.true_against + self.false_for + self.false_against

    @property
    def disagreed(self) -> int:
        """Votes against what people said: against a true event, or for a false one."""
        return self.true_against + self.false_for

    @property
    def share(self) -> float:
        """The share of its votes that people contradict; 0 without a vote."""
        return self.disagreed / self.voted if self.voted else 0.0


def pair_agreements(judgements: Iterable[Judgement]) -> list[PairAgreement]:
    """One row for each target and pair of models that both voted on some candidate, in alphabetical order."""
    return _agreements((each.target, each.votes) for judgement in judgements for each in judgement.candidates)


def event_agreements(events: Iterable[Event]) -> list[PairAgreement]:
    """The same of the votes that events keep: those of the frame with the best evidence."""
    return _agreements((event.label, event.votes) for event in events)


def records_of(judged: Sequence[tuple[bool, Mapping[str, str]]]) -> list[Record]:
    """How each model voted on events: whether each was true, and its votes. Who is contradicted most comes first."""
    counts = Counter((model, is_true, vote) for is_true, votes in judged for model, vote in votes.items())
    records = [
        Record(
            model,
            counts[model, True, Vote.FOR],
            counts[model, True, Vote.AGAINST],
            counts[model, False, Vote.FOR],
            counts[model, False, Vote.AGAINST],
            sum(counts[model, is_true, vote] for is_true in (True, False) for vote in (Vote.ABSTAIN, Vote.MISSING)),
        )
        for model in {model for model, _, _ in counts}
    ]
    return sorted(records, key=lambda record: (-record.share, -record.voted, record.model))


def _agreements(voted: Iterable[tuple[str, Mapping[str, str]]]) -> list[PairAgreement]:
    """Of targets with the votes on each of their candidates."""
    counts: Counter[tuple[str, str, str, str, str]] = Counter()
    for target, votes in voted:
        cast = sorted((model, vote) for model, vote in votes.items() if vote in _COUNTED)
        counts.update((target, a, b, of_a, of_b) for (a, of_a), (b, of_b) in combinations(cast, 2))
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
