"""A damaged SQLite file: derived data is made anew, other damage is named, never copied, and never an endless error."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from policies.events import Event
from server.domain.burst import Burst
from server.domain.errors import RetryLater
from server.domain.records import Checkpoint
from server.domain.refold import steps
from server.store import Store, open_store
from tests.server.scenes import Yard, there_and_back
from tests.stand_ins import ManualClock


def file_of(store: Store) -> Path:
    return Path(store.name.removeprefix("sqlite:///"))


def pages_of(file: Path, table: str) -> list[int]:
    """The pages of a table and of its indexes, after what is in the log has been put into the file."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        query = "SELECT pageno FROM dbstat WHERE name IN (SELECT name FROM sqlite_schema WHERE tbl_name = ?)"
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
