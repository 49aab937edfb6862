"""Few checkpoints are kept, and still every late burst finds one not far before it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.domain.folding.checkpoints import CheckpointThinner, octave, thin_before, to_prune
from server.domain.times.clock import SECOND_US

HOUR_US = 3600 * SECOND_US
DAY_US = 24 * HOUR_US


def test_ages_fall_into_octaves_of_seconds() -> None:
    ages_s = [0, 0.9, 1, 1.9, 2, 3.9, 4, 1000]
    assert [octave(round(age * SECOND_US)) for age in ages_s] == [0, 0, 1, 1, 2, 2, 3, 10]
    assert octave(-5) == 0


@given(st.lists(st.floats(0.1, 600), min_size=1, max_size=300))
def test_after_any_number_of_bursts_the_checkpoint_before_any_age_is_not_far_older(gaps_s: list[float]) -> None:
    kept: list[int] = []
    now = 0
    for gap_s in gaps_s:
        now += round(gap_s * SECOND_US)
        kept.append(now)
        dropped = set(to_prune(kept, now))
        kept = [at for at in kept if at not in dropped]
    longest = round(max(gaps_s) * SECOND_US)
    first = round(gaps_s[0] * SECOND_US)
    assert len(kept) <= 2 * (octave(HOUR_US) + 1) + now // (HOUR_US // 2) + 1
    for age in (longest << n for n in range(20)):
        if now - age > first:
            nearest = max(at for at in kept if at < now - age)
            assert now - nearest <= min(5 * age, age + HOUR_US) + longest


def test_a_trail_keeps_a_state_of_each_half_hour_for_a_week_and_then_one_of_each_six_hours() -> None:
    newest = 60 * DAY_US
    thinner = CheckpointThinner[int](newest)
    for at in range(0, newest + 1, 100 * SECOND_US):
        thinner.add(at, at)
    states = thinner.states()
    assert states[newest] == newest
    assert all(at == state for at, state in states.items())
    assert [at for at in states if at <= newest - 7 * DAY_US] == list(range(0, newest - 7 * DAY_US + 1, 6 * HOUR_US))
    week = [at for at in states if newest - 7 * DAY_US < at < newest - HOUR_US]
    assert [at // (HOUR_US // 2) for at in week] == list(
        range((newest - 7 * DAY_US) // (HOUR_US // 2), newest // (HOUR_US // 2) - 2)
    )
    assert len([at for at in states if at >= newest - HOUR_US]) <= 2 * 12 + 3


def test_what_is_thin_for_good_need_not_be_looked_at_again() -> None:
    before, now = 20 * DAY_US, 25 * DAY_US
    kept = set(range(0, before + 1, 100 * SECOND_US))
    kept -= set(to_prune(kept, before))
    kept |= set(range(before, now + 1, 100 * SECOND_US))
    recent = [at for at in kept if at >= thin_before(before)]
    assert to_prune(recent, now) == to_prune(kept, now)
    assert len(recent) < len(kept)


def test_thinning_what_is_thin_drops_nothing() -> None:
    instants = [n * SECOND_US for n in range(500)]
    dropped = set(to_prune(instants, instants[-1]))
    assert to_prune([at for at in instants if at not in dropped], instants[-1]) == []
