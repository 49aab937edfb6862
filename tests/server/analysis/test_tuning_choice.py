"""Which of the policies that were tried is proposed: what it tells is counted, and none wins by chance."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.site.site_policy import parse_site_policy
from server.analysis.tuning.plots import frontier
from server.analysis.tuning.recommendation import Advice, best_of, cheaper_than, split_at, wilson, words
from server.analysis.tuning.scoring import Outcome, Split, Truth, outcome_of
from server.domain.matching import Fact
from tests.policies.stories import events_of, policy, walk
from tests.server.scenes import across


def test_of_policies_with_fewer_false_alarms_the_one_that_misses_least_is_named() -> None:
    today, some, many = trial([], [1, 2, 3], 0), trial([1], [1], 1), trial([1, 2], [], 1)
    assert cheaper_than(today, [today, some, many]) is some
    assert cheaper_than(many, [today, some, many]) is None
    advice = Advice(today, today, some, 3, Split(100, 100), 2.0, 3, 0, 0)
    assert "Fewer false alarms cost misses: some misses 1 more true event, and gives 1." in list(words(advice))
    assert "Today's policy keeps all 4 true events and gives 1.5 false alarms a day." in list(words(advice))


def fact(at_s: float, what: str = "entered") -> Fact:
    return Fact((what,), round(at_s * 1e6), 0)


def test_what_only_the_tried_policy_tells_is_a_false_alarm_and_what_nobody_judged_is_none() -> None:
    events = events_of(policy(), walk(across, 26))
    facts = [outcome_fact(event) for event in events]
    far = fact(facts[0].at_us / 1e6 - 3600)
    truth = Truth(true=(facts[0],), false=(facts[1],), unjudged=(far,))
    outcome = outcome_of(truth, [*events, events[0]], 0.0)
    tally = outcome.tally()
    assert (tally.kept, tally.missed, tally.false, tally.new) == (1, 0, 1, len(events) - 1)
    assert (tally.true, tally.alarms, outcome.events) == (1, len(events), len(events) + 1)
    assert outcome_of(truth, [], 0.0).tally().missed == 1


def test_what_is_told_in_place_of_what_nobody_judged_is_no_false_alarm() -> None:
    def seen(at_s: float, *what: str) -> Fact:
        return Fact(what, round(at_s * 1e6), 0)

    told_now = [e for e in events_of(policy(), walk(across, 26)) if e.kind == "entered"]
    there = outcome_fact(told_now[0])
    at_s = there.at_us / 1e6
    for other, false in [
        (seen(at_s + 9, "yard", "gate", "left", "person", "east"), 0),
        (seen(at_s - 9, "yard", "gate", "left", "person", "east"), 0),
        (seen(at_s + 11, "yard", "gate", "left", "person", "east"), 1),
        (seen(at_s, "yard", "dock", "entered", "person", "east"), 1),
        (seen(at_s, "yard", "gate", "entered", "vehicle", "east"), 1),
    ]:
        assert outcome_of(Truth((), (), (other,)), told_now[:1], 0.0).tally().new == false


def outcome_fact(event):  # type: ignore[no-untyped-def]
    from server.domain.matching import fact_of

    return fact_of(event)


def test_a_tally_may_be_of_a_part_of_the_time() -> None:
    outcome = Outcome(kept=(1, 5), missed=(6,), false=(2, 7), new=(8,))
    split = Split(true_us=5, false_us=7)
    assert (outcome.tally(until=split).kept, outcome.tally(split).kept, outcome.tally(split).alarms) == (1, 1, 2)
    assert outcome.tally(until=split).alarms == 1


def trial(missed_at: list[int], false_at: list[int], changes: int):  # type: ignore[no-untyped-def]
    from server.analysis.tuning.candidates import Candidate
    from server.analysis.tuning.recommendation import Trial

    given_changes = {("x", str(i)): i for i in range(changes)}
    outcome = Outcome(tuple({1, 2, 3, 4} - set(missed_at)), tuple(missed_at), tuple(false_at), ())
    return Trial(Candidate("some", given_changes, "", parse_site_policy('site = "yard"')), outcome)


def test_no_policy_is_chosen_that_misses_more_than_todays() -> None:
    today, deaf, good = trial([], [1, 2, 3], 0), trial([1], [], 1), trial([], [1], 2)
    assert best_of([today, deaf, good], Split(100, 100), miss_cost=0.1) is good


def test_the_choice_is_made_on_the_earlier_part_only() -> None:
    today, early, late = trial([], [1, 50], 0), trial([], [50], 1), trial([], [1], 1)
    assert best_of([today, early, late], Split(10, 10), miss_cost=10) is early


def test_of_equals_the_one_with_fewest_changes_is_chosen() -> None:
    today, same = trial([], [1], 0), trial([], [1], 3)
    assert best_of([today, same], Split(100, 100), miss_cost=10) is today


def test_the_latest_third_of_the_annotations_is_held_out() -> None:
    assert split_at(range(10), range(100, 120)) == Split(7, 114)
    assert split_at([5], []) == Split(5, 0)


def test_the_hold_out_begins_after_a_pause_so_that_no_visit_lies_on_both_sides() -> None:
    visits = [at + second for at in (0, 1000, 2000, 3000, 4000) for second in range(4)]
    assert split_at(visits, visits[:8]) == Split(3000, 1000)


@pytest.mark.parametrize(("hits", "count", "low", "high"), [(31, 31, 0.8897, 1), (5, 10, 0.2366, 0.7634), (0, 0, 0, 1)])
def test_wilsons_interval_is_the_published_one(hits: int, count: int, low: float, high: float) -> None:
    assert wilson(hits, count) == pytest.approx((low, high), abs=1e-4)


@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 20)), min_size=1, max_size=30))
def test_nothing_beats_the_frontier(points: list[tuple[int, float]]) -> None:
    best = frontier(points)
    line = sorted((points[i][1], points[i][0]) for i in best)
    assert all(a[1] > b[1] for a, b in pairwise(line))
    for misses, alarms in points:
        assert any(points[i][0] <= misses and points[i][1] <= alarms for i in best)
