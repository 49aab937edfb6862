"""Derived data that cannot be read is made anew, and told once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from policies.events import Event
from server.domain.burst import Burst
from server.domain.folding.refold import steps
from server.domain.keeping import Keep
from server.domain.records import Checkpoint
from server.store import Store
from tests.server.scenes import START_US, Yard, there_and_back
from tests.server.store.damage.files import file_of, overwrite, sent, told


def pages_of(file: Path, table: str) -> list[int]:
    """The pages of a table and of its indexes, after what is in the log has been put into the file."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        query = "SELECT pageno FROM dbstat WHERE name IN (SELECT name FROM sqlite_schema WHERE tbl_name = ?)"
        return [page for (page,) in connection.execute(query, (table,))]


def refolded(store: Store) -> list[Event]:
    history = store.history("yard", "gate")
    return [event for step in steps(history, Checkpoint(None, None), store.policy) for event in step.events]


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
