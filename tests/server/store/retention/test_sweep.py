"""Sweeps delete what is too old a slice at a time beside turns, and a fold over the rest stays exact."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import event, func, select

from policies.events import Event, microseconds
from server.analysis.annotations import annotation_of
from server.analysis.verify import verify
from server.domain.announcements import Announcement
from server.domain.burst import Burst
from server.domain.errors import Unprocessable
from server.domain.keeping import Keep, Swept
from server.store import Store, open_store
from server.store.engine import writing
from server.store.retention import events as kept_events
from server.store.retention import retention, slices
from server.store.retention.limits import BURST_BYTES, EVENT_BYTES, clocks
from server.store.schema import burst_records, checkpoints, events, removals
from tests.server.scenes import START_US, Yard, across, burst, there_and_back
from tests.server.store.retention.yards import DAY_S, SECOND, first_s, log, replayed, walks
from tests.server.store.test_conversion import age
from tests.server.store.test_spans import statements
from tests.server.store.test_store import Interrupted, Interruption, snapshot


def kept_for(seconds: float, **more: object) -> Callable[[str], Keep]:
    """Keeps the bursts of so many seconds before the newest frame, which is at 91.5 s."""
    return lambda _site: Keep(observations_days=seconds / DAY_S, **more)  # type: ignore[arg-type]


def confirmed_after(events: list[Event], at_s: float) -> list[Event]:
    return [each for each in events if microseconds(each.confirmed_at) > START_US + at_s * SECOND]


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


def test_a_sweep_that_goes_on_for_an_hour_leaves_less_of_the_time_to_others(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = list[float]()

    def note(_wait: object, _begun_s: float, share: float) -> None:
        shares.append(share)
        yard.clock.advance(1000)

    monkeypatch.setattr(retention, "leave_to_others", note)
    monkeypatch.setattr(slices, "AT_ONCE", 2)
    yard.store.retention.sweep(kept_for(20))
    assert len(shares) > 8
    assert shares == [0.2] * 4 + [0.6] * (len(shares) - 4)


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
    assert count == 13 + 1 + 5
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


def _of_site(one: Burst, site: str) -> Burst:
    return dataclasses.replace(one, site=site)


def taken_by(store: Store) -> int:
    """About how many bytes of the database bursts and events take."""
    with store._engine.begin() as connection:
        rows = [
            connection.exec_driver_sql(f"SELECT sum(length({column}) + {more}) FROM {table}").scalar_one()
            for table, column, more in (("burst_records", "record", BURST_BYTES), ("events", "body", EVENT_BYTES))
        ]
    return int(sum(rows))


def test_the_oldest_bursts_of_a_site_go_when_it_takes_more_than_its_bytes(yard: Yard) -> None:
    for hour in range(1, 6):
        for n in range(4):
            yard.pipeline.process(yard.walk(1000 * hour + n, lambda t: None, 3600.0 * hour + 2 * n - 3500))
    yard.clock.advance(6 * 3600)
    taken = taken_by(yard.store)
    keep = Keep(max_bytes=taken - 3000)
    assert yard.store.retention.sweep(lambda _site: keep).bursts > 0
    assert first_s(yard.store) > 60
    assert taken_by(yard.store) <= taken - 3000
    assert len(log(yard.store)) > 0, "events go only when all bursts are gone"


@pytest.mark.parametrize("seconds", [5, 15, 60, 75])
def test_events_stay_as_they_are_when_the_bursts_that_prove_them_go(yard: Yard, seconds: float) -> None:
    before = yard.store.events(withdrawn=True)
    yard.store.retention.sweep(kept_for(seconds))
    assert yard.store.events(withdrawn=True) == before
    with yard.store._engine.begin() as connection:
        numbers = set(connection.execute(select(burst_records.c.number)).scalars())
        referred = set(connection.execute(select(events.c.burst).where(events.c.burst.is_not(None))).scalars())
        referred |= set(connection.execute(select(events.c.before).where(events.c.before.is_not(None))).scalars())
    assert referred <= numbers
    assert len(numbers) < 29


def test_events_stay_as_they_are_when_bursts_that_were_set_aside_are_erased(yard: Yard) -> None:
    first_us, last_us = START_US + 4 * SECOND, START_US + 8 * SECOND
    assert yard.store.set_aside("yard", "gate", first_us, last_us) == 2
    before = yard.store.events(withdrawn=True)
    assert any(each.is_withdrawn for each in before)
    done = yard.store.retention.erase("yard", "gate", first_us, last_us, author="Ada", keeps_annotated=True)
    left = yard.store.events(withdrawn=True)
    assert done.bursts == 2
    assert [each for each in before if each in left] == left


def test_old_events_go_with_their_announcements_and_annotated_ones_stay(yard: Yard) -> None:
    before = log(yard.store)
    kept = before[1]
    yard.store.annotations.add([annotation_of(yard.store, kept.id, "true", "Ada")])
    yard.store.retention.sweep(lambda _site: Keep(events_days=20 / DAY_S))
    assert log(yard.store) == [kept, *confirmed_after(before, 71.5)]
    yard.store.add_channel("new")
    announced = yard.store.claim("new", "a test", 1, 1000)
    assert [each.logged.event for each in announced if isinstance(each, Announcement)] == log(yard.store)
    yard.store.retention.sweep(lambda _site: Keep(events_days=20 / DAY_S, annotated=False))
    assert log(yard.store) == confirmed_after(before, 71.5)


def test_a_refold_brings_no_event_back_that_is_too_old(yard: Yard) -> None:
    yard.store.retention.sweep(lambda _site: Keep(events_days=20 / DAY_S))
    left = log(yard.store)
    yard.pipeline.process(yard.walk(77, lambda t: None, 30))
    assert log(yard.store) == left


def test_what_proves_an_annotated_event_stays_and_verifies(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_events, "_AROUND_US", SECOND)
    middle = next(event for event in log(yard.store) if event.kind == "moved")
    yard.store.annotations.add([annotation_of(yard.store, middle.id, "true", "Ada")])
    yard.store.retention.sweep(kept_for(20))
    seen = [(each.at_us - START_US) / SECOND for each in yard.store.observations("yard", "gate")]
    assert 2 < seen[0] < 12
    assert not [at for at in seen if 30 < at < 69], "the rest went"
    [record] = yard.store.past.events_like(middle.id)
    assert [check for check in verify(yard.store, record) if not check.holds] == []
    assert [check for check in verify(yard.store, record, from_start=True) if not check.holds] == []
    yard.store.retention.sweep(kept_for(20, annotated=False))
    assert first_s(yard.store) > 69
    with yard.store._engine.begin() as connection:
        assert connection.execute(select(func.count()).select_from(removals)).scalar_one() == 1


def test_footage_of_years_ago_is_as_old_as_its_newest_frame_makes_it(yard: Yard) -> None:
    yard.clock.advance(5 * 365 * DAY_S)
    assert yard.store.retention.sweep(lambda _site: Keep(observations_days=365, events_days=365)) == Swept()


def test_a_silent_camera_ages_by_the_servers_clock_a_day_at_most_from_sweep_to_sweep(yard: Yard) -> None:
    keep = Keep(observations_days=3, events_days=3)
    yard.store.retention.sweep(lambda _site: keep)
    yard.clock.advance(3650 * DAY_S)
    assert yard.store.retention.sweep(lambda _site: keep) == Swept(), "a clock years ahead deletes nothing at once"
    yard.clock.advance(-3649 * DAY_S)
    for _ in range(4):
        yard.clock.advance(DAY_S)
        swept = yard.store.retention.sweep(lambda _site: keep)
    assert swept.bursts > 0
    assert list(yard.store.observations("yard", "gate")) == []
    assert log(yard.store) == []
    yard.pipeline.process(yard.walk(900, across, 3.1 * DAY_S))
    assert yard.store.counts()["observations"] == 4


def test_a_sweep_looks_at_all_cameras_in_as_many_statements_as_at_one(yard: Yard) -> None:
    def statements() -> int:
        seen: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
            seen.append(statement)

        event.listen(yard.store._engine, "before_cursor_execute", note)
        with writing(yard.store._engine, lock="keeping") as connection:
            clocks(connection, yard.clock())
        event.remove(yard.store._engine, "before_cursor_execute", note)
        return len(seen)

    statements()  # the first time, a row is made for each camera
    of_one = statements()
    for number in range(4):
        yard.pipeline.process(dataclasses.replace(yard.walk(200 + number, across, 5), camera=f"camera-{number}"))
    statements()
    assert statements() == of_one


def test_a_sweep_of_more_cameras_with_nothing_old_takes_no_more_statements(yard: Yard) -> None:
    took = []
    for number, camera in enumerate(("door", "shed", "lane")):
        yard.pipeline.process(burst(500 + number, [yard.picture(at_s=80 + number)], 80 + number, camera=camera))
        yard.store.retention.sweep(kept_for(1e6))
        took.append(statements(yard.store, lambda: yard.store.retention.sweep(kept_for(1e6))))
    assert took == [took[0]] * 3
    assert yard.store.retention.sweep(kept_for(20)).bursts > 0
