"""A damaged page or row is found, named, saved around and never copied silently."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from msgspec import structs

from policies.events import Event
from server.domain.burst import Burst
from server.domain.errors import ConfigurationError, DatabaseDamaged
from server.store import Store, open_store
from tests.server.scenes import START_US, Yard, there_and_back
from tests.server.store.damage.files import file_of, leaves_of, overwrite, told


def lost_page(yard: Yard, table: str, which: int) -> Path:
    """Damage one page of a table or index; the database's file, to which nothing is connected."""
    file = file_of(yard.store)
    yard.store.close()
    overwrite(file, [leaves_of(file, table)[which]])
    return file


@pytest.mark.parametrize("table", ["burst_records", "ix_burst_records_camera"])
def test_a_damaged_page_is_found_by_the_check_and_never_copied(table: str, long_yard: Yard, tmp_path: Path) -> None:
    file = lost_page(long_yard, table, -1)
    integrity = long_yard.store.integrity()
    assert integrity is not None
    assert integrity.faults
    with pytest.raises(DatabaseDamaged, match=r"no copy was made: .* is damaged .*sectorwatch doctor"):
        long_yard.store.backup(tmp_path / "copy.sqlite")
    assert not (tmp_path / "copy.sqlite").exists()
    assert list(tmp_path.glob(".copy*")) == []
    assert file.exists()


def test_a_check_that_takes_too_long_is_cut_off_and_says_so(long_yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.store.care.integrity._OPERATIONS", 1)
    integrity = long_yard.store.integrity(0.0)
    assert integrity is not None
    assert integrity.faults == ()
    assert "did not end" in integrity.checked


def test_a_whole_database_is_checked_with_its_indexes(long_yard: Yard) -> None:
    integrity = long_yard.store.integrity(60.0)
    assert integrity is not None
    assert (integrity.faults, integrity.checked.partition(" of ")[0]) == ((), "integrity_check")


@pytest.mark.parametrize("which", [0, 1, -1])
@pytest.mark.parametrize("table", ["burst_records"])
def test_what_can_be_read_of_a_damaged_database_is_saved_and_serves_again(
    table: str, which: int, long_yard: Yard, tmp_path: Path
) -> None:
    before, events = long_yard.store.counts(), told(long_yard.store)
    burst_of = frames_by_burst(long_yard.store)
    file = lost_page(long_yard, table, which)
    damaged = file.read_bytes()
    saved = long_yard.store.salvage(tmp_path / "saved.sqlite")
    assert file.read_bytes() == damaged
    assert saved["events"].rows == before["events"]
    assert 0 < before[table] - saved[table].rows < before[table] / 2
    assert long_yard.store.restore(tmp_path / "saved.sqlite") is not None
    assert long_yard.store.upgrade().is_current
    integrity = long_yard.store.integrity()
    assert integrity is not None
    assert integrity.faults == ()
    lost = lost_bursts(file)
    assert 0 < len(lost) == before[table] - saved[table].rows
    assert told(long_yard.store) == without_bursts(events, lost, burst_of)
    long_yard.pipeline.process(long_yard.walk(50, there_and_back, 100.0))


def test_a_lost_row_of_a_camera_is_written_anew_and_nothing_of_it_is_lost(long_yard: Yard, tmp_path: Path) -> None:
    before, events = long_yard.store.counts(), told(long_yard.store)
    history = list(long_yard.store.history("yard", "gate"))
    with closing(sqlite3.connect(file_of(long_yard.store))) as connection:
        camera = connection.execute("SELECT * FROM cameras").fetchall()
    lost_page(long_yard, "cameras", 0)
    saved = long_yard.store.salvage(tmp_path / "saved.sqlite")
    assert {name: saved[name].rows for name in ("events", "burst_records")} == {
        name: before[name] for name in ("events", "burst_records")
    }
    with closing(sqlite3.connect(tmp_path / "saved.sqlite")) as connection:
        assert connection.execute("SELECT * FROM cameras").fetchall() == camera
    long_yard.store.restore(tmp_path / "saved.sqlite")
    assert told(long_yard.store) == events
    assert list(long_yard.store.history("yard", "gate")) == history


def lost_bursts(file: Path, count: int = 40) -> set[str]:
    """The bursts of `long_yard` whose records are not there or cannot be read."""
    lost: set[str] = set()
    with closing(sqlite3.connect(file)) as connection:
        for number in range(count):
            query = "SELECT length(record || '') FROM burst_records WHERE number = ?"
            with suppress(sqlite3.DatabaseError):
                if connection.execute(query, (number + 1,)).fetchone() is not None:
                    continue
            lost.add(f"burst-{number:05d}")
    return lost


def frames_by_burst(store: Store) -> dict[str, str]:
    """The burst of each frame, by the frame's hash."""
    seen = store.observations("yard", "gate")
    return {each.frame_sha256: each.burst_id for each in seen}


def without_bursts(events: list[Event], lost: set[str], burst_of: dict[str, str]) -> list[Event]:
    """The events as they are read when the records of these bursts are lost."""

    def without(event: Event) -> Event:
        proof = event.provenance
        ids = tuple("" if burst_id in lost else burst_id for burst_id in proof.burst_ids)
        frames = tuple(sha256 for sha256 in proof.frame_sha256 if burst_of[sha256] not in lost)
        return structs.replace(event, provenance=structs.replace(proof, burst_ids=ids, frame_sha256=frames))

    return [without(event) for event in events]


def test_events_are_listed_beside_a_damaged_page_of_bursts(long_yard: Yard, caplog: pytest.LogCaptureFixture) -> None:
    events, burst_of = told(long_yard.store), frames_by_burst(long_yard.store)
    file = lost_page(long_yard, "burst_records", 1)
    expected = without_bursts(events, lost_bursts(file), burst_of)
    assert events != expected
    assert told(long_yard.store) == expected
    begun = [each.event for each in long_yard.store.begun()]
    assert begun == sorted(expected, key=lambda each: (each.started_at, each.id))
    long_yard.store.add_channel("all")
    sent = long_yard.store.claim("all", "a test", 1, 1000)
    assert sorted(each.seq for each in sent) == list(range(1, len(events) + 1))
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["events are read without the damaged bursts that prove them"] * 3


def test_nothing_can_be_saved_of_what_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "note.sqlite").write_text("not a database" * 1000)
    store = open_store(f"sqlite:///{tmp_path}/note.sqlite")
    with pytest.raises(ConfigurationError, match=r"nothing can be saved of .*: restore a backup"):
        store.salvage(tmp_path / "saved.sqlite")
    assert not (tmp_path / "saved.sqlite").exists()


def test_a_value_that_is_no_value_is_damage_and_no_unforeseen_error(long_yard: Yard) -> None:
    for value in ("'{'", "CAST(x'ff00' AS TEXT)"):
        with long_yard.store._engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE events SET body = {value} WHERE seq = 2")
        with pytest.raises(DatabaseDamaged, match="sectorwatch doctor"):
            long_yard.store.events()


def test_a_burst_on_a_damaged_page_is_an_error_that_says_so(long_yard: Yard) -> None:
    lost_page(long_yard, "burst_records", -1)
    with pytest.raises(DatabaseDamaged):
        list(long_yard.store.history("yard", "gate"))


@pytest.mark.parametrize("record", ["x'00'", "x'9f'", "substr(record, 1, length(record) - 20)", "'no bytes'"])
def test_a_damaged_record_is_an_error_that_says_so(record: str, long_yard: Yard) -> None:
    with long_yard.store._engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE burst_records SET record = {record} WHERE number = 5")
    with pytest.raises(DatabaseDamaged, match="sectorwatch doctor"):
        list(long_yard.store.history("yard", "gate"))


def test_an_empty_file_beside_a_log_is_not_begun_anew(yard: Yard, bursts: list[Burst], tmp_path: Path) -> None:
    yard.pipeline.process(bursts[0])
    file = file_of(yard.store)
    cut = tmp_path / "cut.sqlite"
    cut.touch()
    shutil.copy(file.with_name(f"{file.name}-wal"), tmp_path / "cut.sqlite-wal")
    log = (tmp_path / "cut.sqlite-wal").read_bytes()
    store = open_store(f"sqlite:///{cut}")
    for ask in (store.revision, store.upgrade):
        with pytest.raises(DatabaseDamaged, match="db restore FILE"):
            ask()
    assert log
    assert (tmp_path / "cut.sqlite-wal").read_bytes() == log


def test_an_empty_file_alone_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "new.sqlite").touch()
    store = open_store(f"sqlite:///{tmp_path}/new.sqlite")
    assert store.revision().is_empty_file
    assert store.upgrade().is_current
    assert not store.revision().is_empty_file
    store.close()


@pytest.mark.parametrize("size", [100, 4096, 20_000])
def test_a_database_that_was_cut_off_is_damaged(size: int, long_yard: Yard) -> None:
    file = file_of(long_yard.store)
    long_yard.store.close()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ConfigurationError):
        long_yard.store.events()


@pytest.mark.parametrize("keeps_annotated", [False, True])
@pytest.mark.parametrize("number", [1, 4, 5])
@pytest.mark.parametrize("damage", ["record = x'00'", "record = 'no bytes'", "context = 99"])
def test_a_stretch_with_a_damaged_record_is_erased_whole_and_its_note_says_so(
    damage: str, number: int, keeps_annotated: bool, long_yard: Yard
) -> None:
    long_yard.clock.now_us = START_US + 200_000_000
    with closing(sqlite3.connect(file_of(long_yard.store))) as connection:
        connection.execute(f"UPDATE burst_records SET {damage} WHERE number IN ({number}, 9)")
        connection.commit()
        (total,) = connection.execute("SELECT count(*) FROM burst_records").fetchone()
    stretch = (START_US, START_US + 10_000_000)
    done = long_yard.store.retention.erase(
        "yard", "gate", *stretch, author="ann", note="asked", keeps_annotated=keeps_annotated
    )
    assert done.finished_at_us is not None
    assert done.note == "asked; 1 of its bursts could not be read"
    with closing(sqlite3.connect(file_of(long_yard.store))) as connection:
        first_us, left = connection.execute("SELECT min(first_at_us), count(*) FROM burst_records").fetchone()
    assert first_us >= stretch[1], "nothing of the stretch is left"
    assert done.bursts == total - left == 5
    assert all(not done.covers(event) for event in told(long_yard.store))
    with pytest.raises(DatabaseDamaged, match="record 9"):
        list(long_yard.store.history("yard", "gate"))


@pytest.mark.parametrize("record", ["x'00'", "x'9f'", "'no bytes'"])
def test_a_damaged_record_is_named_wherever_it_is_read(record: str, long_yard: Yard) -> None:
    with long_yard.store._engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE burst_records SET record = {record} WHERE number = 5")
    store = long_yard.store
    for ask in (
        store.counts,
        lambda: store.known("burst-00004"),
        lambda: store.kept("burst-00004"),
        lambda: store.is_judged_alike("burst-00004", []),
        lambda: store.past.burst("burst-00004"),
        lambda: store.past.after("yard", "gate", START_US, 9),
    ):
        with pytest.raises(DatabaseDamaged, match=r"burst record 5 .*sectorwatch doctor"):
            ask()
