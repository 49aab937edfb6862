"""What is too old, too much or erased goes a slice at a time beside turns, and a fold over the rest stays exact."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import func, select

from policies.events import Event, microseconds
from server.analysis.annotations import annotation_of
from server.commands.folding import FoldTask, fold_as_accepted
from server.domain.errors import DatabaseUnavailable, Unprocessable
from server.domain.keeping import DAY_US, Keep, Swept
from server.store import Store, open_store
from server.store.retention import slices
from server.store.schema import burst_records, camera_states, checkpoints, outbox, removals
from tests.server.scenes import START_US, Yard, across, burst, there_and_back
from tests.server.store.test_conversion import age
from tests.server.store.test_store import Interrupted, Interruption, snapshot
from tests.stand_ins import ManualClock

SECOND = 1_000_000
DAY_S = 86_400.0


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "AT_ONCE", 2)


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock) -> Yard:
    """A yard in which somebody walks across, and somebody goes there and back a minute later."""
    yard = Yard(tmp_path / "sites", store, clock)
    for one in walks(yard):
        yard.pipeline.process(one)
    return yard


def walks(yard: Yard) -> list:  # type: ignore[type-arg]
    later = [yard.walk(100 + n, lambda t: there_and_back(t - 60), 60 + 2 * n) for n in range(16)]
    return yard.walked(across, 26) + later


def kept_for(seconds: float, **more: object) -> Callable[[str], Keep]:
    """Keeps the bursts of so many seconds before the newest frame, which is at 91.5 s."""
    return lambda _site: Keep(observations_days=seconds / DAY_S, **more)  # type: ignore[arg-type]


def log(store: Store) -> list[Event]:
    return [logged.event for logged in store.events()]


def replayed(yard: Yard) -> list[Event]:
    return fold_as_accepted(FoldTask(str(yard.store._engine.url.render_as_string(False)), "yard", "gate"))


def confirmed_after(events: list[Event], at_s: float) -> list[Event]:
    return [event for event in events if microseconds(event.confirmed_at) > START_US + at_s * SECOND]


def first_s(store: Store) -> float:
    return (next(iter(store.observations("yard", "gate"))).at_us - START_US) / SECOND


@pytest.mark.parametrize("border_s", [5.0, 11.5, 17.2, 24.0, 61.0, 71.5, 80.0])
def test_the_replay_of_what_is_left_equals_the_log_wherever_the_border_lies(yard: Yard, border_s: float) -> None:
    before = log(yard.store)
    assert yard.store.retention.sweep(kept_for(91.5 - border_s)).bursts > 0
    assert border_s - 2 < first_s(yard.store) <= border_s
    assert log(yard.store) == before, "events are kept longer than bursts"
    assert replayed(yard) == confirmed_after(before, first_s(yard.store) - 0.1)


def test_a_fold_that_goes_on_after_the_border_is_that_of_one_without_it(
    yard: Yard, tmp_path: Path, new_sqlite: Callable[[], str]
) -> None:
    clean = Yard(tmp_path / "clean", open_store(new_sqlite(), yard.clock), yard.clock)
    for one in walks(clean):
        clean.pipeline.process(one)
    yard.store.retention.sweep(kept_for(91.5 - 71.5))
    for each in (yard, clean):
        for n in range(200, 212):
            each.pipeline.process(each.walk(n, lambda t: there_and_back(t - 60), 92 + 2 * (n - 200)))
        each.pipeline.process(each.walk(300, lambda t: None, 118, every_s=30.0))
    assert log(yard.store) == log(clean.store)
    assert yard.store.cameras()[0].state == clean.store.cameras()[0].state


def test_a_sweep_that_is_interrupted_at_any_statement_leaves_an_exact_past_and_goes_on(yard: Yard) -> None:
    before, statement, is_done = log(yard.store), 0, False
    while not is_done:
        statement += 9
        try:
            with Interruption(yard.store, statement):
                yard.store.retention.sweep(kept_for(20))
            is_done = True
        except Interrupted:
            assert replayed(yard) == confirmed_after(before, first_s(yard.store) - 0.1)
    assert statement > 30
    assert 69.5 < first_s(yard.store) <= 71.5
    assert log(yard.store) == before


def test_a_stopped_sweep_goes_on_where_it_stopped(yard: Yard) -> None:
    stops = iter([False, False, True, *[True] * 9])
    first = yard.store.retention.sweep(kept_for(20), lambda: next(stops, False))
    rest = yard.store.retention.sweep(kept_for(20))
    assert 0 < first.bursts < rest.bursts
    with yard.store._engine.begin() as connection:
        assert connection.execute(select(func.count()).select_from(removals)).scalar_one() == 1
        assert connection.execute(select(func.min(checkpoints.c.at_us))).scalar_one() >= START_US + 69 * SECOND


def test_a_second_sweep_deletes_nothing_more(yard: Yard) -> None:
    yard.store.retention.sweep(kept_for(20))
    assert yard.store.retention.sweep(kept_for(20)) == Swept()


def test_bursts_of_an_earlier_version_go_as_well(yard: Yard) -> None:
    before = log(yard.store)
    age(yard.store, 2)
    yard.store.retention.sweep(kept_for(20))
    assert 65 < first_s(yard.store) <= 71.5
    assert yard.store.counts()["decisions"] > 0, "the newest are in the form of before still"
    assert replayed(yard) == confirmed_after(before, first_s(yard.store) - 0.1)


def test_a_late_burst_meanwhile_makes_the_slice_be_planned_again(yard: Yard) -> None:
    late = yard.walk(77, across, 30)
    region = slices.Region("yard", "gate", None, START_US + 70 * SECOND)
    with_state = slices.slices(yard.store._engine, yard.store._versions, region)
    yard.store.retention.sweep(lambda _site: Keep())  # the row of the camera
    count = 0
    for planned in with_state:
        if late is not None and planned.last_us > late.frames[0].at_us:
            yard.pipeline.process(late)
            assert slices.remove(yard.store._engine, yard.store._versions, region, planned) == 0
            late = None
        else:
            count += slices.remove(yard.store._engine, yard.store._versions, region, planned)
    assert count == 13 + 1 + 4
    assert replayed(yard) == confirmed_after(log(yard.store), first_s(yard.store) - 0.1)


def test_a_burst_older_than_the_border_is_refused_and_changes_nothing(yard: Yard) -> None:
    yard.store.retention.sweep(kept_for(20))
    before = snapshot(yard.store)
    with pytest.raises(Unprocessable, match="no longer kept"):
        yard.pipeline.process(yard.walk(77, across, 30))
    assert snapshot(yard.store) == before


def test_a_late_burst_after_the_border_corrects_the_log_as_ever(
    yard: Yard, tmp_path: Path, new_sqlite: Callable[[], str]
) -> None:
    clean = Yard(tmp_path / "clean", open_store(new_sqlite(), yard.clock), yard.clock)
    missing = [one for one in walks(yard) if one.frames[0].at_us == START_US + 74 * SECOND]
    for one in walks(clean):
        clean.pipeline.process(one)
    late = Yard(tmp_path / "late", open_store(new_sqlite(), yard.clock), yard.clock)
    for one in walks(late):
        if one.burst_id != missing[0].burst_id:
            late.pipeline.process(one)
    late.store.retention.sweep(kept_for(91.5 - 65))
    late.pipeline.process(missing[0])
    assert log(late.store) == log(clean.store)


def test_two_sites_keep_what_each_of_them_says(yard: Yard) -> None:
    yard.write(Path(yard.folder / "yard.toml").read_text(encoding="utf-8").replace('"yard"', '"barn"'), "barn.toml")
    for n in range(10):
        images = [yard.picture(0.3, at_s=1000 + 10 * n + i) for i in range(4)]
        one = burst(500 + n, images, 2.0 * n, camera="door")
        yard.pipeline.process(_of_site(one, "barn"))
    keeps = {"yard": Keep(observations_days=20 / DAY_S), "barn": Keep(observations_days=5 / DAY_S)}
    yard.store.retention.sweep(keeps.__getitem__)
    assert 69.5 < first_s(yard.store) <= 71.5
    [*barn] = yard.store.observations("barn", "door")
    assert 12.5 < (barn[0].at_us - START_US) / SECOND <= 14.5


def _of_site(one, site: str):  # type: ignore[no-untyped-def]
    import dataclasses

    return dataclasses.replace(one, site=site)
