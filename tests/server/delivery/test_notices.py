"""What happened to the server itself is kept, in order and for good."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from alembic import command
from sqlalchemy import event, text

from server.delivery.dispatcher import Dispatcher
from server.delivery.sender import LEASE_S
from server.domain.announcements import Notice, NoticeGiven
from server.store import Store, open_store
from server.store.care.migrate import _config
from tests.server.scenes import Yard, across
from tests.stand_ins import ManualClock, RecordingChannel

ROOT = Path(__file__).parents[3]


def test_notices_are_kept_in_order_with_their_instants(store: Store, clock: ManualClock) -> None:
    first = store.notices.add("serves", "e" * 64, ["yolov3-tiny", "frame-change"], "loaded at start")
    clock.advance(3600)
    store.notices.add("unapproved", "e" * 64, ["yolov3-tiny"], "says `cat`, not `person`")
    assert first == Notice(
        1, 1, clock.now_us - 3_600_000_000, "serves", first.ensemble, first.models, "loaded at start"
    )
    assert [(notice.number, notice.what, notice.models) for notice in store.notices.all()] == [
        (1, "serves", ("yolov3-tiny", "frame-change")),
        (2, "unapproved", ("yolov3-tiny",)),
    ]
    assert [notice.number for notice in store.notices.all(limit=1)] == [2]


def test_many_who_notice_something_at_once_get_numbers_of_their_own(store: Store) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: store.notices.add("approved", str(n), ["a"], ""), range(12)))
    assert [notice.number for notice in store.notices.all()] == list(range(1, 13))


def test_notices_are_announced_among_the_events_in_the_order_of_commit(
    tmp_path: Path, store: Store, clock: ManualClock
) -> None:
    class InOrder(RecordingChannel):
        def send(self, outgoing: Any) -> None:
            super().send(outgoing)
            order.append((outgoing.seq, isinstance(outgoing, NoticeGiven)))

    order: list[tuple[int, bool]] = []
    yard = Yard(tmp_path / "sites", store, clock)
    given = [store.notices.add("serves", "e" * 64, ["a"], "loaded at start")]
    for burst in yard.walked(across, 26):
        yard.pipeline.process(burst)
    given.append(store.notices.add("unapproved", "e" * 64, ["a"], "says `cat`"))
    channel = InOrder()
    dispatcher = Dispatcher(store, [channel])
    while dispatcher.drain_once():
        pass
    assert [seq for seq, _ in order] == list(range(1, store.last_seq() + 1))
    assert [seq for seq, is_notice in order if is_notice] == [1, store.last_seq()] == [notice.seq for notice in given]
    assert channel.notices == given


def test_an_event_that_is_committed_while_a_notice_is_claimed_is_not_passed_over(
    tmp_path: Path, store: Store, database_url: str, clock: ManualClock
) -> None:
    """Events, and then a notice, are committed after the claim looked for events and before it looks for notices."""
    other = open_store(database_url, clock)
    yard = Yard(tmp_path / "sites", other, clock)
    bursts = yard.walked(across, 26)
    looked: list[str] = []

    def commit_meanwhile() -> None:
        for burst in bursts:
            yard.pipeline.process(burst)
        other.notices.add("unapproved", "e" * 64, ["a"], "says `cat`")

    def on_statement(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if "FROM outbox JOIN" in statement:
            looked.append(statement)
            # The second one is the claim's; with SQLite nobody else writes while it lasts.
            if len(looked) == 2 and store._engine.dialect.name == "postgresql":
                commit_meanwhile()

    store.notices.add("serves", "e" * 64, ["a"], "loaded at start")
    event.listen(store._engine, "after_cursor_execute", on_statement)
    channel = RecordingChannel()
    dispatcher = Dispatcher(store, [channel])
    dispatcher.drain_once()
    if store._engine.dialect.name != "postgresql":
        commit_meanwhile()
    while dispatcher.drain_once():
        pass
    other.close()
    assert len(channel.sent) == len(store.events()) > 0
    assert [notice.what for notice in channel.notices] == ["serves", "unapproved"]


def test_a_notice_that_was_sent_by_a_process_that_died_is_sent_again_under_the_same_id(
    store: Store, clock: ManualClock
) -> None:
    given = store.notices.add("unapproved", "e" * 64, ["a"], "says `cat`")
    store.add_channel("recording")
    (claimed,) = store.claim("recording", "dead", round(LEASE_S * 1_000_000), 100)
    channel = RecordingChannel()
    dispatcher = Dispatcher(store, [channel])
    assert dispatcher.drain_once() == 0, "the lease holds"
    clock.advance(LEASE_S + 1)
    assert dispatcher.drain_once() == 1
    assert dispatcher.drain_once() == 0
    assert isinstance(claimed, NoticeGiven)
    assert [notice.id for notice in channel.notices] == [claimed.notice.id] == [given.id]


def test_notices_from_before_they_were_announced_stay_off_the_channels(database_url: str, clock: ManualClock) -> None:
    store = open_store(database_url, clock)
    with store._engine.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
        row = "1, 5, 'serves', 'abc', 'a,b', 'loaded at start'"
        connection.execute(text(f"INSERT INTO notices (number, at_us, what, ensemble, models, detail) VALUES ({row})"))
    store.upgrade()
    new = store.notices.add("refused", "e" * 64, ["a"], "says `cat`")
    channel = RecordingChannel()
    Dispatcher(store, [channel]).drain_once()
    assert store.notices.all() == [Notice(1, None, 5, "serves", "abc", ("a", "b"), "loaded at start"), new]
    assert channel.notices == [new]
    store.close()


def teller(folder: Path, run: int, *more: str) -> int:
    command = [sys.executable, "-m", "tests.server.teller", str(folder), str(run), *more]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60).returncode


def test_killed_at_any_write_or_send_the_server_still_tells_every_failed_golden_set_on_its_channel(
    tmp_path: Path,
) -> None:
    deaths = [("write", n) for n in (1, 2, 3, 5, 6, 7, 9, 10)] + [("send", n) for n in (1, 2)]
    for run, (at, number) in enumerate(deaths):
        assert teller(tmp_path, run, at, str(number)) == -signal.SIGKILL, f"it died at {at} {number}"
    assert teller(tmp_path, 100) == 0
    store = open_store(f"sqlite:///{tmp_path}/sectorwatch.sqlite")
    given = {notice.id: notice for notice in store.notices.all()}
    store.close()
    lines = (tmp_path / "told.log").read_text(encoding="utf-8").splitlines()
    notices = [msgspec.json.decode(line) for line in lines]
    assert list(dict.fromkeys(notice["id"] for notice in notices)) == list(given), (
        "each, in the order in which it was given"
    )
    assert all(notice == given[notice["id"]].as_wire() for notice in notices)
    assert [notice["kind"] for notice in notices[-3:]] == ["serves", "unapproved", "approved"]
    assert len({notice["id"] for notice in notices if notice["kind"] == "unapproved"}) > 2, (
        "it was killed after some were kept"
    )
