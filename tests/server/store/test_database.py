"""What becomes of a database that is old, new, damaged, full, away or copied; and how long anybody waits for it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, event, func, insert, select
from sqlalchemy.exc import DBAPIError

from server.app import create_app, runtime_of
from server.domain.errors import ConfigurationError, Conflict, RetryLater, Unknown, Unprocessable
from server.settings import ServerSettings
from server.store import Store, data_dictionary, open_store
from server.store.engine import busy_s, leave_to_others, open_engine, reading, writing
from server.store.schema import metadata, panels
from tests.server.scenes import Yard, across
from tests.server.store.test_store import snapshot
from tests.stand_ins import ManualClock


def test_the_migrations_make_the_tables_that_the_schema_describes(store: Store) -> None:
    with store._engine.begin() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    of_structure = [d for d in differences if "comment" not in str(d[0] if isinstance(d, tuple) else d[0][0])]
    assert of_structure == []


def test_every_table_and_column_says_what_it_means() -> None:
    assert [c for table in metadata.sorted_tables for c in (table, *table.columns) if not c.comment] == []
    assert any("observations: " in line for line in data_dictionary())


def test_upgrading_twice_or_by_two_at_once_is_safe(database_url: str, clock: ManualClock) -> None:
    stores = [open_store(database_url, clock) for _ in range(2)]
    assert stores[0].revision().present is None
    with ThreadPoolExecutor(2) as both:
        revisions = list(both.map(Store.upgrade, stores))
    assert all(revision.is_current for revision in revisions)
    assert stores[0].upgrade().is_current
    assert stores[0].counts()["counters"] == 2
    for store in stores:
        store.close()


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "mysql://x/y", "no url at all", "postgresql://[::1/x"]
)
def test_a_database_that_cannot_serve_is_refused_with_what_to_do(url: str) -> None:
    with pytest.raises(ConfigurationError):
        open_store(url)


def test_a_database_that_does_not_answer_means_later(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/there/is/no/folder.sqlite")
    with pytest.raises(RetryLater, match="nothing was changed"):
        store.known("burst-00001")


def test_a_file_that_is_no_database_or_is_damaged_needs_its_operator(
    tmp_path: Path, new_sqlite: Callable[[], str]
) -> None:
    (tmp_path / "note.sqlite").write_text("not a database")
    damaged = Path(new_sqlite().removeprefix("sqlite:///"))
    damaged.write_bytes(damaged.read_bytes()[:5000] + bytes(50_000))
    for path in (tmp_path / "note.sqlite", damaged):
        store = open_store(f"sqlite:///{path}")
        for ask in (store.revision, store.upgrade, store.counts):
            with pytest.raises(ConfigurationError, match=r"cannot be used|is damaged"):
                ask()
        store.close()


def test_a_database_that_only_reads_means_later(store: Store) -> None:
    on_sqlite = store.name.startswith("sqlite:")
    url = store._engine.url.render_as_string(hide_password=False)
    name = url.replace("sqlite:///", "sqlite:///file:") if on_sqlite else url
    only_reading = "?mode=ro&uri=true" if on_sqlite else "&options=-c%20default_transaction_read_only%3Don"
    reader = open_store(name + only_reading)
    with pytest.raises(RetryLater, match=r"read-?only"):
        reader.add_channel("log")
    reader.close()


def test_a_database_whose_tables_are_gone_is_no_unforeseen_error(store: Store) -> None:
    with store._engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE tokens")
    with pytest.raises((RetryLater, ConfigurationError), match=r"tokens.*nothing was changed"):
        store.has_tokens()


def test_the_database_of_a_newer_version_is_refused_and_left_as_it_is(store: Store) -> None:
    with store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    before = snapshot(store)
    for ask in (store.revision, store.upgrade):
        with pytest.raises(ConfigurationError, match=r"schema 9999.*a newer Sectorwatch made it"):
            ask()
    assert snapshot(store) == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match=f"cannot make the folder {tmp_path}/file/data: "):
        open_store(f"sqlite:///{tmp_path}/file/data/new.sqlite").upgrade()


def test_on_sqlite_readers_do_not_wait_for_those_who_wait_to_write(new_sqlite: Callable[[], str]) -> None:
    store = open_store(new_sqlite())
    with ExitStack() as many:
        for _ in range(50):
            many.enter_context(reading(store._engine))
        assert store.last_seq() == 0
    store.close()


def test_on_sqlite_the_writers_of_a_process_take_turns_and_none_polls_for_the_lock(
    new_sqlite: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as opening:
        opening.setattr("server.store.engine.BUSY_TIMEOUT_S", 0.0)  # SQLite refuses whoever finds it locked
        engine = open_engine(new_sqlite())
    together = Barrier(8)

    def write(number: int) -> None:
        together.wait(10.0)
        for count in range(10):
            with writing(engine, lock="x") as connection:
                connection.execute(insert(panels), {"ensemble": f"{number}-{count}", "body": "{}"})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    with reading(engine) as connection:
        assert connection.execute(select(func.count()).select_from(panels)).scalar_one() == 80
    engine.dispose()


def test_a_database_whose_machine_is_gone_is_given_up_soon_or_when_its_url_says() -> None:
    engine = open_engine("postgresql://nobody@nowhere/nothing?connect_timeout=3")
    asked: dict[str, Any] = {}

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, _args: Any, named: dict[str, Any]) -> None:
        asked.update(named)
        raise ConnectionError

    with pytest.raises(ConnectionError), engine.connect():
        pass
    assert int(asked["connect_timeout"]) == 3
    assert asked["tcp_user_timeout"] <= 30_000
    assert asked["keepalives_idle"] + asked["keepalives_interval"] * asked["keepalives_count"] <= 30


def test_a_turn_waits_for_another_within_bounds(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.store.engine.BUSY_TIMEOUT_S", 0.1)
    open_store(database_url).upgrade()
    engine = open_engine(database_url)
    with writing(engine, "gate"), pytest.raises(RetryLater, match="nothing was changed"), writing(engine, "gate"):
        pass
    with writing(engine, "gate"):
        pass
    engine.dispose()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_turn_whose_server_is_paused_is_ended_by_the_database(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.store.engine.IDLE_TIMEOUT_S", 0.1)
    paused, engine = open_engine(database_url), open_engine(database_url)
    turn = ExitStack()
    turn.enter_context(writing(paused, "gate"))
    with writing(engine, "gate"):
        pass
    with pytest.raises((RetryLater, DBAPIError)):
        turn.close()
    with writing(paused, "gate"):
        pass
    for one in (paused, engine):
        one.dispose()


def test_no_connection_that_is_free_means_later(database_url: str) -> None:
    engine = create_engine(open_engine(database_url).url, pool_size=1, max_overflow=0, pool_timeout=0.0)
    with reading(engine), pytest.raises(RetryLater, match="in use"), reading(engine):
        pass
    engine.dispose()


@pytest.mark.parametrize("ask", [lambda store: store.events(after_seq=2**63), lambda store: store.kept("\0")])
def test_what_the_database_cannot_hold_is_refused(store: Store, ask: Callable[[Store], object]) -> None:
    with pytest.raises((Unprocessable, Unknown)):
        ask(store)


def test_a_backup_is_one_moment_of_the_database_whole_though_a_turn_is_under_way(
    tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock
) -> None:
    yard = Yard(tmp_path / "sites", open_store(new_sqlite(), clock), clock)
    for one in yard.walked(across, 12):
        yard.pipeline.process(one)
    before = snapshot(yard.store)
    with yard.store.turn("yard", "gate"):
        yard.store.backup(tmp_path / "copy.sqlite")
    yard.pipeline.process(yard.walk(6, across, 12.0))
    copy = open_store(f"sqlite:///{tmp_path}/copy.sqlite", clock)
    assert snapshot(copy) == before
    Yard(tmp_path / "sites", copy, clock).pipeline.process(yard.walk(6, across, 12.0))
    assert [e.event for e in copy.events()] == [e.event for e in yard.store.events()]
    for store in (copy, yard.store):
        store.close()


def test_a_backup_that_cannot_be_made_says_why_and_leaves_nothing(
    tmp_path: Path, new_sqlite: Callable[[], str]
) -> None:
    store, file = open_store(new_sqlite()), tmp_path / "kept.sqlite"
    file.write_text("last week's")
    with pytest.raises(Conflict, match="not written over"):
        store.backup(file)
    with pytest.raises(ConfigurationError, match="no copy was made"):
        store.backup(tmp_path / "nowhere" / "copy.sqlite")
    with pytest.raises(ConfigurationError, match="there is no database"):
        open_store(f"sqlite:///{tmp_path}/none.sqlite").backup(tmp_path / "copy.sqlite")
    with pytest.raises(ConfigurationError, match="pg_dump"):
        open_store("postgresql://nobody@nowhere/nothing").backup(tmp_path / "copy.sqlite")
    assert file.read_text() == "last week's"
    assert not list(tmp_path.glob("*copy*"))


def test_a_password_is_not_shown() -> None:
    assert "secret" not in open_store("postgresql://me:secret@nowhere/db").name


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:zQ7x/zQ7x@h/db",
        "postgresql://u:zQ7x#?@h/db",
        "postgresql://h/db?password=zQ7x&sslpassword=zQ7x",
        "postgresql+psycopg://u:zQ7x@h/db?connect_timeout=2",
    ],
)
def test_a_password_is_not_shown_wherever_it_stands_in_the_url(url: str) -> None:
    shown = open_store(url).name
    assert "zQ7x" not in shown
    assert "h/db" in shown


def test_a_password_with_an_at_is_refused_with_how_to_write_it() -> None:
    with pytest.raises(ConfigurationError, match=r"write @ as %40") as caught:
        open_store("postgresql://u:zQ7x@zQ7x@h/db")
    assert "zQ7x" not in str(caught.value)


def test_waiting_for_the_lock_counts_as_no_work_and_leaves_nothing_more_to_others(
    new_sqlite: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, now_s = open_engine(new_sqlite()), [100.0]
    monkeypatch.setattr("server.store.engine.time.monotonic", lambda: now_s[0])

    def held_by_another(_connection: object) -> None:
        now_s[0] += 30.0

    event.listen(engine, "begin", held_by_another)
    waits_s: list[float] = []
    begun_s = busy_s()
    with writing(engine, lock="one"):
        now_s[0] += 1.0
    leave_to_others(waits_s.append, begun_s)
    assert waits_s == pytest.approx([4.0])
    engine.dispose()


def test_a_server_has_a_connection_for_each_thread_that_may_ask_the_database(database_url: str, tmp_path: Path) -> None:
    settings = ServerSettings(data_dir=tmp_path, database_url=database_url, threads=8, admission_limit=4)
    store = runtime_of(create_app(settings, channels=[])).store
    with ExitStack() as stack:
        for _ in range(settings.connections):
            stack.enter_context(reading(store._engine)).execute(select(1))
    assert settings.connections > settings.threads + 10
    store.close()
