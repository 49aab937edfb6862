"""Which of the tried policies to take, how surely, and in words.

A policy is never recommended that misses more true facts than today's does. Among the others the cheapest wins,
where a miss costs as much as `miss_cost` false alarms. The choice is made on the earlier part of the past; the
later part, the hold-out, only judges it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

from server.past.candidates import Candidate
from server.past.outcome import Outcome, Tally

HELD_OUT = 0.3
"""Share of the judged facts, the latest, that the search does not see."""
FEW = 10
"""Fewer judged facts than this, true or false, carry no recommendation."""

_Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Trial:
    """A policy that was tried, and what came of it."""

    candidate: Candidate
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Advice:
    """Today's policy and the one to take instead (the same one: nothing better was found), with their tallies.

    `split_us` is where the hold-out begins; `days` is the length of the past that was looked at; `false` is how
    many events people judged false.
    """

    today: Trial
    best: Trial
    tried: int
    split_us: int
    days: float
    false: int

    @property
    def is_change(self) -> bool:
        return self.best.candidate.changes != self.today.candidate.changes

    @property
    def holds(self) -> bool:
        """Whether the hold-out agrees: no more misses there, and no more false alarms, than under today's."""
        before, after = self.held_out
        return after.missed <= before.missed and after.alarms <= before.alarms

    @property
    def held_out(self) -> tuple[Tally, Tally]:
        return self.today.outcome.tally(self.split_us), self.best.outcome.tally(self.split_us)


def split_at(instants: Sequence[int]) -> int:
    """The instant (us) from which on judged facts are held out."""
    return instants[min(len(instants) - 1, round(len(instants) * (1 - HELD_OUT)))]


def best_of(trials: Sequence[Trial], split_us: int, miss_cost: float) -> Trial:
    """The trial to take by the part before `split_us`; the first of `trials` is today's. Fewest changes break ties."""
    today = trials[0].outcome.tally(None, split_us)

    def cost(trial: Trial) -> tuple[float, int, int]:
        tally = trial.outcome.tally(None, split_us)
        return miss_cost * tally.missed + tally.alarms, tally.missed, len(trial.candidate.changes)

    allowed = [trial for trial in trials if trial.outcome.tally(None, split_us).missed <= today.missed]
    return min(allowed, key=cost)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of which `hits` of `count` were seen (Wilson 1927); all of 0..1 for none."""
    if not count:
        return 0.0, 1.0
    share, z2 = hits / count, _Z95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    reach = _Z95 * sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def words(advice: Advice, overruled: Sequence[str] = ()) -> Iterator[str]:
    """The recommendation for a person, a sentence a line."""
    before, after = advice.today.outcome.tally(), advice.best.outcome.tally()
    known = f"{before.true} true and {advice.false} false events"
    yield f"Tried {advice.tried} policies on {known} of {_span(advice.days)}."
    yield f"Today's policy keeps {_of(before.kept, before.true)} and gives {_alarms(before.alarms, advice.days)}."
    if not advice.is_change:
        yield "None of them is better: keep it."
        yield from _few(before, advice)
        return
    head = "Recommended" if advice.holds else "Best on the earlier part, but not recommended (see below)"
    yield f"{head}: {advice.best.candidate.words}."
    yield f"It keeps {_of(after.kept, after.true)}, {_instead(before.alarms, after.alarms, advice.days)}."
    gone = before.alarms - after.alarms
    drops = f", and drops {_range(wilson(gone, before.alarms))} of the false ones" if gone > 0 else ""
    yield f"With 95 % confidence it keeps {_range(wilson(after.kept, after.true))} of such true events{drops},"
    yield "as far as events do not depend on one another (one person makes several, so take it as the narrowest)."
    if after.new:
        yield f"{after.new} of its false alarms are events that only it tells and that nobody could judge yet."
    yield from _held_out(advice)
    yield from _few(before, advice)
    if overruled:
        yield f"It does not reach {', '.join(overruled)}: these are set there, and were left as they are."


def _few(before: Tally, advice: Advice) -> Iterator[str]:
    if min(before.true, advice.false) < FEW:
        yield f"Fewer than {FEW} true or {FEW} false events are annotated: annotate more before you trust this."


def _held_out(advice: Advice) -> Iterator[str]:
    before, after = advice.held_out
    kept = f"{_of(after.kept, after.true)} (today: {before.kept})"
    alarms = f"{after.alarms} instead of {before.alarms} false alarms"
    yield f"On the latest {HELD_OUT:.0%} of the annotations, which the search did not see: {kept} and {alarms}."
    if not advice.holds:
        yield "So the gain does not hold there: annotate more, or look at each difference before you take it."


def _of(kept: int, count: int) -> str:
    return f"all {count} true events" if kept == count else f"{kept} of {count} true events"


def _instead(before: int, after: int, days: float) -> str:
    if days < 1:
        return f"{after} instead of {before} false alarms in {_span(days)}"
    return f"{after / days:.3g} instead of {before / days:.3g} false alarms a day"


def _alarms(count: int, days: float) -> str:
    return f"{count} false alarms in {_span(days)}" if days < 1 else f"{count / days:.3g} false alarms a day"


def _span(days: float) -> str:
    for unit, length in (("days", 1.0), ("hours", 1 / 24), ("minutes", 1 / 1440)):
        if days >= 2 * length:
            return f"{days / length:.3g} {unit}"
    return f"{days * 86400:.3g} s"


def _range(share: tuple[float, float]) -> str:
    return f"{share[0]:.0%} to {share[1]:.0%}"
