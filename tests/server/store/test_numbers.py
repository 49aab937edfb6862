"""Numbers of announcements on PostgreSQL: turns of different cameras do not wait, and cursors miss nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, func, select

from server.domain.announcements import Announcement, Outgoing
from server.domain.burst import Burst
from server.store import Store, open_store
from server.store.events import outbox
from server.store.schema import events as event_rows
from server.store.schema import outbox as outbox_rows
from tests.benchmarks.fleet.past import add_events
from tests.server import databases
from tests.server.scenes import START_US, Yard, across, burst, there_and_back
from tests.stand_ins import ManualClock

LEASE_US = 30_000_000
CAMERAS = ("gate", "lane", "door", "roof", "yard")
LONGEST_S = 60.0
"""A test that waits longer has failed."""


@pytest.fixture(name="open_yard")
def _open_yard(postgresql: str, tmp_path: Path, clock: ManualClock) -> Iterator[Callable[[], Yard]]:
    """Opens servers in small, all on one database."""
    databases.renew(postgresql, is_migrated=True)
    stores: list[Store] = []

    def make() -> Yard:
        stores.append(open_store(postgresql, clock))
        return Yard(tmp_path / "sites", stores[-1], clock)

    yield make
    for store in stores:
        store.close()


def walked(yard: Yard, camera: str, path: Callable[[float], float | None] = across, until_s: int = 26) -> list[Burst]:
    """A walk past a camera, in bursts of four frames without a gap."""
    found: list[Burst] = []
    for number in range(until_s // 2):
        instants = [2 * number + i / 2 for i in range(4)]
        images = [yard.picture(*([] if path(t) is None else [path(t)]), at_s=t) for t in instants]
        found.append(burst(number, images, 2 * number, camera=camera, burst_id=f"{camera}-{number:05d}"))
    return found


def send(yard: Yard, bursts: Sequence[Burst]) -> None:
    for one in bursts:
        yard.pipeline.process(one)


class Held:
    """A server whose next transaction with a statement stays open until it is let go: just before this statement, or
    its commit.
    """

    def __init__(self, store: Store, statement: str, at: str) -> None:
        self.is_open = threading.Event()
        self._may_end = threading.Event()
        self._statement = statement
        self._at = at
        event.listen(store._engine, "before_cursor_execute", self._note)
        event.listen(store._engine, "commit", self._end)

    def _note(self, connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(self._statement):
            return
        connection.info["held"] = True
        if self._at == "statement":
            self._wait()

    def _end(self, connection: Connection) -> None:
        if connection.info.pop("held", False):
            self._wait()

    def _wait(self) -> None:
        self.is_open.set()
        assert self._may_end.wait(LONGEST_S)

    def let_go(self) -> None:
        self._may_end.set()


@contextmanager
def held_open(store: Store, work: Callable[[], object], statement: str, at: str = "commit") -> Iterator[Future[object]]:
    """A thread at work on a store, whose first transaction with a statement stays open inside of the block."""
    held = Held(store, statement, at)
    with ThreadPoolExecutor(1) as worker:
        done = worker.submit(work)
        try:
            assert held.is_open.wait(LONGEST_S)
            yield done
        finally:
            held.let_go()
        done.result(LONGEST_S)


def claimed(store: Store, limit: int = 1000) -> list[Outgoing]:
    """What a channel gets now. It counts as delivered."""
    found = store.claim("phone", "ours", LEASE_US, limit)
    if found:
        assert store.delivered("phone", "ours", found[-1].seq)
    return found


def told(outgoing: Sequence[Outgoing], camera: str | None = None) -> list[tuple[str, str]]:
    """What is announced of which event (of a camera), in order."""
    each = [one for one in outgoing if isinstance(one, Announcement)]
    return [(one.what, one.logged.event.id) for one in each if camera in (None, one.logged.event.camera)]


def alone(new_sqlite: Callable[[], str], yard: Yard, bursts: Sequence[Burst]) -> list[Outgoing]:
    """What a channel gets of these bursts on SQLite, where a turn takes numbers itself."""
    store = open_store(new_sqlite(), yard.clock)
    other = Yard(yard.folder, store, yard.clock)
    other.pipeline._ensemble = yard.ensemble
    store.add_channel("phone")
    send(other, bursts)
    found = claimed(store)
    store.close()
    return found


def unnumbered(store: Store) -> int:
    with store._engine.connect() as connection:
        return sum(
            connection.execute(select(func.count()).where(table.c.seq < 0)).scalar_one()
            for table in (event_rows, outbox_rows)
        )


@pytest.mark.parametrize("table", ["events", "burst_records"])
def test_a_turn_does_not_wait_for_an_open_one_of_another_camera_that_also_is_the_first(
    open_yard: Callable[[], Yard], table: str
) -> None:
    slow, quick = open_yard(), open_yard()
    quick.store.add_channel("phone")
    with held_open(slow.store, partial(send, slow, walked(slow, "gate")), f"INSERT INTO {table} ") as sent:
        send(quick, walked(quick, "lane"))
        of_lane = claimed(quick.store)
        assert len(told(of_lane, "lane")) == len(of_lane) > 0
        assert not sent.done()
    of_gate = claimed(quick.store)
    assert len(told(of_gate, "gate")) == len(of_gate) > 0
    assert [each.seq for each in [*of_lane, *of_gate]] == [*range(1, len(of_lane) + len(of_gate) + 1)]


def test_with_many_writers_a_channel_and_a_follower_see_numbers_without_gaps_in_order(
    open_yard: Callable[[], Yard], new_sqlite: Callable[[], str]
) -> None:
    yards = {camera: open_yard() for camera in CAMERAS}
    reader = open_yard().store
    reader.add_channel("phone")
    walks = {camera: walked(yard, camera, there_and_back, 60) for camera, yard in yards.items()}
    got: list[Outgoing] = []
    followed: list[int] = []

    def read() -> bool:
        """Whether anything was there. Both go on right after what they have."""
        some, news = claimed(reader, 3), reader.events(after_seq=len(followed), limit=3)
        got.extend(some)
        followed.extend(each.seq for each in news)
        assert [each.seq for each in some] == [*range(len(got) - len(some) + 1, len(got) + 1)]
        assert followed == [*range(1, len(followed) + 1)]
        return bool(some or news)

    with ThreadPoolExecutor(len(CAMERAS)) as senders:
        sent = [senders.submit(send, yard, walks[camera]) for camera, yard in yards.items()]
        while not all(each.done() for each in sent):
            read()
        for each in sent:
            each.result()
    while read():
        pass
    for camera, yard in yards.items():
        assert told(got, camera) == told(alone(new_sqlite, yard, walks[camera])), camera
    assert len(followed) == len(got) == reader.last_seq() > len(CAMERAS)


def test_numbers_that_a_killed_server_did_not_give_are_given_by_the_next(
    open_yard: Callable[[], Yard], new_sqlite: Callable[[], str]
) -> None:
    killed, heir = open_yard(), open_yard()
    bursts = walked(killed, "gate")
    heir.store.add_channel("phone")
    send(killed, bursts)
    waiting = unnumbered(heir.store)

    def die(_connection: Connection) -> None:
        raise KeyboardInterrupt

    event.listen(killed.store._engine, "commit", die)
    with pytest.raises(KeyboardInterrupt):
        killed.store.last_seq()
    assert unnumbered(heir.store) == waiting > 0
    got = claimed(heir.store)
    assert [each.seq for each in got] == [*range(1, waiting + 1)]
    assert told(got) == told(alone(new_sqlite, killed, bursts))
    assert unnumbered(heir.store) == 0


def test_where_the_database_only_reads_the_log_is_read_without_what_has_no_number(
    open_yard: Callable[[], Yard], postgresql: str
) -> None:
    yard = open_yard()
    send(yard, walked(yard, "gate"))
    reader = open_store(postgresql + "&options=-c%20default_transaction_read_only%3Don", yard.clock)
    assert (reader.last_seq(), reader.events(after_seq=0)) == (0, [])
    assert len(reader.events()) == yard.store.last_seq() == reader.last_seq() > 0
    reader.close()


def test_corrections_and_withdrawals_of_events_without_a_number_are_announced_as_on_sqlite(
    open_yard: Callable[[], Yard], new_sqlite: Callable[[], str]
) -> None:
    yard = open_yard()
    yard.store.add_channel("phone")
    bursts = walked(yard, "gate", there_and_back, 40)
    late = [bursts[2], bursts[7]]
    order = [*(one for one in bursts if one not in late), *late]
    send(yard, order)
    assert unnumbered(yard.store) > 0
    got, on_sqlite = claimed(yard.store), alone(new_sqlite, yard, order)
    assert [each.seq for each in got] == [each.seq for each in on_sqlite]
    assert told(got) == told(on_sqlite)
    assert {what for what, _ in told(got)} == {"event", "corrected", "withdrawn"}
    before = select(outbox_rows.c.seq, outbox_rows.c.before_seq)
    with yard.store._engine.connect() as connection:
        linked = dict(map(tuple, connection.execute(before)))
    assert {each for each in linked.values() if each is not None} < linked.keys()


@pytest.mark.parametrize("at", ["statement", "commit"])
def test_an_event_that_is_being_corrected_and_what_follows_it_of_its_camera_wait_for_the_turn(
    open_yard: Callable[[], Yard], new_sqlite: Callable[[], str], at: str
) -> None:
    slow, quick = open_yard(), open_yard()
    quick.store.add_channel("phone")
    bursts = walked(slow, "gate", there_and_back, 40)
    in_time = [one for one in bursts if one is not bursts[2]]
    send(slow, in_time)
    send(quick, walked(quick, "lane"))
    with held_open(slow.store, partial(send, slow, [bursts[2]]), "INSERT INTO outbox ", at):
        got = claimed(quick.store)
        assert 0 < len(told(got, "gate")) < len(told(alone(new_sqlite, slow, in_time)))
        assert told(got, "lane") == told(alone(new_sqlite, quick, walked(quick, "lane")))
        assert claimed(quick.store) == []
    got += claimed(quick.store)
    assert [each.seq for each in got] == [*range(1, len(got) + 1)]
    assert told(got, "gate") == told(alone(new_sqlite, slow, [*in_time, bursts[2]]))


def test_what_was_announced_before_waits_while_its_event_has_no_number(
    open_yard: Callable[[], Yard], monkeypatch: pytest.MonkeyPatch
) -> None:
    yard = open_yard()
    yard.store.add_channel("phone")
    bursts = walked(yard, "gate", there_and_back, 40)
    send(yard, [one for one in bursts if one is not bursts[2]])
    assert yard.store.last_seq() > 0
    with monkeypatch.context() as patched:
        patched.setattr(outbox, "_number_oldest", lambda _engine: False)
        yard.pipeline.process(bursts[2])
        got = claimed(yard.store)
        assert claimed(yard.store) == []
    assert unnumbered(yard.store) > 0
    got += claimed(yard.store)
    assert [each.seq for each in got] == [*range(1, len(got) + 1)]
    assert all(isinstance(each, Announcement) and each.logged.seq >= each.seq for each in got)


def test_events_that_are_deleted_before_they_have_a_number_leave_neither_row_nor_gap(
    open_yard: Callable[[], Yard],
) -> None:
    slow, quick = open_yard(), open_yard()
    quick.store.add_channel("phone")
    bursts = walked(slow, "gate", there_and_back, 40)
    send(slow, [*(one for one in bursts if one is not bursts[2]), bursts[2]])
    send(quick, walked(quick, "lane"))
    erase = partial(slow.store.retention.erase, "yard", "gate", START_US - 1, slow.clock() - 1, author="anna")
    with held_open(slow.store, erase, "DELETE FROM events ", "statement"):
        got = claimed(quick.store)
    assert told(got) == told(got, "lane") != []
    assert [each.seq for each in got] == [*range(1, len(got) + 1)]
    assert claimed(quick.store) == []
    assert quick.store.counts()["outbox"] == 0


def test_presences_are_right_while_an_event_among_them_has_no_number(
    open_yard: Callable[[], Yard], monkeypatch: pytest.MonkeyPatch
) -> None:
    yard, fresh = open_yard(), open_yard()
    stretch = ("yard", START_US, START_US + 3_600_000_000)
    send(yard, walked(yard, "gate", lambda t: there_and_back(t % 30), 60))
    before = yard.store.stays(*stretch)
    with monkeypatch.context() as patched:
        patched.setattr(outbox, "_number_oldest", lambda _engine: False)
        yard.store.set_aside("yard", "gate", START_US, START_US + 30_000_000)
        now = yard.store.stays(*stretch)
        assert now == fresh.store.stays(*stretch) != before
    assert yard.store.stays(*stretch) == fresh.store.stays(*stretch) == now


def rows_read(plan: Mapping[str, Any]) -> float:
    """How many rows a step of a plan that was run looked at, and those below it."""
    removed = sum(plan.get(f"Rows Removed by {what}", 0) for what in ("Filter", "Join Filter", "Index Recheck"))
    own = (plan["Actual Rows"] + removed) * plan["Actual Loops"]
    return float(own + sum(rows_read(each) for each in plan.get("Plans", [])))


def test_a_look_at_a_channel_reads_nothing_of_what_it_has_sent(open_yard: Callable[[], Yard]) -> None:
    yard = open_yard()
    store = yard.store
    store.add_channel("phone")
    send(yard, walked(yard, "gate"))
    assert len(claimed(store)) > 0
    last = add_events(store._engine, 5000, START_US, START_US + 3_600_000_000)
    asked: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        asked.append((statement, parameters))

    with store._engine.begin() as connection:
        assert last > 5000
        connection.exec_driver_sql("ANALYZE")
    event.listen(store._engine, "before_cursor_execute", note)
    assert claimed(store) == []
    event.remove(store._engine, "before_cursor_execute", note)
    with store._engine.begin() as connection:
        plans = [
            connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).scalar_one()
            for statement, parameters in asked
            if statement.startswith("SELECT")
        ]
    assert len(plans) > 3
    assert max(rows_read(plan[0]["Plan"]) for plan in plans) < 20
