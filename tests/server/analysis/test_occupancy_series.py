"""A long stretch of occupancy, part by part: what one fold of all its frames gives."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from server.analysis import occupancy_series as module
from server.analysis.occupancy import occupancy
from server.analysis.occupancy_series import LaneSpan, occupancy_series
from server.domain.keeping import DAY_US, Keep
from server.store import Store, open_store
from tests.server.scenes import START_US, YARD, Yard, across, burst, there_and_back
from tests.stand_ins import ManualClock

S = 1_000_000
Lanes = dict[tuple[str, str], list[tuple[str, float, float]]]


@pytest.fixture
def yard(tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock) -> Yard:
    """A yard without a past."""
    return Yard(tmp_path / "sites", open_store(new_sqlite(), clock), clock)


def series(store: Store, from_s: float, until_s: float, now_s: float = 36_000) -> Lanes:
    """The spans of each lane, in seconds since the start; neighbours of one state are joined."""
    ends = [START_US + round(each * S) for each in (from_s, until_s, now_s)]
    lanes: Lanes = {}
    for part in occupancy_series(store, "yard", "gate", *ends):
        for span in part:
            join(lanes, span)
    return lanes


def join(lanes: Lanes, span: LaneSpan) -> None:
    mine = lanes.setdefault((span.sector, span.target), [])
    from_s, until_s = ((each - START_US) / S for each in (span.from_us, span.until_us))
    if mine and mine[-1][0] == span.state:
        from_s = mine.pop()[1]
    mine.append((span.state, from_s, until_s))


def folded(store: Store, from_s: float, until_s: float, now_s: float) -> Lanes:
    """What one fold of all frames gives."""
    ends = [START_US + round(each * S) for each in (from_s, until_s, now_s)]
    lanes: Lanes = {}
    for span in occupancy(store, "yard", "gate", *ends):
        join(lanes, LaneSpan(span.sector, span.target, span.occupancy.value, span.from_us, span.until_us))
    return lanes


@pytest.mark.parametrize("seed", range(2))
def test_parts_of_any_mixture_of_walks_and_silences_join_to_the_one_fold(
    yard: Yard, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_US", 30 * S)
    chance, at_s = random.Random(seed), 0.0
    for number in range(24):
        x = chance.choice([None, 0.2, 0.4, 0.6, 0.8])
        length = chance.choice([4, 10, 20])
        yard.pipeline.process(yard.walk(number, lambda _t, x=x: x, at_s, length))
        at_s += length / 2 + chance.choice([0, 0, 0, 10, 29.75, 31, 100])
    for now_s in (at_s, at_s + 40):
        assert series(yard.store, -50, at_s, now_s) == folded(yard.store, -50, at_s, now_s)


def test_a_part_without_a_frame_is_unobserved_in_the_sectors_that_were_named_last(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_US", 60 * S)
    for each in yard.walked(across, 26):
        yard.pipeline.process(each)
    lanes = series(yard.store, 0, 1000)
    assert [lane[0] for lane in lanes] == ["west", "east"]
    assert [spans[-1] for spans in lanes.values()] == [("unobserved", 25.5, 1000)] * 2


def test_before_its_first_frame_a_camera_is_unobserved(yard: Yard) -> None:
    for each in yard.walked(lambda _t: None, 26):
        yard.pipeline.process(each)
    assert series(yard.store, -9000, 20)["west", "person"] == [("unobserved", -9000, 0), ("clear", 0, 20)]


def test_a_camera_that_sends_seldom_is_observed_as_long_as_its_policy_says(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_US", 60 * S)
    yard.write(YARD.replace('site = "yard"', 'site = "yard"\npresence.blind_s = 900'))
    for number in range(6):
        yard.pipeline.process(yard.walk(number, lambda _t: None, 600 * number))
    assert series(yard.store, 0, 3000)["west", "person"] == [("clear", 0, 3000)]


def test_an_end_that_is_settled_much_later_is_where_it_was(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_US", 60 * S)
    yard.write(YARD.replace('site = "yard"', 'site = "yard"\npresence.clear_s = 400'))
    for number in range(60):
        yard.pipeline.process(yard.walk(number, lambda t: 0.2 if t < 20 else None, 10 * number, 2, 5))
    spans = series(yard.store, 0, 300)["west", "person"]
    assert [state for state, *_ in spans] == ["occupied", "clear"]
    assert folded(yard.store, 60, 120, 36_000)["west", "person"] == [("clear", 60, 120)]


def test_what_is_no_longer_kept_is_neither_clear_nor_unobserved(yard: Yard) -> None:
    later = [yard.walk(100 + n, lambda t: there_and_back(t - 120), 120 + 2 * n) for n in range(16)]
    for each in yard.walked(across, 26) + later:
        yard.pipeline.process(each)
    before = series(yard.store, 0, 150)
    yard.store.retention.sweep(lambda _site: Keep(observations_days=60 * S / DAY_US))
    after = series(yard.store, 0, 150)
    assert [spans[0][0] for spans in after.values()] == ["not_kept"] * 2
    assert {lane: spans[-3:] for lane, spans in after.items()} == {lane: spans[-3:] for lane, spans in before.items()}


def test_after_an_erasure_the_series_goes_on_from_the_state_that_the_live_fold_had(yard: Yard) -> None:
    for each in yard.walked(lambda _t: 0.2, 60):
        yard.pipeline.process(each)
    before = series(yard.store, 0, 59)["west", "person"]
    yard.store.retention.erase("yard", "gate", START_US + 8 * S, START_US + 50 * S, author="Ada", note=None)
    west = series(yard.store, 0, 59)["west", "person"]
    assert [(state, until_s) for state, _, until_s in west] == [("occupied", 8), ("not_kept", 50), ("occupied", 59)]
    assert before == [("occupied", 0, 59)]


def test_a_sector_that_a_changed_policy_no_longer_names_stays_in_the_part_in_which_it_was_named(yard: Yard) -> None:
    for each in yard.walked(lambda _t: 0.2, 20):
        yard.pipeline.process(each)
    yard.write(YARD.replace("sectors.west", "sectors.left"))
    for number in range(20):
        yard.pipeline.process(yard.walk(50 + number, lambda _t: 0.2, 20 + 2 * number))
    lanes = series(yard.store, 0, 59)
    assert lanes["west", "person"] == [("occupied", 0, 19.5), ("unobserved", 19.5, 59)]
    assert [state for state, *_ in lanes["left", "person"]] == ["unobserved", "occupied"]
    assert set(lanes) == {("west", "person"), ("left", "person"), ("east", "person")}


def test_a_camera_of_which_nothing_is_stored_has_no_spans(yard: Yard) -> None:
    assert series(yard.store, 0, 60) == {}
    yard.pipeline.process(burst(1, [yard.picture(0.2)], 0, camera="door"))
    assert series(yard.store, 0, 60) == {}
