"""Compare two lists of events of the same past, event by event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from policies.events import Event, microseconds
from server.domain.matching import fact_of, matched


@dataclass(frozen=True, slots=True)
class Pair:
    """The events of A and B that report the same fact."""

    a: Event
    b: Event

    @property
    def shift_s(self) -> float:
        """How much later the event of B is (s), exact to the microsecond."""
        return (microseconds(self.b.at) - microseconds(self.a.at)) / 1e6

    def as_wire(self) -> dict[str, Any]:
        return {"shift_s": self.shift_s, "a": self.a, "b": self.b}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Events of A and B: the same, shifted in time, otherwise different (in direction), or only in A or B."""

    same: tuple[Pair, ...]
    shifted: tuple[Pair, ...]
    otherwise: tuple[Pair, ...]
    only_a: tuple[Event, ...]
    only_b: tuple[Event, ...]

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return (*self.same, *self.shifted, *self.otherwise)

    @property
    def count_a(self) -> int:
        return len(self.pairs) + len(self.only_a)

    @property
    def count_b(self) -> int:
        return len(self.pairs) + len(self.only_b)

    @property
    def differ(self) -> int:
        """The number of facts that A and B do not report the same."""
        return len(self.shifted) + len(self.otherwise) + len(self.only_a) + len(self.only_b)

    def kinds(self) -> list[tuple[str, int, int, int, int]]:
        """Per kind of event: its count in A, in B, only in A, only in B; kinds in alphabetical order."""
        both = Counter(pair.a.kind for pair in self.pairs)
        a, b = Counter(e.kind for e in self.only_a), Counter(e.kind for e in self.only_b)
        return [(kind, both[kind] + a[kind], both[kind] + b[kind], a[kind], b[kind]) for kind in sorted(both | a | b)]

    def as_wire(self) -> dict[str, Any]:
        """For `--json`: counts, and every difference with its events in full."""
        return {
            "a": self.count_a,
            "b": self.count_b,
            "same": len(self.same),
            "differ": self.differ,
            "shifted": [pair.as_wire() for pair in self.shifted],
            "otherwise": [pair.as_wire() for pair in self.otherwise],
            "only_a": self.only_a,
            "only_b": self.only_b,
        }


def compared(a: Sequence[Event], b: Sequence[Event], more_s: float = 0.0) -> Comparison:
    """Match the events of A and B; each group is in order of time.

    Two events report the same fact if kind, place and label agree and their instants are no further apart than both
    uncertainties together plus `more_s`. Votes, margin and the instant of confirmation may differ.
    """
    facts_a, facts_b = [fact_of(e) for e in a], [fact_of(e) for e in b]
    pairs = matched(facts_a, facts_b, round(more_s * 1e6))
    both = sorted((Pair(a[i], b[j]) for i, j in pairs), key=lambda pair: _order(pair.a))
    in_a, in_b = {i for i, _ in pairs}, {j for _, j in pairs}
    return Comparison(
        same=tuple(p for p in both if not p.shift_s and p.a.direction == p.b.direction),
        shifted=tuple(p for p in both if p.shift_s),
        otherwise=tuple(p for p in both if not p.shift_s and p.a.direction != p.b.direction),
        only_a=tuple(sorted((e for i, e in enumerate(a) if i not in in_a), key=_order)),
        only_b=tuple(sorted((e for j, e in enumerate(b) if j not in in_b), key=_order)),
    )


def _order(event: Event) -> tuple[Any, ...]:
    return (event.at, event.site, event.camera, event.kind, event.id)
