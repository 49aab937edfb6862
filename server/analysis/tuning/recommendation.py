"""Choose the best of the tried policies, estimate how certain the gain is, and put it in words.

A policy that misses more true facts than today's is never recommended. Of the others the cheapest wins, where a miss
costs as much as `miss_cost` false alarms. The choice uses the earlier part of the annotations; the later part, the
hold-out, only checks it. Too few annotations carry no recommendation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

from server.analysis.tuning.candidates import Candidate
from server.analysis.tuning.scoring import Outcome, Split, Tally

HELD_OUT = (0.2, 0.3, 0.5)
"""Share of the annotated facts, the latest, that the search does not see: least, best, most."""
FEW = 10
"""Fewer true or fewer false annotations than this carry no recommendation."""

_Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Trial:
    """A policy that was tried, and its outcome."""

    candidate: Candidate
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Advice:
    """Today's policy and the best policy (the same if nothing is better), with their outcomes.

    `cheaper` gives fewer false alarms for a few more misses, where a policy does. The hold-out begins at `split`.
    `days` is how long the stretch was watched. `false` events are annotated as false, `false_held` of them in the
    hold-out; `unjudged` events have no annotation.
    """

    today: Trial
    best: Trial
    cheaper: Trial | None
    tried: int
    split: Split
    days: float
    false: int
    false_held: int
    unjudged: int

    @property
    def is_change(self) -> bool:
        return self.best.candidate.changes != self.today.candidate.changes

    @property
    def is_recommended(self) -> bool:
        return self.is_change and self.holds and not self.rests_on_few

    @property
    def rests_on_few(self) -> bool:
        return min(self.today.outcome.tally().true, self.false) < FEW

    @property
    def holds(self) -> bool:
        """Whether the hold-out agrees: no more misses there, and no more false alarms, than under today's."""
        before, after = self.held_out
        return after.missed <= before.missed and after.alarms <= before.alarms

    @property
    def held_out(self) -> tuple[Tally, Tally]:
        return self.today.outcome.tally(self.split), self.best.outcome.tally(self.split)


def split_at(true: Sequence[int], false: Sequence[int]) -> Split:
    """Where the hold-out begins, given the instants (us) of the true and of the false facts, in order.

    Each list is cut at its longest pause near the wanted share, so that no visit lies on both sides.
    """
    return Split(_pause(true), _pause(false))


def _pause(instants: Sequence[int]) -> int:
    least, best, most = (round(len(instants) * (1 - share)) for share in HELD_OUT)
    places = range(max(1, most), min(least, len(instants) - 1) + 1)
    place = max(places, key=lambda i: (instants[i] - instants[i - 1], -abs(i - best)), default=0)
    return instants[place] if instants else 0


def best_of(trials: Sequence[Trial], split: Split, miss_cost: float) -> Trial:
    """The best trial by the part before `split`; the first of `trials` is today's. Fewest changes break ties."""
    today = trials[0].outcome.tally(until=split)

    def cost(trial: Trial) -> tuple[float, int, int]:
        tally = trial.outcome.tally(until=split)
        return miss_cost * tally.missed + tally.alarms, tally.missed, len(trial.candidate.changes)

    return min((trial for trial in trials if trial.outcome.tally(until=split).missed <= today.missed), key=cost)


def cheaper_than(best: Trial, trials: Sequence[Trial]) -> Trial | None:
    """The trial with the fewest misses among those with more misses and fewer false alarms than `best` over all."""
    had = best.outcome.tally()
    fewer = [
        (tally.missed, tally.alarms, i)
        for i, tally in enumerate(trial.outcome.tally() for trial in trials)
        if tally.alarms < had.alarms and tally.missed > had.missed
    ]
    return trials[min(fewer)[2]] if fewer else None


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share, given `hits` of `count` (Wilson 1927); 0..1 without any."""
    if not count:
        return 0.0, 1.0
    share, z2 = hits / count, _Z95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    reach = _Z95 * sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def words(advice: Advice, overruled: Sequence[str] = ()) -> Iterator[str]:
    """The recommendation for a person, a sentence a line."""
    before, after = advice.today.outcome.tally(), advice.best.outcome.tally()
    known = f"{before.true} true and {_counted(advice.false, 'false event')}"
    yield f"Tried {_counted(advice.tried, 'policy', 'policies')} on {known} of {_span(advice.days)}."
    if advice.unjudged:
        yield f"{_counted(advice.unjudged, 'more event')} there without an annotation: ignored."
    keeps = f"keeps {_of(before.kept, before.true)} and " if before.true else ""
    yield f"Today's policy {keeps}gives {_alarms(before.alarms, advice.days)}."
    if advice.is_change:
        yield from _change(before, after, advice)
        if overruled:
            yield f"It does not change {', '.join(overruled)}: they have settings of their own."
    else:
        yield "No policy is better: keep it."
    yield from _few(before, advice)
    yield from _elsewhere(after, advice)


def _change(before: Tally, after: Tally, advice: Advice) -> Iterator[str]:
    yield f"{_head(advice)}: {advice.best.candidate.words}."
    keeps = f"keeps {_of(after.kept, after.true)}, " if after.true else "gives "
    in_all = f"{advice.best.outcome.events} instead of {advice.today.outcome.events} events in all"
    yield f"It {keeps}{_instead(before.alarms, after.alarms, advice.days)}; {in_all}."
    gone = before.alarms - after.alarms
    sure = [f"keeps {_range(wilson(after.kept, after.true))} of such true events"] if after.true else []
    sure += [f"drops {_range(wilson(gone, before.alarms))} of the false ones"] if gone > 0 else []
    if sure:
        yield f"With 95 % confidence it {', and '.join(sure)},"
        yield "if events are independent (one person causes several, so the true intervals are wider)."
    if after.new:
        yield f"{after.new} of its false alarms are events that only this policy reports, so nobody has annotated them."
    yield from _held_out(advice)


def _head(advice: Advice) -> str:
    if advice.rests_on_few:
        return "Best so far, on too few annotations to recommend it"
    return "Recommended" if advice.holds else "Best on the earlier part, but not recommended (see below)"


def _few(before: Tally, advice: Advice) -> Iterator[str]:
    if not before.true:
        yield "No true event is annotated, so the misses of a stricter policy are unknown: annotate some."
    elif advice.rests_on_few:
        yield f"Fewer than {FEW} true or {FEW} false events are annotated: annotate more before you use this."


def _elsewhere(after: Tally, advice: Advice) -> Iterator[str]:
    """Other ways to fewer false alarms."""
    if advice.cheaper is not None and after.true:
        it = advice.cheaper.outcome.tally()
        more = _counted(it.missed - after.missed, "more true event")
        yield f"Fewer false alarms cost misses: {advice.cheaper.candidate.words} misses {more}, and gives {it.alarms}."
    if after.alarms:
        yield "`sectorwatch nuisances` finds what recurs at the same place and hour, and offers to suppress it."


def _held_out(advice: Advice) -> Iterator[str]:
    before, after = advice.held_out
    kept = f"{_of(after.kept, after.true)} (today: {before.kept}) and " if after.true else ""
    alarms = f"{after.alarms} instead of {_counted(before.alarms, 'false alarm')}"
    held = f"{before.true} true and {_counted(advice.false_held, 'false event')}"
    yield f"On the latest {held}, which the search did not see: {kept}{alarms}."
    if not advice.holds:
        yield "The gain does not hold there: annotate more, or look at each difference with `sectorwatch compare`."


def _of(kept: int, count: int) -> str:
    return f"all {count} true events" if kept == count > 1 else f"{kept} of {_counted(count, 'true event')}"


def _instead(before: int, after: int, days: float) -> str:
    return (
        f"{after} instead of {_counted(before, 'false alarm')} in {_span(days)}"
        if days < 1
        else f"{after / days:.3g} instead of {before / days:.3g} false alarms a day"
    )


def _alarms(count: int, days: float) -> str:
    return (
        f"{_counted(count, 'false alarm')} in {_span(days)}" if days < 1 else f"{count / days:.3g} false alarms a day"
    )


def _counted(count: int, singular: str, plural: str = "") -> str:
    return f"1 {singular}" if count == 1 else f"{count} {plural or f'{singular}s'}"


def _span(days: float) -> str:
    for unit, length in (("days", 1.0), ("hours", 1 / 24), ("minutes", 1 / 1440)):
        if days >= 2 * length:
            return f"{days / length:.3g} observed {unit}"
    return f"{days * 86400:.3g} observed seconds"


def _range(share: tuple[float, float]) -> str:
    return f"{share[0]:.0%} to {share[1]:.0%}"
