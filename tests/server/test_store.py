"""The store's obligations, on every database engine: all of a turn or nothing, in order, nothing twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, event
from sqlalchemy.exc import DBAPIError

from server.errors import Broken, Conflict, Later, Unknown, Unusable
from server.store import Store, data_dictionary, open_store
from server.store.engine import open_engine, reading, writing
from server.store.schema import metadata
from tests.server import databases
from tests.server.scenes import START_US, Yard, across, burst
from tests.stand_ins import ManualClock


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock) -> Yard:
    return Yard(tmp_path / "sites", store, clock)


@pytest.fixture
def walked(yard: Yard) -> Yard:
    """A yard whose store holds a whole walk."""
    for one in yard.walked(across, 26):
        yard.pipeline.process(one)
    return yard


def snapshot(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Everything a store holds."""
    with store._engine.begin() as connection:
        return {
            table.name: sorted(tuple(row) for row in connection.execute(table.select()))
            for table in metadata.sorted_tables
        }


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
    assert stores[0].counts()["counters"] == 1
    for store in stores:
        store.close()


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "mysql://x/y", "no url at all", "postgresql://[::1/x"]
)
def test_a_database_that_cannot_serve_is_refused_with_what_to_do(url: str) -> None:
    with pytest.raises(Broken):
        open_store(url)


def test_a_database_that_does_not_answer_means_later(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/there/is/no/folder.sqlite")
    with pytest.raises(Later, match="nothing was changed"):
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
            with pytest.raises(Broken, match="cannot be used"):
                ask()
        store.close()


def test_a_database_that_only_reads_means_later(store: Store) -> None:
    on_sqlite = store.name.startswith("sqlite:")
    name = store.name.replace("sqlite:///", "sqlite:///file:") if on_sqlite else store.name
    only_reading = "?mode=ro&uri=true" if on_sqlite else "&options=-c%20default_transaction_read_only%3Don"
    reader = open_store(name + only_reading)
    with pytest.raises(Later, match=r"read-?only"):
        reader.add_channel("log")
    reader.close()


def test_a_database_whose_tables_are_gone_is_no_unforeseen_error(store: Store) -> None:
    with store._engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE tokens")
    with pytest.raises((Later, Broken), match=r"tokens.*nothing was changed"):
        store.has_tokens()


def test_the_database_of_a_newer_version_is_refused_and_left_as_it_is(store: Store) -> None:
    with store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    before = snapshot(store)
    for ask in (store.revision, store.upgrade):
        with pytest.raises(Broken, match=r"schema 9999.*a newer Sectorwatch made it"):
            ask()
    assert snapshot(store) == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Broken, match=f"cannot make the folder {tmp_path}/file/data: "):
        open_store(f"sqlite:///{tmp_path}/file/data/new.sqlite").upgrade()


def test_on_sqlite_readers_do_not_wait_for_those_who_wait_to_write(new_sqlite: Callable[[], str]) -> None:
    store = open_store(new_sqlite())
    with ExitStack() as many:
        for _ in range(50):
            many.enter_context(reading(store._engine))
        assert store.last_seq() == 0
    store.close()


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
    with writing(engine, "gate"), pytest.raises(Later, match="nothing was changed"), writing(engine, "gate"):
        pass
    with writing(engine, "gate"):
        pass
    engine.dispose()


@pytest.mark.parametrize("database_url", [name for name in databases.NAMES if name != "sqlite"], indirect=True)
def test_a_turn_whose_server_is_paused_is_ended_by_the_database(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.store.engine.IDLE_TIMEOUT_S", 0.1)
    paused, engine = open_engine(database_url), open_engine(database_url)
    turn = ExitStack()
    turn.enter_context(writing(paused, "gate"))
    with writing(engine, "gate"):
        pass
    with pytest.raises((Later, DBAPIError)):
        turn.close()
    with writing(paused, "gate"):
        pass
    for one in (paused, engine):
        one.dispose()


def test_no_connection_that_is_free_means_later(database_url: str) -> None:
    engine = create_engine(open_engine(database_url).url, pool_size=1, max_overflow=0, pool_timeout=0.0)
    with reading(engine), pytest.raises(Later, match="in use"), reading(engine):
        pass
    engine.dispose()


@pytest.mark.parametrize("ask", [lambda store: store.events(after_seq=2**63), lambda store: store.kept("\0")])
def test_what_the_database_cannot_hold_is_refused(store: Store, ask: Callable[[Store], object]) -> None:
    with pytest.raises((Unusable, Unknown)):
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
    with pytest.raises(Broken, match="no copy was made"):
        store.backup(tmp_path / "nowhere" / "copy.sqlite")
    with pytest.raises(Broken, match="there is no database"):
        open_store(f"sqlite:///{tmp_path}/none.sqlite").backup(tmp_path / "copy.sqlite")
    with pytest.raises(Broken, match="pg_dump"):
        open_store("postgresql://nobody@nowhere/nothing").backup(tmp_path / "copy.sqlite")
    assert file.read_text() == "last week's"
    assert not list(tmp_path.glob("*copy*"))


def test_a_password_is_not_shown() -> None:
    assert "secret" not in open_store("postgresql://me:secret@nowhere/db").name


class Interrupted(Exception):
    """Stands for whatever ends a process in the middle of a turn."""


class Interruption:
    """Raises at the n-th statement sent to the store's database, counted from 1."""

    def __init__(self, store: Store, at: int) -> None:
        self._left = at
        self._engine = store._engine

    def __enter__(self) -> Interruption:
        event.listen(self._engine, "before_cursor_execute", self._count)
        event.listen(self._engine, "commit", self._count)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(self._engine, "before_cursor_execute", self._count)
        event.remove(self._engine, "commit", self._count)

    def _count(self, *_: object) -> None:
        self._left -= 1
        if self._left == 0:
            raise Interrupted


def test_a_turn_that_is_interrupted_at_any_statement_leaves_nothing_and_can_be_done_again(yard: Yard) -> None:
    first, late, last = (yard.walk(n, across, at_s) for n, at_s in ((1, 2), (2, 6), (3, 10)))
    yard.pipeline.process(first)
    yard.pipeline.process(last)
    before = snapshot(yard.store)
    for statement in range(1, 200):
        try:
            with Interruption(yard.store, statement):
                yard.pipeline.process(late)
        except Interrupted:
            if yard.store.known(late.burst_id) is None:
                assert snapshot(yard.store) == before
                continue
            break  # interrupted after the commit, on the way to the answer
        break
    assert statement > 15, "the turn was interrupted at each of its statements"
    assert yard.pipeline.process(late).known is True
    assert yard.store.counts()["observations"] == 12


def test_turns_of_one_camera_wait_for_each_other(yard: Yard) -> None:
    entered, order = threading.Event(), []

    def first() -> None:
        with yard.store.turn("yard", "gate"):
            entered.set()
            threads[1].start()
            threads[1].join(timeout=0.3)
            order.append("first")

    def second() -> None:
        entered.wait(timeout=10)
        with yard.store.turn("yard", "gate"):
            order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    threads[0].join(timeout=30)
    threads[1].join(timeout=30)
    assert order == ["first", "second"]


def test_what_a_turn_raises_undoes_it(yard: Yard) -> None:
    yard.pipeline.process(yard.walk(1, across, 2))
    before = snapshot(yard.store)
    entry = yard.pipeline._judged(yard.walk(2, across, 4))

    def interrupted() -> None:
        with yard.store.turn("yard", "gate") as turn:
            turn.keep(entry)
            assert turn.known(entry.burst.burst_id) is not None
            raise Interrupted

    with pytest.raises(Interrupted):
        interrupted()
    assert snapshot(yard.store) == before


def test_observations_come_back_bit_for_bit_and_in_order(yard: Yard) -> None:
    bursts = yard.walked(across, 8)
    entries = [yard.pipeline._judged(one) for one in bursts]
    for one in reversed(bursts):
        yard.pipeline.process(one)
    given = [seen for entry in entries for seen in entry.observations]
    assert list(yard.store.observations("yard", "gate")) == given
    since, until = given[3].at_us, given[9].at_us
    assert list(yard.store.observations("yard", "gate", since, until)) == given[3:9]
    assert list(yard.store.observations("yard", "door")) == []


def test_equal_instants_are_ordered_by_burst_id_byte_by_byte(yard: Yard) -> None:
    for name in ("b-burst-1", "B-burst-1", "a_burst-1", "a-burst-1"):
        yard.pipeline.process(burst(0, [yard.picture()], 0, burst_id=name))
    order = [seen.burst_id for seen in yard.store.observations("yard", "gate")]
    assert order == sorted(order)


def test_events_are_found_by_time_place_and_kind(walked: Yard) -> None:
    every = walked.store.events()
    assert [e.event.confirmed_at for e in every] == sorted(e.event.confirmed_at for e in every)
    middle = START_US + 12_000_000
    early, late = walked.store.events(until_us=middle), walked.store.events(since_us=middle)
    assert early
    assert late
    assert early + late == every
    assert {e.event.kind for e in walked.store.events(kind="left")} == {"left"}
    assert walked.store.events(site="yard", camera="gate") == every
    assert walked.store.events(camera="door") == []
    assert walked.store.events(limit=2) == every[:2]


def test_a_follower_gets_everything_once_in_the_order_it_was_said(yard: Yard) -> None:
    seen: list[int] = []
    for one in yard.walked(across, 26):
        yard.pipeline.process(one)
        seen += [logged.seq for logged in yard.store.events(after_seq=seen[-1] if seen else 0)]
    assert seen == list(range(1, yard.store.last_seq() + 1))


def test_checkpoints_stay_few(yard: Yard) -> None:
    for n in range(60):
        yard.pipeline.process(yard.walk(n, across, n * 2.0))
    assert yard.store.counts()["bursts"] == 60
    assert yard.store.counts()["checkpoints"] <= 2 * 8


def test_cameras_tell_how_far_they_have_advanced(yard: Yard) -> None:
    yard.pipeline.process(yard.walk(1, across, 2))
    (head,) = yard.store.cameras()
    assert (head.site, head.camera, head.last_at_us) == ("yard", "gate", START_US + 3_500_000)
    assert head.changed_at_us == yard.clock.now_us


def test_every_policy_version_that_judged_a_burst_is_kept_as_it_was(yard: Yard) -> None:
    yard.pipeline.process(yard.walk(1, across, 2))
    policy = yard.sites.policy("yard")
    assert open_again(yard.store).policy(policy.digest) == policy


def open_again(store: Store) -> Store:
    return open_store(store._engine.url.render_as_string(hide_password=False))


def test_an_unknown_burst_is_unknown(store: Store) -> None:
    assert store.known("burst-00001") is None
    with pytest.raises(Unknown):
        store.kept("burst-00001")
    with pytest.raises(Unknown):
        store.decisions("burst-00001")


def test_tokens_are_found_listed_and_revoked_for_good(store: Store, clock: ManualClock) -> None:
    assert store.has_tokens() is False
    made = store.add_token("0a1b", "gate", "yard", "gate", "hash")
    clock.advance(1)
    store.add_token("2c3d", "all", "yard", None, "hash")
    assert store.token("0a1b") == made
    assert store.token("none") is None
    assert [token.id for token in store.list_tokens()] == ["0a1b", "2c3d"]
    clock.advance(1)
    store.revoke_token("0a1b")
    revoked = store.token("0a1b")
    clock.advance(1)
    store.revoke_token("0a1b")
    assert revoked is not None
    assert (revoked.is_valid, revoked.revoked_at_us) == (False, clock.now_us - 1_000_000)
    assert store.token("0a1b") == revoked
    with pytest.raises(Unknown):
        store.revoke_token("none")
    assert store.has_tokens() is True
