"""A backup takes the place of a database, which is kept; agents' repeats are taken as usual."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from server.domain.errors import ConfigurationError, Conflict, DatabaseDamaged
from server.store import Store, open_store
from tests.server.launched import ROOT
from tests.server.scenes import Yard, there_and_back
from tests.server.store.damage.files import file_of, overwrite, told
from tests.server.store.test_store import snapshot
from tests.stand_ins import ManualClock


def yard_on(store: Store, folder: Path, clock: ManualClock) -> Yard:
    return Yard(folder, store, clock)


@pytest.fixture
def yard(tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock) -> Yard:
    return Yard(tmp_path / "sites", open_store(new_sqlite(), clock), clock)


def test_after_an_old_backup_agents_send_again_and_the_log_is_that_of_a_clean_run(
    yard: Yard, tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock
) -> None:
    bursts = yard.walked(there_and_back, 30)
    clean = Yard(tmp_path / "clean", open_store(new_sqlite(), clock), clock)
    for one in clean.walked(there_and_back, 30):
        clean.pipeline.process(one)
    for one in bursts[:6]:
        yard.pipeline.process(one)
    yard.store.backup(tmp_path / "copy.sqlite")
    at_backup = snapshot(yard.store)
    for one in bursts[6:10]:
        yard.pipeline.process(one)
    before = snapshot(yard.store)
    kept = yard.store.restore(tmp_path / "copy.sqlite")
    assert snapshot(yard.store) == at_backup
    receipts = [yard.pipeline.process(one) for one in bursts[3:]]
    assert [receipt.known for receipt in receipts] == [True] * 3 + [False] * 9
    assert told(yard.store) == told(clean.store)
    assert kept is not None
    old = open_store(f"sqlite:///{kept}", clock)
    assert snapshot(old) == before
    for store in (old, clean.store, yard.store):
        store.close()


def test_the_log_of_the_old_database_is_kept_with_it_and_not_taken_for_the_new_ones(
    yard: Yard, tmp_path: Path, clock: ManualClock
) -> None:
    bursts = yard.walked(there_and_back, 30)
    yard.pipeline.process(bursts[0])
    yard.store.backup(tmp_path / "copy.sqlite")
    wanted = snapshot(yard.store)
    for one in bursts[1:5]:
        yard.pipeline.process(one)
    file = file_of(yard.store)
    log = file.with_name(f"{file.name}-wal").read_bytes()
    shutil.copy(file, tmp_path / "killed.sqlite")  # as a server that was killed leaves them
    (tmp_path / "killed.sqlite-wal").write_bytes(log)
    before = snapshot(yard.store)
    yard.store.close()
    killed = open_store(f"sqlite:///{tmp_path}/killed.sqlite", clock)
    kept = killed.restore(tmp_path / "copy.sqlite")
    assert kept is not None
    assert snapshot(killed) == wanted
    old = open_store(f"sqlite:///{kept}", clock)
    assert snapshot(old) == before
    for store in (killed, old):
        store.close()


def test_a_database_is_restored_where_there_is_none_or_a_damaged_one(yard: Yard, tmp_path: Path) -> None:
    yard.pipeline.process(yard.walk(0, there_and_back, 0.0))
    yard.store.backup(tmp_path / "copy.sqlite")
    wanted = snapshot(yard.store)
    file = file_of(yard.store)
    yard.store.close()
    for content in (None, b"", b"no database at all" * 999, file.read_bytes()[:4097]):
        target = tmp_path / "data" / "sectorwatch.sqlite"
        shutil.rmtree(target.parent, ignore_errors=True)
        if content is not None:
            target.parent.mkdir()
            target.write_bytes(content)
        store = open_store(f"sqlite:///{target}")
        kept = store.restore(tmp_path / "copy.sqlite")
        assert (None if kept is None else kept.read_bytes()) == content
        assert snapshot(store) == wanted
        assert target.stat().st_mode & 0o777 == 0o600
        store.close()


def test_a_backup_that_cannot_be_used_changes_nothing(yard: Yard, tmp_path: Path) -> None:
    for number in range(8):
        yard.pipeline.process(yard.walk(number, there_and_back, number * 2.0))
    file, good = file_of(yard.store), tmp_path / "good.sqlite"
    yard.store.backup(good)
    for name in ("newer", "strange", "damaged"):
        shutil.copy(good, tmp_path / f"{name}.sqlite")
    with closing(sqlite3.connect(tmp_path / "newer.sqlite")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with closing(sqlite3.connect(tmp_path / "strange.sqlite")) as connection, connection:
        connection.execute("DROP TABLE alembic_version")
    overwrite(tmp_path / "damaged.sqlite", [9, 10, 11])
    (tmp_path / "text.sqlite").write_text("CREATE TABLE")
    (tmp_path / "empty.sqlite").touch()
    before = snapshot(yard.store)
    for name, error, why in (
        ("newer", ConfigurationError, "a newer Sectorwatch made it"),
        ("strange", ConfigurationError, "no number of their schema"),
        ("damaged", DatabaseDamaged, "damaged"),
        ("text", ConfigurationError, "file is not a database"),
        ("empty", ConfigurationError, "holds no tables"),
        ("none", ConfigurationError, "there is no file"),
    ):
        with pytest.raises(error, match=why):
            yard.store.restore(tmp_path / f"{name}.sqlite")
    with pytest.raises(ConfigurationError, match="is the database itself"):
        yard.store.restore(file)
    assert snapshot(yard.store) == before
    assert not list(tmp_path.glob("*.before-*"))
    yard.store.close()


def test_nothing_is_restored_under_a_process_that_has_the_database_open(yard: Yard, tmp_path: Path) -> None:
    yard.pipeline.process(yard.walk(0, there_and_back, 0.0))
    yard.store.backup(tmp_path / "copy.sqlite")
    file = file_of(yard.store)
    yard.store.close()
    holds = (
        f"import sys; from server.store import open_store; s = open_store('sqlite:///{file}'); s.events(); "
        "print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holds],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(Conflict, match="is in use: stop the server"):
            yard.store.restore(tmp_path / "copy.sqlite")
        process.communicate(timeout=60)
    assert yard.store.restore(tmp_path / "copy.sqlite") is not None


def test_the_backup_itself_is_neither_changed_nor_written_beside(yard: Yard, tmp_path: Path) -> None:
    yard.pipeline.process(yard.walk(0, there_and_back, 0.0))
    (tmp_path / "backups").mkdir()
    copy = tmp_path / "backups" / "copy.sqlite"
    yard.store.backup(copy)
    content = copy.read_bytes()
    yard.store.restore(copy)
    assert [each.name for each in (tmp_path / "backups").iterdir()] == ["copy.sqlite"]
    assert copy.read_bytes() == content


def test_postgresql_has_ways_of_its_own(tmp_path: Path) -> None:
    store = open_store("postgresql://nobody@nowhere/nothing")
    with pytest.raises(ConfigurationError, match="pg_restore"):
        store.restore(tmp_path / "copy.sqlite")
    with pytest.raises(ConfigurationError, match="pg_amcheck"):
        store.salvage(tmp_path / "copy.sqlite")
    assert store.integrity() is None
