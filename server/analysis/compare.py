"""What two tellings of the same past have in common and where they differ, event by event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from policies.events import Event, microseconds
from server.domain.matching import fact_of, matched


@dataclass(frozen=True, slots=True)
class Pair:
    """One fact as A tells it and as B tells it."""

    a: Event
    b: Event

    @property
    def shift_s(self) -> float:
        """By how much later B puts it, in seconds; exact to the microsecond."""
        return (microseconds(self.b.at) - microseconds(self.a.at)) / 1e6

    def as_wire(self) -> dict[str, Any]:
        return {"shift_s": self.shift_s, "a": _wire(self.a), "b": _wire(self.b)}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Events of A and B: the same, shifted in time, told otherwise (another direction), or in one of them only."""

    same: tuple[Pair, ...]
    shifted: tuple[Pair, ...]
    otherwise: tuple[Pair, ...]
    only_a: tuple[Event, ...]
    only_b: tuple[Event, ...]

    @property
    def count_a(self) -> int:
        return len(self.same) + len(self.shifted) + len(self.otherwise) + len(self.only_a)

    @property
    def count_b(self) -> int:
        return len(self.same) + len(self.shifted) + len(self.otherwise) + len(self.only_b)

    @property
    def differ(self) -> int:
        """How many facts are not told the same."""
        return len(self.shifted) + len(self.otherwise) + len(self.only_a) + len(self.only_b)

    def kinds(self) -> list[tuple[str, int, int, int, int]]:
        """Per kind of event: its count in A, in B, only in A, only in B; kinds in alphabetical order."""
        both = Counter(pair.a.kind for pair in (*self.same, *self.shifted, *self.otherwise))
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
            "only_a": [_wire(event) for event in self.only_a],
            "only_b": [_wire(event) for event in self.only_b],
        }


def compared(a: Sequence[Event], b: Sequence[Event], more_s: float = 0.0) -> Comparison:
    """How the events of A and B relate; each in order of time.

    Two events tell one fact if kind, place and label are the same and their instants are no further apart than
    both uncertainties together (and `more_s` besides). Votes, margin and the instant of confirmation may
    differ in facts that are the same: other rules settle the same fact by other votes.
    """
    facts_a, facts_b = [fact_of(e) for e in a], [fact_of(e) for e in b]
    pairs = matched(facts_a, facts_b, round(more_s * 1e6))
    told = [Pair(a[i], b[j]) for i, j in pairs]
    in_a, in_b = {i for i, _ in pairs}, {j for _, j in pairs}
    shifted = [pair for pair in told if pair.shift_s]
    rest = [pair for pair in told if not pair.shift_s]
    return Comparison(
        same=tuple(_in_time([p for p in rest if p.a.direction == p.b.direction])),
        shifted=tuple(_in_time(shifted)),
        otherwise=tuple(_in_time([p for p in rest if p.a.direction != p.b.direction])),
        only_a=tuple(sorted((e for i, e in enumerate(a) if i not in in_a), key=_order)),
        only_b=tuple(sorted((e for j, e in enumerate(b) if j not in in_b), key=_order)),
    )


def _in_time(pairs: Sequence[Pair]) -> list[Pair]:
    return sorted(pairs, key=lambda pair: _order(pair.a))


def _order(event: Event) -> tuple[Any, ...]:
    return (event.at, event.site, event.camera, event.kind, event.id)


def _wire(event: Event) -> dict[str, Any]:
    wire: dict[str, Any] = msgspec.to_builtins(event)
    return wire
