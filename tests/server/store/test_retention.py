"""What is too old, too much or erased goes a slice at a time beside turns, and a fold over the rest stays exact."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event, func, insert, select

from policies.events import Event, microseconds
from server.analysis.annotations import annotation_of
from server.analysis.verify import verify
from server.commands.folding import FoldTask, fold_as_accepted
from server.domain.announcements import Announcement
from server.domain.burst import Burst
from server.domain.errors import DatabaseUnavailable, Unprocessable
from server.domain.keeping import Erasure, Keep, Swept
from server.store import Store, open_store
from server.store.retention import erasure, slices, space
from server.store.retention import events as kept_events
from server.store.retention.limits import BURST_BYTES, EVENT_BYTES
from server.store.schema import burst_records, checkpoints, events, panels, removals
from tests.server.pasts import Past
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
def past() -> Past:
    return Past("walks", _walk)


def _walk(url: str, folder: Path) -> None:
    clock = ManualClock(START_US + 3600 * SECOND)
    with closing(open_store(url, clock)) as store:
        yard = Yard(folder / "sites", store, clock)
        for one in walks(yard):
            yard.pipeline.process(one)


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock) -> Yard:
    """A yard in which somebody walked across, and somebody went there and back a minute later."""
    yard = Yard(tmp_path / "sites", store, clock)
    walks(yard)  # its ensemble knows their pictures
    return yard


def walks(yard: Yard) -> list[Burst]:
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


def test_an_erasure_leaves_an_exact_rest_and_a_note(yard: Yard) -> None:
    before = log(yard.store)
    done = erase(yard, 8.2, 13.9)
    assert (done.author, done.note, done.bursts) == ("Ada", "asked by letter", 3)
    assert done.finished_at_us is not None
    assert yard.store.retention.erasures() == [done]
    left = [event for event in before if not done.covers(event)]
    assert len(before) - len(left) == done.events > 0
    assert log(yard.store) == left
    gone = yard.store.retention.gone("yard", "gate")
    assert [event for event in replayed(yard) if not gone.is_event_gone(event)] == left
    seen = [(each.at_us - START_US) / SECOND for each in yard.store.observations("yard", "gate")]
    assert not [at for at in seen if 8 <= at < 14]


def test_an_erasure_that_is_interrupted_at_any_statement_is_in_the_audit_and_finished_by_the_next_sweep(
    yard: Yard,
) -> None:
    before, statement, begun, is_done = log(yard.store), 0, 0, False
    while not is_done:
        statement += 3
        try:
            with Interruption(yard.store, statement):
                if yard.store.retention.erasures():
                    yard.store.retention.sweep(lambda _site: Keep())
                else:
                    erase(yard, 8.2, 13.9)
            is_done = True
        except Interrupted:
            noted = [f"erasure {asked.number}, by Ada" for asked in yard.store.retention.erasures()]
            assert [line.detail for line in yard.store.audit.page()] == noted
            for asked in yard.store.retention.erasures():
                begun += 1
                gone = yard.store.retention.gone("yard", "gate")
                assert [e for e in replayed(yard) if not gone.is_event_gone(e)] == [
                    e for e in before if not asked.covers(e)
                ]
    assert begun > 5
    [done] = yard.store.retention.erasures()
    assert done.finished_at_us is not None
    assert log(yard.store) == [event for event in before if not done.covers(event)]
    seen = [(each.at_us - START_US) / SECOND for each in yard.store.observations("yard", "gate")]
    assert not [at for at in seen if 8 <= at < 14]


def test_bursts_of_an_erased_time_are_refused_also_when_they_are_sent_again(yard: Yard) -> None:
    erase(yard, 8.2, 13.9)
    for again in (yard.walk(5, across, 10), yard.walk(999, across, 11)):
        with pytest.raises(Unprocessable, match="erased on request"):
            yard.pipeline.process(again)


def test_intake_goes_on_between_the_slices_of_an_erasure_and_its_log_is_that_of_a_clean_run(
    yard: Yard, tmp_path: Path, new_sqlite: Callable[[], str]
) -> None:
    clean = Yard(tmp_path / "clean", open_store(new_sqlite(), yard.clock), yard.clock)
    for one in walks(clean):
        clean.pipeline.process(one)
    more = [lambda each, n=n: each.walk(200 + n, lambda t: there_and_back(t - 92), 92 + 2 * n) for n in range(14)]
    engine, versions = yard.store._engine, yard.store._versions
    asked = erasure.ask(
        engine,
        versions,
        yard.clock,
        yard.store.frames,
        "yard",
        "gate",
        _at(62),
        _at(91.9),
        author="Ada",
        note=None,
        keeps_annotated=False,
    )
    for _ in erasure.finish(engine, versions, yard.clock, yard.store.frames, asked):
        if more:
            next_burst = more.pop(0)
            yard.pipeline.process(next_burst(yard))
            clean.pipeline.process(next_burst(clean))
    assert len(more) < 10
    for next_burst in more:
        yard.pipeline.process(next_burst(yard))
        clean.pipeline.process(next_burst(clean))
    assert log(yard.store) == [event for event in log(clean.store) if not asked.covers(event)]
    assert yard.store.cameras()[0].state == clean.store.cameras()[0].state


def test_an_erasure_takes_annotated_events_and_their_annotations_unless_they_are_to_stay(yard: Yard) -> None:
    subject = next(e for e in log(yard.store) if START_US + 6 * SECOND < microseconds(e.confirmed_at) < _at(13))
    yard.store.annotations.add([annotation_of(yard.store, subject.id, "true", "Ada")])
    kept = erase(yard, 0, 59, keeps_annotated=True)
    assert [event for event in log(yard.store) if kept.covers(event)] == [subject]
    assert len(yard.store.annotations.all()) == 1
    [record] = yard.store.past.events_like(subject.id)
    assert [check for check in verify(yard.store, record) if not check.holds] == []
    erase(yard, 0, 59)
    assert [event for event in log(yard.store) if kept.covers(event)] == []
    assert yard.store.annotations.all() == []
    assert first_s(yard.store) >= 59


def test_an_erasure_of_the_newest_frames_leaves_a_camera_that_goes_on(yard: Yard) -> None:
    erase(yard, 80.1, 95)
    assert yard.pipeline.process(yard.walk(900, across, 95)).known is False
    assert replayed(yard) == log(yard.store)


def test_a_stretch_that_is_not_over_is_not_erased(yard: Yard) -> None:
    with pytest.raises(Unprocessable, match="in the past"):
        erase(yard, 0, 7200)


def test_nothing_of_what_was_erased_is_left_in_the_file(
    tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock
) -> None:
    url = new_sqlite()
    yard = Yard(tmp_path / "sites", open_store(url, clock), clock)
    for one in walks(yard):
        yard.pipeline.process(one)
    hashes = [one.frames[0].sha256 for one in walks(yard)]
    files = [Path(url.removeprefix("sqlite:///") + end) for end in ("", "-wal")]

    def found(sha256: str) -> bool:
        return any(bytes.fromhex(sha256) in file.read_bytes() for file in files if file.exists())

    assert found(hashes[5])
    erase(yard, 8.2, 13.9)
    assert not found(hashes[5])
    assert found(hashes[20])


def test_the_file_shrinks_when_bursts_go(
    tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "_RESERVE", 0)
    url = new_sqlite()
    store = open_store(url, clock)
    file = Path(url.removeprefix("sqlite:///"))
    with store._engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE ballast (bytes BLOB)")
        connection.exec_driver_sql("INSERT INTO ballast VALUES (zeroblob(4000000))")
    with store._engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE ballast")
    store.retention.sweep(lambda _site: Keep())
    store.close()
    assert file.stat().st_size < 400_000


def test_a_small_file_of_an_earlier_version_shrinks_from_its_upgrade_on(tmp_path: Path, clock: ManualClock) -> None:
    file = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE ballast (bytes BLOB)")
        connection.execute("INSERT INTO ballast VALUES (zeroblob(4000000))")
        connection.commit()
        connection.execute("DROP TABLE ballast")
        connection.commit()
    store = open_store(f"sqlite:///{file}", clock)
    store.upgrade()
    assert store.retention.space().gives_back
    store.close()
    assert file.stat().st_size < 400_000


def test_the_growth_of_the_database_says_when_its_disk_is_full(store: Store, clock: ManualClock) -> None:
    assert store.retention.space().full_in_s is None
    store.retention.sweep(lambda _site: Keep())
    with store._engine.begin() as connection:
        connection.execute(insert(panels), [{"ensemble": f"{n}", "body": "x" * 2000} for n in range(500)])
    clock.advance(DAY_S)
    store.retention.sweep(lambda _site: Keep())
    room = store.retention.space()
    assert room.grows_bytes_a_day is not None
    assert 900_000 < room.grows_bytes_a_day < 3_000_000
    if room.free_bytes is not None:
        assert room.full_in_s == pytest.approx(room.free_bytes / room.grows_bytes_a_day * DAY_S)


def test_a_database_that_takes_nothing_is_not_ready_until_it_does_again(
    tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock
) -> None:
    yard = Yard(tmp_path / "sites", open_store(new_sqlite(), clock), clock)
    with yard.store._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    limits = [pages, pages + 10_000]

    def limit(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {limits[0]}")

    event.listen(yard.store._engine, "checkout", limit)
    yard.store.check()
    with pytest.raises(DatabaseUnavailable):
        send_many(yard)
    with pytest.raises(DatabaseUnavailable, match=r"full.*no burst is accepted"):
        yard.store.check()
    yard.store.retention.try_disk()
    with pytest.raises(DatabaseUnavailable, match="full"):
        yard.store.check()
    del limits[0]
    yard.store.retention.try_disk()
    yard.store.check()


def send_many(yard: Yard) -> None:
    for n in range(200):
        yard.pipeline.process(yard.walk(2000 + n, across, 100 + 2 * n))


def erase(yard: Yard, since_s: float, until_s: float, *, keeps_annotated: bool = False) -> Erasure:
    return yard.store.retention.erase(
        "yard",
        "gate",
        _at(since_s),
        _at(until_s),
        author="Ada",
        note="asked by letter",
        keeps_annotated=keeps_annotated,
        by="command line",
    )


def _at(at_s: float) -> int:
    return START_US + round(at_s * SECOND)
