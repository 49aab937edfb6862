"""What was committed is delivered at least once, in order, by one sender at a time, whatever the channel does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from server.delivery.channel import Channel
from server.delivery.dispatcher import Dispatcher
from server.delivery.sender import LEASE_S, LONGEST_WAIT_S
from server.store import Store, open_store
from tests.server.scenes import Yard, across
from tests.stand_ins import ManualClock, RecordingChannel


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock) -> Yard:
    yard = Yard(tmp_path / "sites", store, clock)
    for burst in yard.walked(across, 26):
        yard.pipeline.process(burst)
    return yard


def sent(channel: RecordingChannel) -> list[int]:
    return [announcement.seq for announcement in channel.sent]


def everything(store: Store) -> list[int]:
    return list(range(1, store.last_seq() + 1))


def drained(*dispatchers: Dispatcher) -> None:
    for dispatcher in dispatchers:
        while dispatcher.drain_once():
            pass


def test_every_event_is_sent_once_and_in_the_order_of_commit(yard: Yard) -> None:
    channel = RecordingChannel()
    dispatcher = Dispatcher(yard.store, [channel])
    drained(dispatcher, dispatcher)
    assert sent(channel) == everything(yard.store)
    assert [a.logged.event for a in channel.sent] == [e.event for e in yard.store.events(after_seq=0)]


def test_each_channel_gets_everything_at_its_own_pace(yard: Yard) -> None:
    slow, quick = RecordingChannel("slow"), RecordingChannel("quick")
    slow.fail_next = 1
    dispatcher = Dispatcher(yard.store, [slow, quick])
    drained(dispatcher)
    assert sent(quick) == everything(yard.store)
    assert sent(slow) == []
    yard.clock.advance(2)
    drained(dispatcher)
    assert sent(slow) == everything(yard.store)


def test_a_channel_that_fails_is_left_alone_for_a_growing_while_and_loses_nothing(yard: Yard) -> None:
    channel = RecordingChannel()
    channel.fail_next = 3
    dispatcher = Dispatcher(yard.store, [channel])
    for wait_s in (1, 2, 4):
        drained(dispatcher)
        yard.clock.advance(wait_s - 0.1)
        assert dispatcher.drain_once() == 0, "still waiting"
        yard.clock.advance(0.2)
    drained(dispatcher)
    assert sent(channel) == everything(yard.store)


def test_what_was_sent_before_a_failure_is_not_sent_again(yard: Yard) -> None:
    class FailsAtThird(RecordingChannel):
        def send(self, announcement: object) -> None:
            if len(self.sent) == 2 and not failures:
                failures.append(1)
                raise ConnectionError("the channel is down")
            super().send(announcement)  # type: ignore[arg-type]

    failures: list[int] = []
    channel = FailsAtThird()
    dispatcher = Dispatcher(yard.store, [channel])
    drained(dispatcher)
    assert sent(channel) == [1, 2]
    yard.clock.advance(2)
    drained(dispatcher)
    assert sent(channel) == everything(yard.store)


def test_two_processes_do_not_send_the_same_while_a_lease_holds(yard: Yard) -> None:
    class AsksTheOther(RecordingChannel):
        def send(self, announcement: object) -> None:
            second.append(other.drain_once())
            super().send(announcement)  # type: ignore[arg-type]

    second: list[int] = []
    ours, theirs = AsksTheOther(), RecordingChannel()
    other = Dispatcher(yard.store, [theirs])
    drained(Dispatcher(yard.store, [ours]))
    assert set(second) == {0}
    assert sent(theirs) == []
    assert sent(ours) == everything(yard.store)


def test_what_a_dead_process_had_claimed_is_sent_by_another_when_the_lease_ends(yard: Yard) -> None:
    yard.store.add_channel("recording")
    assert yard.store.claim("recording", "dead", round(LEASE_S * 1_000_000), 100)
    channel = RecordingChannel()
    dispatcher = Dispatcher(yard.store, [channel])
    assert dispatcher.drain_once() == 0
    yard.clock.advance(LEASE_S + 1)
    drained(dispatcher)
    assert sent(channel) == everything(yard.store)


def test_neither_lease_nor_wait_outlives_a_clock_that_was_set_back(yard: Yard) -> None:
    channel = RecordingChannel()
    channel.fail_next = 1
    dispatcher = Dispatcher(yard.store, [channel])
    yard.clock.advance(86_400)
    yard.store.add_channel("other")
    assert yard.store.claim("other", "dead", round(LEASE_S * 1_000_000), 100)
    drained(dispatcher)
    assert sent(channel) == []
    yard.clock.advance(-86_400)
    other = RecordingChannel("other")
    drained(Dispatcher(yard.store, [channel, other]))
    assert sent(channel) == sent(other) == everything(yard.store)


def test_the_longest_wait_is_waited_for(yard: Yard) -> None:
    yard.store.add_channel("recording")
    yard.store.claim("recording", "ours", round(LEASE_S * 1_000_000), 100)
    yard.store.undelivered("recording", "ours", None, 99, round(LONGEST_WAIT_S * 1_000_000))
    channel = RecordingChannel()
    drained(Dispatcher(yard.store, [channel]))
    assert sent(channel) == []


def test_a_process_that_lost_its_lease_moves_nothing(yard: Yard) -> None:
    yard.store.add_channel("recording")
    yard.store.claim("recording", "slow", 1_000_000, 100)
    yard.clock.advance(2)
    channel = RecordingChannel()
    drained(Dispatcher(yard.store, [channel]))
    yard.store.delivered("recording", "slow", 1)
    yard.store.undelivered("recording", "slow", 1, failures=1, wait_us=1_000_000)
    drained(Dispatcher(yard.store, [channel]))
    assert sent(channel) == everything(yard.store)


def test_a_channel_may_begin_with_what_comes(yard: Yard) -> None:
    yard.store.add_channel("recording", from_start=False)
    channel = RecordingChannel()
    drained(Dispatcher(yard.store, [channel]))
    assert channel.sent == []


def test_a_withdrawal_is_announced_after_its_event(tmp_path: Path, store: Store, clock: ManualClock) -> None:
    yard = Yard(tmp_path / "sites", store, clock)
    channel = RecordingChannel()
    dispatcher = Dispatcher(store, [channel])
    for n in range(12):
        yard.pipeline.process(yard.walk(n, lambda t: 0.25 if t < 4 or t >= 20 else None, n * 2.0))
    drained(dispatcher)
    yard.pipeline.process(yard.walk(13, lambda t: 0.25, 4.2, frames=12))
    drained(dispatcher)
    ended = [a for a in channel.sent if a.logged.event.kind == "presence_ended"]
    assert [a.what for a in ended] == ["event", "withdrawn"]
    assert ended[1].logged.as_wire()["withdrawn"] is True


def test_the_running_dispatcher_sends_what_is_committed_when_it_is_woken(
    tmp_path: Path, store: Store, clock: ManualClock
) -> None:
    yard = Yard(tmp_path / "sites", store, clock)
    channel, stop = RecordingChannel(), threading.Event()
    dispatcher = Dispatcher(store, [channel], poll_s=60)
    yard.pipeline._committed = dispatcher.wake
    thread = threading.Thread(target=dispatcher.run, args=(stop,))
    thread.start()
    try:
        for burst in yard.walked(across, 26):
            yard.pipeline.process(burst)
        channel.wait_for(store.last_seq())
    finally:
        stop.set()
        dispatcher.wake()
        thread.join(timeout=10)
    assert not thread.is_alive()
    assert sent(channel) == everything(store)


def test_the_running_dispatcher_finds_what_another_process_committed(yard: Yard) -> None:
    channel, stop = RecordingChannel(), threading.Event()
    dispatcher = Dispatcher(yard.store, [channel], poll_s=0.01)
    thread = threading.Thread(target=dispatcher.run, args=(stop,))
    thread.start()
    try:
        channel.wait_for(yard.store.last_seq())
    finally:
        stop.set()
        thread.join(timeout=10)
    assert sent(channel) == everything(yard.store)


def test_a_database_that_is_away_is_told_once_and_once_that_it_is_back(
    tmp_path: Path, new_sqlite: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    migrated, volume = Path(new_sqlite().removeprefix("sqlite:///")), tmp_path / "volume"

    class MountsAtTheFifthLook(threading.Event):
        looks = 0

        def is_set(self) -> bool:
            self.looks += 1
            if self.looks == 5:
                volume.mkdir()
                migrated.rename(volume / "sectorwatch.sqlite")
            return self.looks > 6

    store = open_store(f"sqlite:///{volume}/sectorwatch.sqlite")
    Dispatcher(store, [RecordingChannel()], poll_s=0.0).run(MountsAtTheFifthLook())
    store.close()
    records = [record for record in caplog.records if record.name == "server.delivery.sender"]
    assert [record.getMessage() for record in records] == ["delivery failed", "delivery resumed"]
    assert not any(record.exc_info for record in records), "it was foreseen: no traceback"


def test_a_recording_channel_is_a_channel() -> None:
    channel: Channel = RecordingChannel()
    assert channel.name == "recording"
