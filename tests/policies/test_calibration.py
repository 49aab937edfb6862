"""What scores are worth: tables of shares, and log-odds that are the same on every machine."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.calibration import Calibration, Part, Row, fault_of, log_odds, share_of

ROWS = ((0.0, 0.25), (0.1, 0.4), (0.3, 0.75), (0.6, 0.9))


def test_no_share_of_three_decimals_has_log_odds_that_another_logarithm_could_round_otherwise():
    exact = [1000 * math.log(k / (1000 - k)) for k in range(1, 1000)]
    assert min(abs(abs(each - round(each)) - 0.5) for each in exact) > 0.001
    assert [log_odds(k / 1000) for k in range(1, 1000)] == [round(each) for each in exact]


def test_log_odds_are_thousandths_and_mirrored_around_even():
    assert [log_odds(right) for right in (0.1, 0.5, 0.75, 0.9)] == [-2197, 0, 1099, 2197]


@given(st.integers(1, 999))
def test_a_share_comes_back_from_its_log_odds(thousandth):
    assert share_of(log_odds(thousandth / 1000)) == thousandth / 1000


@pytest.mark.parametrize(
    ("score", "right"), [(0.0, 0.25), (0.05, 0.25), (0.1, 0.4), (0.29, 0.4), (0.3, 0.75), (0.6, 0.9), (1.0, 0.9)]
)
def test_a_score_is_worth_the_last_row_that_it_reaches(score, right):
    assert Calibration(ROWS).part(score) == Part(log_odds(right), log_odds(0.25), log_odds(0.9))


def test_a_sighting_is_rather_right_than_wrong_from_the_first_row_above_a_half():
    assert Calibration(ROWS).even == 0.3


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ((), "rows [score, right]"),
        (((0.0, 0.5),), "rows [score, right]"),
        (tuple((i / 30, 0.2 + i / 50) for i in range(21)), "rows [score, right]"),
        (((0.1, 0.5), (0.2, 0.6)), "begins with the score 0"),
        (((0.0, 0.5), (1.5, 0.6)), "no score is above 1"),
        (((0.0, 0.2), (0.4, 0.5), (0.4, 0.6)), "above the one before"),
        (((0.0, 0.2), (0.4, 0.6), (0.5, 0.55)), "no share below the one before"),
        (((0.0, 0.2), (0.4, 1.0)), "between 0.001 and 0.999"),
        (((0.0, 0.0), (0.4, 0.9)), "between 0.001 and 0.999"),
        (((0.0, 0.2), (0.4, 0.9876)), "three decimals"),
        (((0.0, 0.6), (0.4, 0.9)), "begins with 0.5 at most"),
        (((0.0, 0.2), (0.4, 0.5)), "ends above 0.5"),
        (((0.0, math.nan), (0.4, 0.9)), "no share below the one before"),
    ],
)
def test_rows_that_are_no_calibration_are_refused_with_the_reason(rows, why):
    assert why in (fault_of(rows) or "")


@st.composite
def calibrations(draw: st.DrawFn) -> tuple[Row, ...]:
    """Any table that a card may have."""
    scores = sorted(draw(st.sets(st.integers(1, 100), min_size=1, max_size=6)))
    middle = draw(st.lists(st.integers(1, 999), min_size=len(scores) - 1, max_size=len(scores) - 1))
    shares = sorted([draw(st.integers(1, 500)), *middle, draw(st.integers(501, 999))])
    shares[0] = min(shares[0], 500)
    return tuple((score / 100, share / 1000) for score, share in zip([0, *scores], shares, strict=True))


@given(calibrations(), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_score_is_never_worth_less(rows, a, b):
    assert fault_of(rows) is None
    table = Calibration(rows)
    low, high = (table.part(score) for score in sorted((a, b)))
    assert low.unseen <= low.given <= high.given <= high.most
    assert (max(a, b) >= table.even) == (high.given > 0)
