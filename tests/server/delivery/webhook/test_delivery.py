"""What was committed reaches a real HTTP receiver: in order, at least once, each thing under one id."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from server.delivery.dispatcher import Dispatcher
from server.delivery.sender import LEASE_S
from server.store import Store, open_store
from tests.server.delivery.webhook.parts import channel, drained, fill, ids
from tests.server.delivery.webhook.receiver import Answer, Received, Receiver
from tests.server.scenes import START_US, Yard
from tests.stand_ins import ManualClock

ROOT = Path(__file__).parents[4]


def test_events_arrive_in_the_order_of_commit_over_one_connection(walked_yard: Yard, receiver: Receiver) -> None:
    drained(Dispatcher(walked_yard.store, [channel(receiver.url, walked_yard.clock)]))
    assert receiver.ids == ids(walked_yard.store)
    assert [each.json["id"] for each in receiver.received] == [
        e.event.id for e in walked_yard.store.events(after_seq=0)
    ]
    assert receiver.connections == 1


def test_a_receiver_that_is_down_for_minutes_gets_everything_when_it_is_back(
    walked_yard: Yard, receiver: Receiver
) -> None:
    receiver.stop()
    dispatcher = Dispatcher(walked_yard.store, [channel(receiver.url, walked_yard.clock)])
    for wait_s in (1, 2, 4, 8, 16, 32, 64, 128):
        drained(dispatcher)
        walked_yard.clock.advance(wait_s)
    (state,) = walked_yard.store.channel_states()
    assert state.error == f"NoAnswer: {receiver.url.removesuffix('/in')}: Connection refused"
    assert state.failures == 8
    receiver.start()
    drained(dispatcher)
    assert receiver.ids == ids(walked_yard.store)
    assert walked_yard.store.letters.page() == []


def test_a_receiver_that_restarts_in_mid_delivery_gets_what_it_had_not_answered(
    walked_yard: Yard, receiver: Receiver
) -> None:
    def fall_silent(received: Received) -> Answer:
        return Answer(raw=(b"",)) if len(receiver.received) == 4 else Answer()

    receiver.say = fall_silent
    dispatcher = Dispatcher(walked_yard.store, [channel(receiver.url, walked_yard.clock)])
    drained(dispatcher)
    receiver.stop()
    walked_yard.clock.advance(2)
    drained(dispatcher)
    receiver.start()
    walked_yard.clock.advance(10)
    drained(dispatcher)
    assert list(dict.fromkeys(receiver.ids)) == ids(walked_yard.store)
    assert len(receiver.ids) == len(ids(walked_yard.store)) + 1, "the one without an answer comes twice"


def test_a_killed_server_goes_on_with_duplicates_that_their_id_shows(
    new_sqlite: Callable[[], str], receiver: Receiver
) -> None:
    url, clock = new_sqlite(), ManualClock(START_US)
    with closing(open_store(url, clock)) as store:
        fill(store, 40)
        command = [sys.executable, "-m", "tests.server.delivery.webhook.sending", url, receiver.url, str(clock())]
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})

        def kill(_: Received) -> Answer:
            if len(receiver.received) == 7:
                process.kill()
            return Answer()

        receiver.say = kill
        process.wait(timeout=60)
        assert 7 <= len(receiver.ids) < 40
        clock.advance(LEASE_S + 1)
        drained(Dispatcher(store, [channel(receiver.url, clock)]))
        assert list(dict.fromkeys(receiver.ids)) == ids(store)


def test_ten_thousand_events_arrive_in_order_after_an_outage(
    plain_store: Store, clock: ManualClock, receiver: Receiver
) -> None:
    fill(plain_store, 10_000)
    receiver.stop()
    dispatcher = Dispatcher(plain_store, [channel(receiver.url, clock)])
    drained(dispatcher)
    receiver.start()
    clock.advance(2)
    drained(dispatcher)
    assert receiver.ids == ids(plain_store)
    assert len(receiver.ids) == 10_000


def test_what_a_receiver_refuses_is_a_dead_letter_and_can_be_sent_again(walked_yard: Yard, receiver: Receiver) -> None:
    store = walked_yard.store
    receiver.say = lambda received: Answer(422, b"no crossings") if received.json["kind"] == "crossed" else Answer()
    dispatcher = Dispatcher(store, [channel(receiver.url, walked_yard.clock)])
    drained(dispatcher)
    (letter,) = store.letters.page("hook")
    assert letter.error is not None
    assert letter.error.endswith("answers HTTP 422 Unprocessable Entity: no crossings")
    assert len(receiver.ids) == len(ids(store)), "the others are sent"
    receiver.say = lambda _: Answer()
    store.letters.ask("hook")
    drained(dispatcher)
    assert store.letters.page("hook") == []
    assert receiver.received[-1].json["kind"] == "crossed"
    assert receiver.ids.count(receiver.ids[-1]) == 2, "it has the id of before"


def test_a_correction_and_a_withdrawal_have_ids_of_their_own(walked_yard: Yard, receiver: Receiver) -> None:
    store = walked_yard.store
    dispatcher = Dispatcher(store, [channel(receiver.url, walked_yard.clock)])
    drained(dispatcher)
    before = len(receiver.ids)
    fill(store, 0)  # a turn in which none of the events is settled again
    drained(dispatcher)
    withdrawn = receiver.received[before:]
    assert withdrawn
    assert all(each.json["withdrawn"] for each in withdrawn)
    assert len(set(receiver.ids)) == len(receiver.ids)
