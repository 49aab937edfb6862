"""What the store keeps of channels: leases, positions, pauses, failures and letters, the same on both databases."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import delete, event, text

from server.domain.announcements import Announcement, ChannelState, Outgoing
from server.domain.errors import Unknown
from server.store import Store, open_store
from server.store.care.migrate import _config
from server.store.schema import counters
from tests.server.scenes import START_US, Yard, across
from tests.stand_ins import ManualClock

LEASE_US = 30_000_000


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock) -> Yard:
    yard = Yard(tmp_path / "sites", store, clock)
    for burst in yard.walked(across, 26):
        yard.pipeline.process(burst)
    store.add_channel("phone")
    return yard


def claimed(store: Store, limit: int = 100) -> list[Outgoing]:
    return store.claim("phone", "ours", LEASE_US, limit)


def state(store: Store, name: str = "phone") -> ChannelState:
    return next(each for each in store.channel_states() if each.name == name)


def test_the_right_to_send_is_held_prolonged_and_let_go_and_a_pause_ends_it(yard: Yard) -> None:
    store, clock = yard.store, yard.clock
    assert store.hold("phone", "ours", LEASE_US)
    assert not store.hold("phone", "theirs", LEASE_US)
    clock.advance(20)
    assert store.hold("phone", "ours", LEASE_US)
    clock.advance(20)
    assert not store.hold("phone", "theirs", LEASE_US), "it was prolonged"
    store.let_go("phone", "theirs")
    assert not store.hold("phone", "theirs", LEASE_US), "only the holder lets go"
    store.let_go("phone", "ours")
    assert store.hold("phone", "theirs", LEASE_US)
    store.pause("phone")
    assert not store.hold("phone", "theirs", LEASE_US)
    assert claimed(store) == []
    store.resume("phone")
    assert store.hold("phone", "theirs", LEASE_US)


def test_the_lease_of_a_process_that_died_before_the_clock_was_set_back_ends_too(yard: Yard) -> None:
    assert yard.store.hold("phone", "dead", LEASE_US)
    yard.clock.advance(-5)
    assert not yard.store.hold("phone", "next", LEASE_US), "it may still be alive"
    yard.clock.advance(-600)
    assert state(yard.store).claimed_by is None
    assert yard.store.hold("phone", "next", LEASE_US)


def test_who_waits_for_a_lease_or_has_most_of_it_left_writes_nothing(yard: Yard) -> None:
    assert yard.store.hold("phone", "ours", LEASE_US)
    writes: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("UPDATE"):
            writes.append(statement)

    event.listen(yard.store._engine, "before_cursor_execute", note)
    assert yard.store.hold("phone", "ours", LEASE_US)
    assert not yard.store.hold("phone", "theirs", LEASE_US)
    assert writes == []
    yard.clock.advance(11)
    assert yard.store.hold("phone", "ours", LEASE_US)
    assert len(writes) == 1


def test_the_position_does_not_move_back(yard: Yard) -> None:
    assert claimed(yard.store)
    yard.store.resume("phone", from_now=True)
    assert yard.store.delivered("phone", "ours", 1)
    assert claimed(yard.store) == []
    assert state(yard.store).backlog == 0


def test_a_failure_lasts_from_the_first_attempt_in_a_row_until_something_is_sent(yard: Yard) -> None:
    store, clock = yard.store, yard.clock
    first_us = clock()
    for failures in (1, 2):
        claimed(store)
        store.undelivered("phone", "ours", None, failures, 1_000_000, "ConnectionError: away")
        clock.advance(2)
    found = state(store)
    assert (found.failed_at_us, found.error, found.failures) == (first_us, "ConnectionError: away", 2)
    claimed(store)
    store.undelivered("phone", "ours", 1, 1, 1_000_000, "Answered: 500", memory="m")
    assert state(store).failed_at_us == clock() == state(store).sent_at_us
    assert store.memory("phone") == "m"
    clock.advance(2)
    claimed(store)
    assert store.delivered("phone", "ours", 2)
    found = state(store)
    assert (found.failed_at_us, found.error, found.failures) == (None, None, 0)
    assert store.memory("phone") == "m"


def test_who_lost_the_lease_changes_nothing(yard: Yard) -> None:
    claimed(yard.store)
    before = state(yard.store)
    assert not yard.store.delivered("phone", "theirs", 3)
    assert not yard.store.remember("phone", "theirs", "theirs")
    yard.store.undelivered("phone", "theirs", 3, 1, 1_000_000, "away", memory="theirs")
    yard.store.recovered("phone", "theirs")
    assert state(yard.store) == before
    assert yard.store.memory("phone") is None


def test_a_pause_keeps_its_first_instant_and_a_channel_that_never_was_cannot_be_paused(yard: Yard) -> None:
    since_us = yard.clock()
    yard.store.pause("phone")
    yard.clock.advance(60)
    yard.store.pause("phone")
    assert state(yard.store).paused_at_us == since_us
    for change in (yard.store.pause, yard.store.resume):
        with pytest.raises(Unknown, match="`fone`"):
            change("fone")
    with pytest.raises(Unknown, match="`fone`"):
        yard.store.letters.ask_events("fone", [])


def test_a_channel_knows_how_long_its_oldest_announcement_waits(yard: Yard) -> None:
    waiting = claimed(yard.store)
    found = state(yard.store)
    assert (found.backlog, found.claimed_by) == (len(waiting), "ours")
    assert found.oldest_us is not None
    assert found.oldest_us <= yard.clock()
    yard.store.delivered("phone", "ours", waiting[-1].seq)
    found = state(yard.store)
    assert (found.backlog, found.oldest_us, found.claimed_by) == (0, None, None)


def test_an_announcement_that_fails_after_its_event_was_erased_leaves_no_letter(yard: Yard) -> None:
    outgoing = claimed(yard.store)
    yard.store.retention.erase("yard", "gate", START_US - 1, yard.clock() - 1, author="anna")
    for each in outgoing:
        yard.store.letters.add("phone", each, "HTTP 500: what it was sent")
    assert yard.store.letters.page("phone") == []


def test_the_log_knows_events_by_the_first_digits_of_their_ids(yard: Yard) -> None:
    ids = [logged.event.id for logged in yard.store.events()]
    asked = {ids[0], ids[1][:12], "0" * 12, "f" * 32}
    assert yard.store.kept_events(asked) == {ids[0], ids[1][:12]}
    yard.store.retention.erase("yard", "gate", START_US - 1, yard.clock() - 1, author="anna")
    assert yard.store.kept_events(asked) == frozenset()


def test_what_a_channel_remembers_is_amended_only_while_nobody_sends(yard: Yard) -> None:
    assert yard.store.hold("phone", "ours", LEASE_US)
    assert yard.store.remember("phone", "ours", "all")
    assert not yard.store.amend_memory("phone", "all", "less")
    yard.store.let_go("phone", "ours")
    assert not yard.store.amend_memory("phone", "other", "less")
    assert yard.store.amend_memory("phone", "all", "less")
    assert yard.store.memory("phone") == "less"


def test_what_is_erased_before_it_was_sent_waits_no_more_and_its_letters_go(yard: Yard) -> None:
    first, *_ = claimed(yard.store)
    yard.store.letters.add("phone", first, "Undeliverable: no")
    assert isinstance(first, Announcement)
    yard.store.letters.ask_events("phone", [first.logged.event.id])
    assert len(yard.store.letters.page("phone")) == 2
    yard.store.retention.erase("yard", "gate", START_US - 1, yard.clock() - 1, author="anna")
    assert list(yard.store.events(after_seq=0)) == []
    assert yard.store.letters.page("phone") == []
    assert (state(yard.store).backlog, state(yard.store).oldest_us) == (0, None)


def test_letters_of_notices_go_when_they_are_old(yard: Yard) -> None:
    yard.store.notices.add("refused", "e" * 64, ["a"], "differs")
    notice = claimed(yard.store)[-1]
    yard.store.letters.add("phone", notice, "Undeliverable: no")
    assert yard.store.letters.sweep(2.0) == 0
    yard.clock.advance(3 * 86_400)
    assert yard.store.letters.sweep(0.0) == 0, "0 keeps everything"
    assert yard.store.letters.sweep(2.0) == 1
    assert yard.store.letters.page() == []


def test_letters_are_listed_asked_for_and_dropped_by_number(yard: Yard) -> None:
    letters = yard.store.letters
    for outgoing in claimed(yard.store)[:3]:
        letters.add("phone", outgoing, "Undeliverable: \u00e9" + "x" * 2000)
    assert [each.number for each in letters.page("phone")] == [3, 2, 1]
    assert [each.number for each in letters.page(before=3, limit=1)] == [2]
    assert letters.page("other") == []
    assert len(letters.page(limit=1)[0].error or "") == 1000
    assert letters.ask("phone", [2, 99]) == 1
    assert [each.number for each, _ in letters.asked("phone", 10)] == [2]
    assert [each.number for each in letters.page(is_asked=False)] == [3, 1]
    letters.refused_again(2, "Undeliverable: still")
    assert letters.asked("phone", 10) == []
    assert letters.forget("other", [1]) == 0
    assert letters.forget("phone", [1]) == 1
    assert letters.ask("phone") == 2
    assert letters.forget("phone") == 2


def test_what_a_person_does_has_its_line_of_the_audit_and_what_changes_nothing_has_none(yard: Yard) -> None:
    store = yard.store
    first = claimed(store)[0]
    assert isinstance(first, Announcement)
    store.letters.add("phone", first, "no")
    store.pause("phone", by="anna")
    store.resume("phone", from_now=True, by="anna")
    store.letters.ask("phone", [1], by="anna")
    store.letters.ask_events("phone", [first.logged.event.id], by="anna", which="site yard")
    store.letters.forget("phone", by="anna")
    store.letters.forget("phone", by="anna")
    with pytest.raises(Unknown):
        store.pause("fone", by="anna")
    lines = [(line.author, line.what, line.subject, line.detail) for line in reversed(store.audit.page())]
    assert lines == [
        ("anna", "channel_paused", "phone", None),
        ("anna", "channel_resumed", "phone", "from now, without what waited"),
        ("anna", "channel_resent", "phone", "letters 1"),
        ("anna", "channel_resent", "phone", "1 events, site yard"),
        ("anna", "letters_dropped", "phone", "all 1 letters"),
    ]


def test_the_number_of_a_letter_is_not_given_again_even_where_its_counter_is_lost(yard: Yard) -> None:
    letters = yard.store.letters
    one, another, *_ = claimed(yard.store)
    letters.add("phone", one, "no")
    letters.add("phone", another, "no")
    letters.forget("phone", [2])
    letters.add("phone", another, "no")
    assert [each.number for each in letters.page()] == [3, 1]
    with yard.store._engine.begin() as connection:
        connection.execute(delete(counters).where(counters.c.name == "dead_letters"))
    letters.add("phone", another, "no")
    assert [each.number for each in letters.page()] == [4, 3, 1]


def test_an_event_is_sent_again_as_it_is_now(tmp_path: Path, store: Store, clock: ManualClock) -> None:
    yard = Yard(tmp_path / "sites", store, clock)
    store.add_channel("phone")
    for n in range(12):
        yard.pipeline.process(yard.walk(n, lambda t: 0.25 if t < 4 or t >= 20 else None, n * 2.0))
    for outgoing in claimed(store):
        store.letters.add("phone", outgoing, "no")
    yard.pipeline.process(yard.walk(13, lambda t: 0.25, 4.2, frames=12))
    store.letters.ask("phone")
    again = [outgoing for _, outgoing in store.letters.asked("phone", 10) if isinstance(outgoing, Announcement)]
    kinds = {outgoing.logged.event.kind: outgoing.what for outgoing in again if outgoing.what != "event"}
    assert kinds["presence_ended"] == "withdrawn"


def test_an_older_database_keeps_its_channels_and_gets_what_is_new(database_url: str, clock: ManualClock) -> None:
    with closing(open_store(database_url, clock)) as store:
        with store._engine.begin() as connection:
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "0014")
            values = "'log', 7, NULL, 0, 0), ('phone', 3, 'dead', 5, 2"
            connection.execute(
                text(
                    "INSERT INTO channels (name, delivered_seq, claimed_by, claimed_until_us, attempts) "
                    f"VALUES ({values})"
                )
            )
            connection.execute(text("UPDATE counters SET value = 9 WHERE name = 'outbox'"))
        store.upgrade()
        assert [(each.name, each.failures, each.error) for each in store.channel_states()] == [
            ("log", 0, None),
            ("phone", 2, None),
        ]
        store.notices.add("refused", "e" * 64, ["a"], "differs")
        (waiting,) = claimed(store)
        store.letters.add("phone", waiting, "Undeliverable: no")
        assert store.delivered("phone", "ours", waiting.seq, memory="m")
        assert [each.number for each in store.letters.page("phone")] == [1]


def test_a_recovered_database_announces_after_every_position_of_a_channel(
    tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock
) -> None:
    url = new_sqlite()
    with closing(open_store(url, clock)) as store:
        store.notices.add("refused", "e" * 64, ["a"], "differs")
        store.add_channel("phone")
        (waiting,) = claimed(store)
        store.letters.add("phone", waiting, "Undeliverable: no")
        store.delivered("phone", "ours", waiting.seq, memory="m")
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as damaged:
        damaged.execute("DELETE FROM counters")
        damaged.execute("DELETE FROM notices")
        damaged.commit()
    with closing(open_store(url, clock)) as store:
        saved = store.salvage(tmp_path / "saved.sqlite")
    assert saved["dead_letters"].rows == saved["channels"].rows == 1
    with closing(open_store(f"sqlite:///{tmp_path}/saved.sqlite", clock)) as store:
        given = store.notices.add("refused", "f" * 64, ["a"], "differs")
        assert [outgoing.seq for outgoing in claimed(store)] == [given.seq] == [2]
        assert store.memory("phone") == "m"
        assert [each.error for each in store.letters.page("phone")] == ["Undeliverable: no"]
