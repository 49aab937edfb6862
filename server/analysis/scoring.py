"""What a policy would have done on a past that people annotated: what it keeps, what it misses, what is false.

Events that nobody judged count for nothing, nor does what a tried policy tells in their place. What only the tried
policy tells where all that the log has was judged is counted as a false alarm: had it been true, someone would have
noted it as missed.
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
"""So near an event that nobody judged, of the same camera and label, nobody looked: another policy tells such a thing
a little otherwise.
"""


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of a past: facts that were true, events that were false, and events that nobody judged."""

    true: tuple[Fact, ...]
    false: tuple[Fact, ...]
    unjudged: tuple[Fact, ...]

    def instants(self) -> tuple[list[int], list[int]]:
        """When the facts that were true, and those that were false, were (us), in order."""
        return sorted(fact.at_us for fact in self.true), sorted(fact.at_us for fact in self.false)


class Split(NamedTuple):
    """Where the later part of a past begins (us): of what was true, and of false alarms."""

    true_us: int
    false_us: int


BEGIN, END = Split(0, 0), Split(1 << 62, 1 << 62)


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts over one stretch: true facts kept and missed, false alarms told (`new` of them by this policy only)."""

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
    """What one policy did with each fact: instants (us) of the kept, the missed, the false and the new.

    `told` is how many events it tells in all.
    """

    kept: tuple[int, ...]
    missed: tuple[int, ...]
    false: tuple[int, ...]
    new: tuple[int, ...]
    told: int = 0

    def tally(self, since: Split = BEGIN, until: Split = END) -> Tally:
        """The counts from `since` to before `until`."""

        def count(instants: tuple[int, ...], low_us: int, high_us: int) -> int:
            return sum(low_us <= at_us < high_us for at_us in instants)

        true, false = zip(since, until, strict=True)
        return Tally(
            count(self.kept, *true), count(self.missed, *true), count(self.false, *false), count(self.new, *false)
        )


def truth_of(annotations: Iterable[Annotation], log: Iterable[Event], since_us: int, until_us: int) -> Truth:
    """What is known of a stretch: the annotations that count, and the log for what nobody judged."""
    here = [a for a in annotations if since_us <= a.at_us < until_us]
    judged = {a.subject for a in here if a.truth != "unsure"}
    return Truth(
        true=tuple(fact_of_annotation(a) for a in here if a.truth in ("true", "missed")),
        false=tuple(fact_of_annotation(a) for a in here if a.truth == "false" and a.is_told),
        unjudged=tuple(fact_of(event) for event in log if event.id not in judged),
    )


def outcome_of(truth: Truth, events: Sequence[Event], within_s: float) -> Outcome:
    """What `events` make of what is known; an event tells a fact that is `within_s` nearer than both admit."""
    known = (*truth.true, *truth.false, *truth.unjudged)
    told = [fact_of(event) for event in events]
    pairs = matched(known, told, round(within_s * 1e6))
    hit, used = {i for i, _ in pairs}, {j for _, j in pairs}
    is_unjudged = _near(truth.unjudged)
    count = len(truth.true)
    false = range(count, count + len(truth.false))
    return Outcome(
        kept=tuple(fact.at_us for i, fact in enumerate(truth.true) if i in hit),
        missed=tuple(fact.at_us for i, fact in enumerate(truth.true) if i not in hit),
        false=tuple(known[i].at_us for i in false if i in hit),
        new=tuple(fact.at_us for j, fact in enumerate(told) if j not in used and not is_unjudged(fact)),
        told=len(told),
    )


def _near(facts: Iterable[Fact]) -> Callable[[Fact], bool]:
    """Tells whether a fact lies near one of these, whatever both are of one camera and label."""
    instants: dict[tuple[str | None, ...], list[int]] = defaultdict(list)
    for fact in sorted(facts, key=lambda fact: fact.at_us):
        instants[_seen_by(fact)].append(fact.at_us)

    def is_near(fact: Fact) -> bool:
        there = instants.get(_seen_by(fact), [])
        place = bisect_left(there, fact.at_us - _UNJUDGED_US)
        return place < len(there) and there[place] <= fact.at_us + _UNJUDGED_US

    return is_near


def _seen_by(fact: Fact) -> tuple[str | None, ...]:
    """Site, camera and label."""
    return (*fact.what[:2], *fact.what[3:4])
