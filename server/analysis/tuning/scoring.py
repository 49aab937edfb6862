"""Score a policy on an annotated past: the true facts it keeps and misses, and its false alarms.

Events without an annotation are ignored, and so is what a tried policy reports in their place. An event that only the
tried policy reports, where every logged event is annotated, is a false alarm: a true one would have been annotated as
missed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from policies.events import Event
from server.analysis.annotations import fact_of as fact_of_annotation
from server.domain.matching import Fact, fact_of, matched
from server.domain.records import Annotation

_UNJUDGED_US = 10_000_000
"""An event this near to an event without an annotation, of the same camera and label, is also ignored: another policy
reports the same happening with other times or kinds.
"""


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of a stretch: true facts, false events, and events without an annotation."""

    true: tuple[Fact, ...]
    false: tuple[Fact, ...]
    unjudged: tuple[Fact, ...]

    def instants(self) -> tuple[list[int], list[int]]:
        """The instants (us) of the true and of the false facts, each in order."""
        return sorted(fact.at_us for fact in self.true), sorted(fact.at_us for fact in self.false)


class Split(NamedTuple):
    """Where the later part of a stretch begins (us), for true facts and for false alarms."""

    true_us: int
    false_us: int


BEGIN, END = Split(0, 0), Split(1 << 62, 1 << 62)


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts over one stretch: true facts kept and missed, known false alarms repeated, and new ones of this policy."""

    kept: int
    missed: int
    false: int
    new: int

    @property
    def true(self) -> int:
        return self.kept + self.missed

    @property
    def alarms(self) -> int:
        """All false alarms, known and new."""
        return self.false + self.new


@dataclass(frozen=True, slots=True)
class Outcome:
    """One policy's result: instants (us) of the kept, missed, false and new facts, and the number of its events."""

    kept: tuple[int, ...]
    missed: tuple[int, ...]
    false: tuple[int, ...]
    new: tuple[int, ...]
    events: int = 0

    def tally(self, since: Split = BEGIN, until: Split = END) -> Tally:
        """The counts from `since` to before `until`."""

        def count(instants: tuple[int, ...], low_us: int, high_us: int) -> int:
            return sum(low_us <= at_us < high_us for at_us in instants)

        true, false = zip(since, until, strict=True)
        return Tally(
            count(self.kept, *true), count(self.missed, *true), count(self.false, *false), count(self.new, *false)
        )


def truth_of(annotations: Iterable[Annotation], log: Iterable[Event], since_us: int, until_us: int) -> Truth:
    """What the annotations and the log say of a stretch."""
    here = [a for a in annotations if since_us <= a.at_us < until_us]
    judged = {a.subject for a in here if a.truth != "unsure"}
    return Truth(
        true=tuple(fact_of_annotation(a) for a in here if a.truth in ("true", "missed")),
        false=tuple(fact_of_annotation(a) for a in here if a.truth == "false" and a.is_told),
        unjudged=tuple(fact_of(event) for event in log if event.id not in judged),
    )


def outcome_of(truth: Truth, events: Sequence[Event], within_s: float) -> Outcome:
    """How `events` match the truth; their times may differ by both uncertainties and `within_s` besides."""
    known = (*truth.true, *truth.false, *truth.unjudged)
    facts = [fact_of(event) for event in events]
    pairs = matched(known, facts, round(within_s * 1e6))
    hit, used = {i for i, _ in pairs}, {j for _, j in pairs}
    is_unjudged = _near(truth.unjudged)
    count = len(truth.true)
    false = range(count, count + len(truth.false))
    return Outcome(
        kept=tuple(fact.at_us for i, fact in enumerate(truth.true) if i in hit),
        missed=tuple(fact.at_us for i, fact in enumerate(truth.true) if i not in hit),
        false=tuple(known[i].at_us for i in false if i in hit),
        new=tuple(fact.at_us for j, fact in enumerate(facts) if j not in used and not is_unjudged(fact)),
        events=len(facts),
    )


def _near(facts: Iterable[Fact]) -> Callable[[Fact], bool]:
    """A test whether a fact lies near one of these of the same camera and label, whatever its kind and place."""
    instants: dict[tuple[str | None, ...], list[int]] = defaultdict(list)
    for fact in sorted(facts, key=lambda fact: fact.at_us):
        instants[_origin(fact)].append(fact.at_us)

    def is_near(fact: Fact) -> bool:
        there = instants.get(_origin(fact), [])
        place = bisect_left(there, fact.at_us - _UNJUDGED_US)
        return place < len(there) and there[place] <= fact.at_us + _UNJUDGED_US

    return is_near


def _origin(fact: Fact) -> tuple[str | None, ...]:
    """Site, camera and label."""
    return (*fact.what[:2], *fact.what[3:4])
