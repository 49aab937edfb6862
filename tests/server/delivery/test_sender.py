"""A channel that fails, hangs, answers with errors or is paused loses nothing, and hinders nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from server.delivery.channel import Answered, Undeliverable
from server.delivery.dispatcher import Dispatcher
from server.delivery.sender import LASTING_WAIT_S, LEASE_S, MOST_ATTEMPTS
from server.domain.announcements import ChannelState, Outgoing
from server.store import Store, open_store
from tests.server.scenes import START_US, Yard, across
from tests.stand_ins import ManualClock, RecordingChannel


@pytest.fixture
def yard(tmp_path: Path, new_sqlite: Callable[[], str]) -> Iterator[Yard]:
    clock = ManualClock(START_US + 3_600_000_000)
    with closing(open_store(new_sqlite(), clock)) as store:
        yard = Yard(tmp_path / "sites", store, clock)
        for burst in yard.walked(across, 26):
            yard.pipeline.process(burst)
        yield yard


class Answers(RecordingChannel):
    """Raises what `answer` gives for an announcement, and counts how often it is asked."""

    def __init__(self, answer: Callable[[Outgoing], Exception | None], name: str = "recording") -> None:
        super().__init__(name)
        self.answer = answer
        self.asked: list[int] = []

    def send(self, outgoing: Outgoing) -> None:
        self.asked.append(outgoing.seq)
        if (error := self.answer(outgoing)) is not None:
            raise error
        super().send(outgoing)


class Lasts(RecordingChannel):
    """A lasting channel: notes what is called. Its memory is how many announcements it has sent."""

    def __init__(self, answer: Callable[[Outgoing], Exception | None] = lambda _: None) -> None:
        super().__init__("lasting")
        self.calls: list[str] = []
        self.fails: Exception | None = None
        self.answer = answer
        self.memory = ""

    def begin(self, memory: str | None) -> None:
        self.calls.append(f"begin {memory}")
        if self.fails is not None:
            raise self.fails

    def refresh(self) -> None:
        self.calls.append("refresh")

    def end(self) -> None:
        self.calls.append("end")

    def send(self, outgoing: Outgoing) -> None:
        if (error := self.answer(outgoing)) is not None:
            raise error
        super().send(outgoing)
        self.memory = f"sent {len(self.sent)}"


def sent(channel: RecordingChannel) -> list[int]:
    return [announcement.seq for announcement in channel.sent]


def everything(store: Store) -> list[int]:
    return list(range(1, store.last_seq() + 1))


def drained(dispatcher: Dispatcher) -> None:
    while dispatcher.drain_once():
        pass


def state(yard: Yard, name: str) -> ChannelState:
    return next(each for each in yard.store.channel_states() if each.name == name)


def test_what_the_receiver_will_never_take_is_a_dead_letter_and_the_next_is_sent(yard: Yard) -> None:
    channel = Answers(lambda out: Undeliverable("422 what is this?") if out.seq == 2 else None)
    drained(Dispatcher(yard.store, [channel]))
    assert sent(channel) == [seq for seq in everything(yard.store) if seq != 2]
    (letter,) = yard.store.letters.page("recording")
    assert (letter.seq, letter.error) == (2, "Undeliverable: 422 what is this?")
    assert state(yard, "recording").dead_letters == 1


def test_a_receiver_that_answers_with_an_error_is_asked_some_times_then_the_next_is_sent(yard: Yard) -> None:
    channel = Answers(lambda out: Answered("500") if out.seq == 2 else None)
    dispatcher = Dispatcher(yard.store, [channel])
    for _ in range(MOST_ATTEMPTS):
        drained(dispatcher)
        yard.clock.advance(65)
    assert channel.asked.count(2) == MOST_ATTEMPTS
    assert sent(channel) == [seq for seq in everything(yard.store) if seq != 2]
    assert [letter.seq for letter in yard.store.letters.page("recording")] == [2]


def test_an_outage_does_not_count_as_answers(yard: Yard) -> None:
    errors: list[Exception] = [ConnectionError("down")] * (MOST_ATTEMPTS + 2) + [Answered("503")]
    channel = Answers(lambda _: errors.pop(0) if errors else None)
    dispatcher = Dispatcher(yard.store, [channel])
    for _ in range(MOST_ATTEMPTS + 4):
        drained(dispatcher)
        yard.clock.advance(301)
    assert sent(channel) == everything(yard.store)
    assert yard.store.letters.page("recording") == []


def test_the_error_that_people_read_holds_no_secret_and_no_control_character(yard: Yard) -> None:
    channel = Answers(lambda _: ConnectionError("mqtt://me:hush@broker\0 is away\n" + "x" * 5000))
    drained(Dispatcher(yard.store, [channel]))
    error = state(yard, "recording").error or ""
    assert "hush" not in error
    assert error.isprintable()
    assert len(error) <= 1000
    assert error.startswith("ConnectionError: mqtt://me:***@broker")


def test_a_letter_that_a_person_asks_for_is_sent_again_after_what_waits(yard: Yard) -> None:
    channel = Answers(lambda out: Undeliverable("no") if out.seq == 1 else None)
    dispatcher = Dispatcher(yard.store, [channel])
    drained(dispatcher)
    channel.answer = lambda _: None
    assert yard.store.letters.ask("recording") == 1
    drained(dispatcher)
    assert sent(channel) == [*everything(yard.store)[1:], 1]
    assert yard.store.letters.page("recording") == []
    assert state(yard, "recording").claimed_by is None


def test_a_letter_that_is_refused_again_waits_for_the_next_request(yard: Yard) -> None:
    channel = Answers(lambda out: Undeliverable("no") if out.seq == 1 else None)
    dispatcher = Dispatcher(yard.store, [channel])
    drained(dispatcher)
    channel.answer = lambda _: Answered("still no")
    yard.store.letters.ask("recording")
    drained(dispatcher)
    (letter,) = yard.store.letters.page("recording")
    assert (letter.error, letter.asked_at_us) == ("Answered: still no", None)
    assert channel.asked.count(1) == 2


def test_a_letter_outlives_an_outage_and_the_failure_is_over_once_it_is_sent(yard: Yard) -> None:
    channel = RecordingChannel()
    dispatcher = Dispatcher(yard.store, [channel])
    drained(dispatcher)
    event = channel.sent[0].logged.event.id
    assert yard.store.letters.ask_events("recording", [event, event]) == 1
    channel.fail_next = 1
    drained(dispatcher)
    assert state(yard, "recording").error == "ConnectionError: the channel is down"
    assert len(yard.store.letters.page("recording")) == 1
    yard.clock.advance(2)
    drained(dispatcher)
    assert channel.sent[-1].logged.event.id == event
    found = state(yard, "recording")
    assert (found.error, found.failed_at_us, found.failures, found.dead_letters) == (None, None, 0, 0)


def test_what_is_sent_again_on_request_does_not_count_as_a_first_sending(yard: Yard) -> None:
    counted: list[int] = []
    channel = RecordingChannel()
    dispatcher = Dispatcher(yard.store, [channel], on_sent=lambda _, outgoing: counted.append(outgoing.seq))
    drained(dispatcher)
    yard.store.letters.ask_events("recording", [channel.sent[0].logged.event.id])
    drained(dispatcher)
    assert len(channel.sent) == len(counted) + 1 == yard.store.last_seq() + 1


def test_a_channel_that_has_heard_nothing_yet_knows_what_a_person_asks_for_from_what_is_new(yard: Yard) -> None:
    class Repeats(Lasts):
        def send_again(self, outgoing: Outgoing) -> None:
            self.calls.append(f"again {outgoing.seq}")

    channel = Repeats()
    dispatcher = Dispatcher(yard.store, [channel], from_start=())
    dispatcher.drain_once()
    first = yard.store.events(after_seq=0)[0]
    yard.store.letters.ask_events("lasting", [first.event.id])
    drained(dispatcher)
    assert f"again {first.seq}" in channel.calls
    assert channel.sent == []
    assert yard.store.letters.page("lasting") == []


def test_a_slow_batch_ends_long_before_its_lease(yard: Yard) -> None:
    now = [0.0]

    class Slow(RecordingChannel):
        def send(self, outgoing: Outgoing) -> None:
            now[0] += 9.0
            super().send(outgoing)

    channel = Slow()
    dispatcher = Dispatcher(yard.store, [channel], monotonic=lambda: now[0])
    while True:
        before_s = now[0]
        if not dispatcher.drain_once():
            break
        assert now[0] - before_s < LEASE_S
    assert sent(channel) == everything(yard.store)


def test_a_pause_holds_after_the_batch_and_a_resumed_channel_goes_on_where_it_was(yard: Yard) -> None:
    now = [0.0]

    class Pauses(RecordingChannel):
        def send(self, outgoing: Outgoing) -> None:
            super().send(outgoing)
            if outgoing.seq == 2:
                yard.store.pause("recording")
                now[0] += LEASE_S

    channel = Pauses()
    dispatcher = Dispatcher(yard.store, [channel], monotonic=lambda: now[0])
    drained(dispatcher)
    assert sent(channel) == [1, 2]
    yard.store.resume("recording")
    drained(dispatcher)
    assert sent(channel) == everything(yard.store)


def test_a_channel_that_goes_on_from_now_in_mid_batch_does_not_move_back(yard: Yard) -> None:
    now = [0.0]

    class Skips(RecordingChannel):
        def send(self, outgoing: Outgoing) -> None:
            super().send(outgoing)
            yard.store.resume("recording", from_now=True)
            now[0] += LEASE_S

    channel = Skips()
    drained(Dispatcher(yard.store, [channel], monotonic=lambda: now[0]))
    assert sent(channel) == [1]
    assert state(yard, "recording").backlog == 0


def test_a_stop_ends_the_batch_after_the_announcement_that_is_being_sent(yard: Yard) -> None:
    stop = threading.Event()

    class Stops(RecordingChannel):
        def send(self, outgoing: Outgoing) -> None:
            super().send(outgoing)
            stop.set()

    channel, another = Stops(), RecordingChannel()
    Dispatcher(yard.store, [channel]).run(stop)
    assert sent(channel) == [1]
    drained(Dispatcher(yard.store, [another]))
    assert sent(another) == everything(yard.store)[1:], "the lease was let go, and the position saved"


def test_a_channel_that_hangs_delays_neither_the_others_nor_the_exit_of_the_process(yard: Yard) -> None:
    hangs, over, stop = threading.Event(), threading.Event(), threading.Event()

    class Hangs(RecordingChannel):
        def send(self, outgoing: Outgoing) -> None:
            hangs.set()
            over.wait(60)

    quick = RecordingChannel("quick")
    dispatcher = Dispatcher(yard.store, [Hangs("hung"), quick])
    thread = threading.Thread(target=dispatcher.run, args=(stop,), daemon=True)
    thread.start()
    try:
        assert hangs.wait(10)
        quick.wait_for(yard.store.last_seq())
        stop.set()
        dispatcher.wake()
        for each in threading.enumerate():
            if each.name == "sectorwatch-channel-quick":
                each.join(10)
        assert dispatcher.running == ("hung",)
        (hung,) = [each for each in threading.enumerate() if each.name == "sectorwatch-channel-hung"]
        assert hung.daemon
    finally:
        stop.set()
        over.set()
        thread.join(10)


def test_a_lasting_channel_begins_with_what_it_remembers_and_is_refreshed_also_when_nothing_is_sent(yard: Yard) -> None:
    first = Lasts()
    drained(Dispatcher(yard.store, [first]))
    assert first.calls == ["begin None", "refresh", "refresh", "refresh"]
    yard.clock.advance(LEASE_S + 1)
    second = Lasts()
    drained(Dispatcher(yard.store, [second]))
    assert second.calls == [f"begin sent {len(first.sent)}", "refresh"]
    assert second.sent == []


def test_an_event_does_not_wait_for_what_a_lasting_channel_says_by_itself(yard: Yard) -> None:
    channel = Lasts(lambda _: channel.calls.append("send"))
    dispatcher = Dispatcher(yard.store, [channel])
    drained(dispatcher)
    channel.calls.clear()
    yard.store.notices.add("refused", "e" * 64, ["a"], "differs")
    assert dispatcher.drain_once() == 1
    assert channel.calls == ["send", "refresh"]


def test_one_process_holds_a_lasting_channel_and_ends_it_when_another_has_taken_over(yard: Yard) -> None:
    ours, theirs = Lasts(), Lasts()
    here, there = Dispatcher(yard.store, [ours]), Dispatcher(yard.store, [theirs])
    drained(here)
    drained(there)
    assert theirs.calls == []
    yard.clock.advance(LEASE_S + 1)
    drained(there)
    drained(here)
    assert theirs.calls[-1] == "refresh"
    assert ours.calls[-1] == "end"
    assert theirs.sent == []


def test_a_lease_that_is_lost_while_something_is_sent_ends_batch_and_channel(yard: Yard) -> None:
    theirs = Lasts()
    there = Dispatcher(yard.store, [theirs])
    now = [0.0]

    class Late(Lasts):
        def send(self, outgoing: Outgoing) -> None:
            super().send(outgoing)
            now[0] += LEASE_S + 1
            yard.clock.advance(LEASE_S + 1)
            drained(there)

    ours = Late()
    drained(Dispatcher(yard.store, [ours], monotonic=lambda: now[0]))
    assert sent(ours) == [1]
    assert ours.calls == ["begin None", "refresh", "end"]
    assert sent(theirs) == everything(yard.store), "at least once: the first was not known to be sent"


def test_memory_and_position_are_saved_together_also_when_the_batch_fails(yard: Yard) -> None:
    channel = Lasts(lambda out: ConnectionError("away") if out.seq == 3 else None)
    drained(Dispatcher(yard.store, [channel]))
    assert yard.store.memory("lasting") == "sent 2"
    assert channel.calls[-1] == "end"
    yard.clock.advance(2)
    another = Lasts()
    drained(Dispatcher(yard.store, [another]))
    assert another.calls[0] == "begin sent 2"
    assert sent(another) == everything(yard.store)[2:]


def test_a_lasting_channel_that_cannot_begin_waits_longer_each_time_and_its_failure_ends_without_an_event(
    yard: Yard,
) -> None:
    channel = Lasts()
    dispatcher = Dispatcher(yard.store, [channel])
    drained(dispatcher)
    yard.clock.advance(LEASE_S + 1)
    channel = Lasts()
    channel.fails = ConnectionError("no broker")
    dispatcher = Dispatcher(yard.store, [channel])
    for wait_s in (1, 2, 4):
        drained(dispatcher)
        drained(dispatcher)
        found = state(yard, "lasting")
        assert found.error == "ConnectionError: no broker"
        yard.clock.advance(wait_s + 0.1)
    assert channel.calls.count(f"begin {yard.store.memory('lasting')}") == 3
    since_us = state(yard, "lasting").failed_at_us
    assert since_us is not None
    assert yard.clock() - since_us > 7_000_000
    channel.fails = None
    drained(dispatcher)
    found = state(yard, "lasting")
    assert (found.error, found.failures, found.failed_at_us) == (None, 0, None)


def test_a_lasting_channel_is_never_away_for_long_once_its_receiver_is_back(yard: Yard) -> None:
    channel = Lasts()
    channel.fails = ConnectionError("no broker")
    dispatcher = Dispatcher(yard.store, [channel])
    for _ in range(10):
        drained(dispatcher)
        yard.clock.advance(LASTING_WAIT_S + 0.1)
    assert len([call for call in channel.calls if call.startswith("begin")]) == 10


def test_a_paused_lasting_channel_is_ended_at_once_and_begun_again_when_it_is_resumed(yard: Yard) -> None:
    channel = Lasts()
    dispatcher = Dispatcher(yard.store, [channel])
    drained(dispatcher)
    yard.store.pause("lasting")
    drained(dispatcher)
    assert channel.calls[-1] == "end"
    drained(dispatcher)
    assert channel.calls.count("end") == 1
    yard.store.resume("lasting")
    drained(dispatcher)
    assert channel.calls[-1] == "refresh"


def test_a_lasting_channel_is_refreshed_between_announcements_that_take_long(yard: Yard) -> None:
    now = [0.0]

    class Slow(Lasts):
        def send(self, outgoing: Outgoing) -> None:
            super().send(outgoing)
            now[0] += 2.0
            self.calls.append("send")

    channel = Slow()
    drained(Dispatcher(yard.store, [channel], monotonic=lambda: now[0]))
    steps = [call for call in channel.calls if call in ("send", "refresh")]
    assert steps[:4] == ["refresh", "send", "refresh", "send"]
