"""Databases of every schema that ever was: each is upgraded, read, checked and goes on, or is refused with 78.

`tests/fixtures/make_schemas.py` says how they were made.
"""

from __future__ import annotations

import json
import lzma
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from alembic.command import upgrade as alembic_upgrade
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from click.testing import CliRunner
from sqlalchemy import MetaData, create_engine

from policies.fold import decode_state
from server.__main__ import command
from server.domain.announcements import Outgoing
from server.domain.keeping import Keep
from server.domain.records import Checkpoint, LoggedEvent
from server.store import Store, open_store
from server.store.care.migrate import _config, _known
from tests.fixtures.make_schemas import BURSTS
from tests.server import databases
from tests.server.scenes import START_US, Yard, there_and_back
from tests.stand_ins import ManualClock

FOLDER = Path(__file__).parents[2] / "fixtures" / "schemas"
NUMBERED = sorted(file.name.removesuffix(".sql.xz") for file in FOLDER.glob("0*.sql.xz"))
OLDER = 3
_NEVER_RELEASED = {"0002", "0004", "0012"}
"""Revisions that came with the next one in one commit."""


class Then:
    """A database as it was then, in a folder of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "sectorwatch.sqlite"
        with closing(sqlite3.connect(self.file)) as connection:
            connection.executescript(lzma.decompress((FOLDER / f"{name}.sql.xz").read_bytes()).decode())

    def asked(self, *arguments: str) -> Any:
        return CliRunner().invoke(command, [*arguments, "--data-dir", str(self.folder)])

    def events(self) -> list[tuple[str, bytes]]:
        """Id and body of each event: both text before schema 0008, bytes since."""
        with closing(sqlite3.connect(self.file)) as connection:
            rows = connection.execute("SELECT id, CAST(body AS BLOB) FROM events ORDER BY seq").fetchall()
        return [(known.hex() if isinstance(known, bytes) else known, body) for known, body in rows]


@pytest.fixture
def then(request: pytest.FixtureRequest, tmp_path: Path) -> Then:
    return Then(request.param, tmp_path)


def test_there_is_a_database_of_every_schema_before_the_present_one() -> None:
    scripts = ScriptDirectory.from_config(_config())
    made = {name[:4] for name in NUMBERED}
    revisions = {script.revision for script in scripts.walk_revisions()} - _NEVER_RELEASED
    assert revisions - made <= {scripts.get_current_head()}


def test_the_files_of_the_migrations_begin_with_the_numbers_of_their_schemas() -> None:
    scripts = list(ScriptDirectory.from_config(_config()).walk_revisions())
    assert _known() == [script.revision for script in reversed(scripts)]


def test_a_command_that_reads_imports_neither_migrations_nor_requests() -> None:
    heavy = "{'alembic', 'requests', 'torch'}"
    code = f"import sys, server.commands.events, server.commands.explain; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("then", NUMBERED, indirect=True)
def test_an_old_database_is_upgraded_with_its_log_as_it_was(then: Then) -> None:
    before = then.events()
    assert len(before) > 5
    upgraded = then.asked("db", "upgrade")
    assert upgraded.exit_code == 0, upgraded.output
    assert then.events() == before
    listed = then.asked("events", "--json")
    assert {json.loads(line)["id"] for line in listed.output.splitlines()} == {event_id for event_id, _ in before}
    at = ("--site", "yard", "--camera", "gate", "--at", "2026-11-22T07:00:10Z")
    for asked in (["db", "info"], ["events"], ["explain", *at], ["db", "check"]):
        done = then.asked(*asked)
        assert done.exit_code == 0, (asked, done.output)


@pytest.mark.parametrize("then", NUMBERED, indirect=True)
def test_what_an_old_database_says_is_repeated_or_explained_by_its_rules(then: Then) -> None:
    then.asked("db", "upgrade")
    assert then.asked("replay", "--check").exit_code in (0, OLDER)
    for event_id, _ in then.events():
        verified = then.asked("verify", event_id)
        assert verified.exit_code in (0, OLDER), verified.output


@pytest.mark.parametrize("then", NUMBERED, indirect=True)
def test_a_policy_of_an_old_database_that_was_altered_is_found(then: Then) -> None:
    then.asked("db", "upgrade")
    with closing(sqlite3.connect(then.file)) as connection, connection:
        connection.execute("UPDATE policies SET body = replace(body, '\"confirm_s\":1.0', '\"confirm_s\":2.0')")
    verified = then.asked("verify", then.events()[0][0])
    assert verified.exit_code == 1
    assert "FAIL policy" in verified.output


@pytest.mark.parametrize("then", NUMBERED, indirect=True)
def test_an_old_database_goes_on_with_somebody_in_view(then: Then) -> None:
    before = len(then.events())
    clock = ManualClock(START_US + 3_600_000_000)
    store = open_store(f"sqlite:///{then.file}", clock)
    store.upgrade()
    (head,) = store.cameras()
    assert not decode_state(head.state).is_empty
    yard = Yard(then.folder / "sites", store, clock)
    for burst in yard.walked(there_and_back, 30)[BURSTS:]:
        yard.pipeline.process(burst)
    assert len(then.events()) > before
    kinds = [logged.event.kind for logged in store.events()]
    assert kinds.count("presence_started") == kinds.count("presence_ended")
    store.close()


@pytest.mark.parametrize("then", ["0010"], indirect=True)
@pytest.mark.parametrize("lost", ["none", "all", "the last"])
def test_the_announcements_of_an_old_database_name_those_before_them_and_go_with_their_events(
    then: Then, lost: str
) -> None:
    """`lost` are links that an old server left out which wrote after the upgrade."""
    then.asked("db", "upgrade")
    if lost != "none":
        which = "seq" if lost == "all" else "(SELECT max(seq) FROM outbox WHERE before_seq IS NOT NULL)"
        with closing(sqlite3.connect(then.file)) as connection, connection:
            assert connection.execute(f"UPDATE outbox SET before_seq = NULL WHERE seq = {which}").rowcount
        assert then.asked("db", "upgrade").exit_code == 0
    query = "SELECT event_id, seq, before_seq FROM outbox ORDER BY event_id, seq"
    with closing(sqlite3.connect(then.file)) as connection:
        rows = connection.execute(query).fetchall()
    last: dict[bytes, int] = {}
    for event_id, seq, before_seq in rows:
        assert before_seq == last.get(event_id)
        last[event_id] = seq
    assert len(last) < len(rows), "an event was announced twice"
    store = open_store(f"sqlite:///{then.file}", ManualClock(START_US + 3_600_000_000))
    store.retention.sweep(lambda _site: Keep(events_days=1e-9))
    store.close()
    with closing(sqlite3.connect(then.file)) as connection:
        left = {event_id for (event_id,) in connection.execute("SELECT id FROM events")}
        announced = {event_id for event_id, _, _ in connection.execute(query)}
    assert announced == left & set(last)
    assert len(announced) < len(last)


@pytest.mark.parametrize("then", ["0008", "0011"], indirect=True)
def test_the_events_of_an_old_database_become_small_and_are_announced_as_before(then: Then) -> None:
    def given(store: Store) -> tuple[list[LoggedEvent], list[Outgoing]]:
        store.add_channel("all")
        return store.events(withdrawn=True), store.claim("all", "a test", 1, 1000)

    then.asked("db", "upgrade")
    store = open_store(f"sqlite:///{then.file}", ManualClock(START_US + 3_600_000_000))
    before, bodies = given(store), then.events()
    store.convert()
    assert given(store) == before
    store.close()
    seqs = [each.seq for each in before[1]]
    assert seqs == sorted(set(seqs))
    assert len(seqs) >= len(before[0]) > 5
    assert max(map(len, dict(then.events()).values())) < 50 < min(map(len, dict(bodies).values()))
    with closing(sqlite3.connect(then.file)) as connection:
        (unlike,) = connection.execute("SELECT count(*) FROM events WHERE kind IS NOT NULL OR burst IS NULL").fetchone()
        (once,) = connection.execute(
            "SELECT count(*) FROM (SELECT 1 FROM outbox GROUP BY event_id HAVING count(*) = 1 AND max(what) = 'event')"
        ).fetchone()
    assert (unlike, once) == (0, 0)


@pytest.mark.parametrize("then", ["0011"], indirect=True)
def test_a_site_of_which_only_a_heartbeat_is_left_is_older_than_kept_pictures(then: Then) -> None:
    with closing(sqlite3.connect(then.file)) as connection:
        connection.execute("INSERT INTO heartbeats VALUES ('barn', 'door', 1, 1, 1, '{}')")
        connection.commit()
    then.asked("db", "upgrade")
    store = open_store(f"sqlite:///{then.file}")
    assert store.frames.older_sites() == {"barn", "yard"}
    store.close()


@pytest.mark.parametrize("then", ["0010"], indirect=True)
def test_postgresql_is_upgraded_with_the_rows_that_it_has(then: Then, postgresql: str) -> None:
    databases.renew(postgresql)
    store = open_store(postgresql, ManualClock(START_US + 3_600_000_000))
    with store._engine.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        alembic_upgrade(config, "0010")
    tables = MetaData()
    tables.reflect(store._engine)
    with store._engine.begin() as connection, closing(sqlite3.connect(then.file)) as old:
        for table in tables.sorted_tables:
            names = [column.name for column in table.columns]
            rows = old.execute(f"SELECT {', '.join(names)} FROM {table.name}").fetchall()
            connection.execute(table.delete())
            if rows:
                connection.execute(table.insert(), [dict(zip(names, row, strict=True)) for row in rows])
    store.upgrade()
    then.asked("db", "upgrade")
    other = open_store(f"sqlite:///{then.file}", ManualClock(START_US + 3_600_000_000))
    for each in (store, other):
        each.add_channel("all")
    assert store.events(withdrawn=True) == other.events(withdrawn=True) != []
    assert store.claim("all", "a test", 1, 1000) == other.claim("all", "a test", 1, 1000)
    store.close()
    other.close()


@pytest.mark.parametrize("then", ["0010"], indirect=True)
def test_the_checkpoints_of_an_old_database_are_those_of_before(then: Then) -> None:
    query = "SELECT at_us, CAST(state AS BLOB) FROM checkpoints ORDER BY at_us"
    with closing(sqlite3.connect(then.file)) as connection:
        before = connection.execute(query).fetchall()
    then.asked("db", "upgrade")
    store = open_store(f"sqlite:///{then.file}")
    assert [store.checkpoint("yard", "gate", at_us + 1) for at_us, _ in before] == [Checkpoint(*row) for row in before]
    store.close()


def test_the_upgrade_writes_each_checkpoint_once(tmp_path: Path) -> None:
    file = tmp_path / "sectorwatch.sqlite"
    engine = create_engine(f"sqlite:///{file}")
    migration = import_module("server.store.migrations.versions.0011_smaller")
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        connection.exec_driver_sql("PRAGMA secure_delete = OFF")
        connection.exec_driver_sql("PRAGMA wal_autocheckpoint = 0")
        connection.exec_driver_sql(
            "CREATE TABLE checkpoints (site TEXT, camera TEXT, at_us BIGINT, state TEXT, "
            "CONSTRAINT pk_checkpoints PRIMARY KEY (site, camera, at_us))"
        )
        rows = [("yard", "gate", number, "x" * 4000) for number in range(1000)]
        connection.exec_driver_sql("INSERT INTO checkpoints VALUES (?, ?, ?, ?)", rows)
        connection.commit()
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        with Operations.context(MigrationContext.configure(connection)):
            migration._make_checkpoints()
        connection.commit()
        written = (tmp_path / f"{file.name}-wal").stat().st_size
        kept = connection.exec_driver_sql("SELECT count(*), sum(length(state)) FROM checkpoints").one()
    engine.dispose()
    assert tuple(kept) == (1000, 4_000_000)
    assert written < 1.5 * 4_000_000, written


@pytest.mark.parametrize("then", ["unnumbered"], indirect=True)
def test_tables_without_the_number_of_their_schema_are_refused_and_no_restart_is_asked_for(then: Then) -> None:
    before = then.file.read_bytes()
    for asked in (["db", "upgrade"], ["events"], ["db", "info"]):
        done = then.asked(*asked)
        assert done.exit_code == 78, done.output
        assert "no number of their schema" in done.output
    assert then.file.read_bytes()[100:] == before[100:]  # the header names the write-ahead log


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "sectorwatch.sqlite"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE albums (title TEXT)")
    done = CliRunner().invoke(command, ["db", "upgrade", "--data-dir", str(tmp_path)])
    assert done.exit_code == 78
    assert "holds tables (albums)" in done.output
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("albums",)]


@pytest.mark.parametrize("content", [b"", b"CREATE TABLE", b"SQLite format 3\0" + bytes(5000)])
def test_a_file_that_is_no_database_ends_no_command_with_a_traceback(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "sectorwatch.sqlite").write_bytes(content)
    for asked in (["events"], ["db", "info"], ["db", "check"], ["doctor"]):
        done = CliRunner().invoke(command, [*asked, "--data-dir", str(tmp_path)])
        assert isinstance(done.exception, SystemExit | None), asked
        assert done.exit_code in ({0, 1, 78} if asked == ["doctor"] else {0, 78}), (asked, done.output)
