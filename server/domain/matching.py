"""Whether two events tell the same fact: same kind, place and label, and times as close as their uncertainties
allow.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from policies.events import Event, microseconds

What = tuple[str | None, ...]


class Fact(NamedTuple):
    """What two events of one fact share (`what`), its instant, and the bound of the instant's error (us)."""

    what: What
    at_us: int
    slack_us: int
    direction: str | None = None


def fact_of(event: Event) -> Fact:
    place = (event.sector, event.from_sector, event.to_sector, event.line)
    what = (event.site, event.camera, event.kind, event.label, *place)
    return Fact(what, microseconds(event.at), round(event.time_uncertainty_s * 1e6), event.direction)


def matched(a: Sequence[Fact], b: Sequence[Fact], more_us: int = 0) -> list[tuple[int, int]]:
    """Pairs of indices into `a` and `b` of the same fact, each index at most once; nearest in time first.

    Two facts may be as far apart as the sum of their uncertainties plus `more_us`. Between equally near ones, an equal
    direction decides.
    """
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for *_, i, j in sorted(_near(a, b, more_us)):
        if i not in pairs and j not in taken:
            pairs[i] = j
            taken.add(j)
    return sorted(pairs.items())


def _near(a: Sequence[Fact], b: Sequence[Fact], more_us: int) -> Iterator[tuple[int, bool, int, int, int]]:
    """Every pair that may match, as a sort key that ends with the two indices."""
    by_what: dict[What, list[tuple[int, int]]] = defaultdict(list)
    for at_us, j in sorted((fact.at_us, j) for j, fact in enumerate(b)):
        by_what[b[j].what].append((at_us, j))
    widest_us = max((fact.slack_us for fact in b), default=0)
    for i, fact in enumerate(a):
        there = by_what.get(fact.what, [])
        reach_us = fact.slack_us + widest_us + more_us
        low = bisect_left(there, (fact.at_us - reach_us, -1))
        high = bisect_right(there, (fact.at_us + reach_us, len(b)))
        for at_us, j in there[low:high]:
            apart_us = abs(fact.at_us - at_us)
            if apart_us <= fact.slack_us + b[j].slack_us + more_us:
                yield apart_us, fact.direction != b[j].direction, fact.at_us, i, j
