"""What two policies give on the same past, side by side: misses, false alarms and events, all and of one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec

from policies.events import Event
from server.analysis.tuning.candidates import Place
from server.analysis.tuning.past import DAY_US, WITHIN_S
from server.analysis.tuning.scoring import Truth, outcome_of
from server.domain.matching import Fact

PLACE_FIELDS = slice(4, 7)
"""Where a fact has its sector, and the two sectors of `moved`."""


class Rate(NamedTuple):
    """What a count is divided by, and in which unit it is then."""

    per: float
    unit: str


def rate_of(observed_us: int) -> Rate:
    """A day of observed time; for less than a day, all of it."""
    days = max(observed_us, 1) / DAY_US
    return Rate(days, "a day") if days >= 1 else Rate(1.0, "in all")


class TriedCount(msgspec.Struct, frozen=True):
    """One policy's result. `true` facts are known, and `missed` of them not reported. `alarms` are the false ones,
    `new` of which only this policy reports. `alarms_rate` and `events_rate` are in the unit of the figures.
    """

    true: int
    missed: int
    alarms: int
    new: int
    events: int
    alarms_rate: float
    events_rate: float


class TriedPair(msgspec.Struct, frozen=True):
    """Today's policy and the changed one."""

    today: TriedCount
    changed: TriedCount


class TriedFigures(msgspec.Struct, frozen=True):
    """Both policies on a stretch: of the whole camera, as `sectorwatch tune` counts, and of the place alone.

    `unit` is `a day` (of observed time) or `in all`. `false` events are annotated as false; `unjudged` ones are not
    annotated, and what a policy reports in their place is no false alarm.
    """

    camera: TriedPair
    place: TriedPair
    unit: str
    observed_s: float
    false: int
    unjudged: int


def figures(
    truth: Truth, today: Sequence[Event], changed: Sequence[Event], place: Place, observed_us: int
) -> TriedFigures:
    """The outcomes of two policies' events. Of the place, what happened in its sector, and of its target, counts."""
    rate = rate_of(observed_us)
    here = replace(truth, true=_facts_at(truth.true, place), false=_facts_at(truth.false, place))

    def pair(known: Truth, before: Sequence[Event], after: Sequence[Event]) -> TriedPair:
        return TriedPair(_count(known, before, rate), _count(known, after, rate))

    return TriedFigures(
        pair(truth, today, changed),
        pair(here, events_at(today, place), events_at(changed, place)),
        rate.unit,
        observed_us / 1e6,
        len(truth.false),
        len(truth.unjudged),
    )


def until_now(truth: Truth, hours: Sequence[tuple[int, int]]) -> Truth:
    """What is known of the hours (us, from and to before) that are done."""

    def inside(facts: tuple[Fact, ...]) -> tuple[Fact, ...]:
        return tuple(fact for fact in facts if any(since <= fact.at_us < until for since, until in hours))

    return Truth(inside(truth.true), inside(truth.false), truth.unjudged)


def events_at(events: Sequence[Event], place: Place) -> list[Event]:
    """The events that happened in the place's sector, and of its target."""
    return [
        event
        for event in events
        if place.target in (None, event.label)
        and (place.sector is None or place.sector in (event.sector, event.from_sector, event.to_sector))
    ]


def _facts_at(facts: Sequence[Fact], place: Place) -> tuple[Fact, ...]:
    return tuple(
        fact
        for fact in facts
        if place.target in (None, fact.what[3]) and (place.sector is None or place.sector in fact.what[PLACE_FIELDS])
    )


def _count(truth: Truth, events: Sequence[Event], rate: Rate) -> TriedCount:
    tally = outcome_of(truth, events, WITHIN_S).tally()
    return TriedCount(
        tally.true,
        tally.missed,
        tally.alarms,
        tally.new,
        len(events),
        round(tally.alarms / rate.per, 3),
        round(len(events) / rate.per, 3),
    )
