"""A damaged SQLite file: derived data is made anew, other damage is named, never copied, and never an endless error."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from policies.events import Event
from server.domain.burst import Burst
from server.domain.errors import ConfigurationError, DatabaseDamaged, RetryLater
from server.domain.folding.refold import steps
from server.domain.keeping import Keep
from server.domain.records import Checkpoint
from server.store import Store, open_store
from tests.server.scenes import START_US, YARD, Yard, burst, there_and_back
from tests.stand_ins import ManualClock


def file_of(store: Store) -> Path:
    return Path(store.name.removeprefix("sqlite:///"))


def pages_of(file: Path, table: str) -> list[int]:
    """The pages of a table and of its indexes, after what is in the log has been put into the file."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        query = "SELECT pageno FROM dbstat WHERE name IN (SELECT name FROM sqlite_schema WHERE tbl_name = ?)"
        return [page for (page,) in connection.execute(query, (table,))]


def leaves_of(file: Path, table: str) -> list[int]:
    """The pages of a table or an index that hold its rows or keys."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        query = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY pageno"
        return [page for (page,) in connection.execute(query, (table,))]


def overwrite(file: Path, pages: list[int], filling: bytes = b"\xa5") -> None:
    """Damage these pages: a byte pattern takes the place of all that they hold."""
    with closing(sqlite3.connect(file)) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with file.open("r+b") as content:
        for page in pages:
            content.seek((page - 1) * size)
            content.write(filling * size)


@pytest.fixture
def yard(tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock) -> Iterator[Yard]:
    yard = Yard(tmp_path / "sites", open_store(new_sqlite(), clock), clock)
    yield yard
    yard.store.close()


@pytest.fixture
def bursts(yard: Yard) -> list[Burst]:
    return yard.walked(there_and_back, 30)


def told(store: Store) -> list[Event]:
    return [logged.event for logged in store.events()]


def refolded(store: Store) -> list[Event]:
    history = store.history("yard", "gate")
    return [event for step in steps(history, Checkpoint(None, None), store.policy) for event in step.events]


def sent(yard: Yard, burst: Burst) -> int:
    """How many times an agent has to send a burst until it is stored."""
    for times in range(1, 4):
        try:
            yard.pipeline.process(burst)
        except RetryLater:
            continue
        return times
    raise AssertionError("it is never stored")


@pytest.mark.parametrize("filling", [b"\0", b"\xa5", b"\x0d"])
@pytest.mark.parametrize("tables", [["checkpoints"], ["camera_states"], ["camera_states", "checkpoints"]])
def test_derived_data_on_damaged_pages_is_made_anew_while_the_server_runs(
    tables: list[str], filling: bytes, yard: Yard, bursts: list[Burst], caplog: pytest.LogCaptureFixture
) -> None:
    for one in bursts[:8]:
        yard.pipeline.process(one)
    before = yard.store.cameras()
    file = file_of(yard.store)
    yard.store.close()
    for table in tables:
        overwrite(file, pages_of(file, table), filling)
    assert sent(yard, bursts[9]) <= 2
    assert sent(yard, bursts[8]) <= 2
    for one in bursts[10:]:
        yard.pipeline.process(one)
    assert told(yard.store) == refolded(yard.store)
    assert sum("thrown away" in record.message for record in caplog.records) == 1
    assert (
        [(head.site, head.camera) for head in yard.store.cameras()]
        == [("yard", "gate")]
        == [(head.site, head.camera) for head in before]
    )
    integrity = yard.store.integrity()
    assert integrity is not None
    assert integrity.faults == ()


@pytest.mark.parametrize("table", ["checkpoints", "camera_states"])
def test_readers_make_damaged_derived_data_anew(table: str, yard: Yard, bursts: list[Burst]) -> None:
    for one in bursts[:8]:
        yard.pipeline.process(one)
    before = yard.store.cameras()
    checkpoint = yard.store.checkpoint("yard", "gate", before[0].last_at_us + 1)
    file = file_of(yard.store)
    yard.store.close()
    overwrite(file, pages_of(file, table))
    (activity,) = yard.store.heartbeats.activities("yard")
    (head,) = yard.store.cameras()
    assert activity.seen == head
    assert (head.last_at_us, head.state, head.policy) == (before[0].last_at_us, before[0].state, before[0].policy)
    found = yard.store.checkpoint("yard", "gate", before[0].last_at_us + 1)
    assert found in (checkpoint, Checkpoint(None, None))


@pytest.mark.parametrize("table", ["checkpoints", "camera_states"])
def test_a_server_starts_on_damaged_derived_data(table: str, yard: Yard, bursts: list[Burst]) -> None:
    for one in bursts[:8]:
        yard.pipeline.process(one)
    file = file_of(yard.store)
    yard.store.close()
    overwrite(file, pages_of(file, table))
    assert yard.store.upgrade().is_current
    for one in bursts[8:]:
        yard.pipeline.process(one)
    assert told(yard.store) == refolded(yard.store)


def lost_page(yard: Yard, table: str, which: int) -> Path:
    """Damage one page of a table or index; the database's file, to which nothing is connected."""
    file = file_of(yard.store)
    yard.store.close()
    overwrite(file, [leaves_of(file, table)[which]])
    return file


@pytest.fixture
def long_yard(yard: Yard) -> Yard:
    """A yard with some hundred frames, so that its tables have several pages."""
    for number in range(40):
        yard.pipeline.process(yard.walk(number, lambda t: there_and_back(t % 30), number * 2.0))
    return yard


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


@pytest.mark.parametrize("table", ["camera_states", "checkpoints"])
def test_retention_goes_on_after_damaged_derived_data_was_made_anew(table: str, long_yard: Yard) -> None:
    file = file_of(long_yard.store)
    events = told(long_yard.store)
    long_yard.store.close()
    overwrite(file, pages_of(file, table))
    long_yard.store.cameras()
    long_yard.store.checkpoint("yard", "gate", 2**60)
    long_yard.store.retention.erase("yard", "gate", START_US, START_US + 20_000_000, author="ann")
    with long_yard.store._engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE filling AS SELECT zeroblob(3000000) AS bytes")
    with long_yard.store._engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE filling")
    long_yard.store.retention.sweep(lambda _site: Keep())
    integrity = long_yard.store.integrity()
    assert integrity is not None
    assert integrity.faults == ()
    long_yard.pipeline.process(long_yard.walk(50, there_and_back, 100.0))
    assert 0 < len(told(long_yard.store)) <= len(events) + 5


def test_a_camera_without_a_burst_that_is_kept_has_its_state_again(long_yard: Yard) -> None:
    (before,) = long_yard.store.cameras()
    long_yard.clock.now_us = before.last_at_us + 10_000_000
    long_yard.store.retention.erase("yard", "gate", 0, before.last_at_us + 1, author="ann")
    assert list(long_yard.store.history("yard", "gate")) == []
    file = file_of(long_yard.store)
    long_yard.store.close()
    overwrite(file, pages_of(file, "camera_states"))
    (head,) = long_yard.store.cameras()
    assert (head.last_at_us, head.state, head.policy) == (before.last_at_us, before.state, before.policy)


def test_a_damaged_state_at_the_end_of_deleted_bursts_gives_way_to_an_empty_one(
    long_yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    long_yard.clock.now_us = START_US + 200_000_000
    long_yard.store.retention.erase("yard", "gate", 0, START_US + 20_000_000, author="ann")
    with long_yard.store._engine.begin() as connection:
        assert connection.exec_driver_sql("UPDATE removals SET state = CAST(x'ff00' AS TEXT)").rowcount == 1
    assert len(refolded(long_yard.store)) > 0
    long_yard.store.upgrade()
    assert sum("begins anew" in record.message for record in caplog.records) == 1
    long_yard.pipeline.process(long_yard.walk(50, there_and_back, 100.0))


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


@pytest.mark.parametrize("damage", ["record = x'00'", "record = 'no bytes'", "context = 99"])
@pytest.mark.parametrize(
    ("keep", "failed"),
    [(Keep(observations_days=10 / 86_400), ["gate"]), (Keep(max_bytes=1), [])],
    ids=["in what goes", "behind what goes"],
)
def test_a_damaged_record_of_one_camera_is_logged_and_the_other_cameras_are_swept(
    keep: Keep, failed: list[str], damage: str, long_yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    long_yard.clock.advance(8000)
    for n in range(10):
        images = [long_yard.picture(at_s=n + i / 10) for i in range(2)]
        long_yard.pipeline.process(burst(500 + n, images, 800.0 * n, camera="door"))
    with closing(sqlite3.connect(file_of(long_yard.store))) as connection:
        connection.execute(f"UPDATE burst_records SET {damage} WHERE number = 2")
        connection.commit()
    swept = long_yard.store.retention.sweep(lambda _site: keep)
    assert swept.bursts > 0
    door = list(long_yard.store.history("yard", "door"))
    assert 0 < len(door) < 20
    assert [record.camera for record in caplog.records if record.message == "retention failed"] == failed
    with pytest.raises(DatabaseDamaged, match="burst record 2 "):
        list(long_yard.store.history("yard", "gate"))


def test_a_site_whose_settings_cannot_be_read_keeps_no_other_site_from_being_swept(
    long_yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    long_yard.write(YARD.replace('site = "yard"', 'site = "annex"'), "annex.toml")
    told = long_yard.walk(0, there_and_back, 0.0)
    long_yard.pipeline.process(replace(told, burst_id="of-the-annex", site="annex"))

    def keep_of(site: str) -> Keep:
        if site == "annex":
            raise ConfigurationError("annex.toml cannot be read")
        return Keep(observations_days=10 / 86_400)

    assert long_yard.store.retention.sweep(keep_of).bursts > 0
    assert [record.site for record in caplog.records if record.message == "retention failed"] == ["annex"]


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
