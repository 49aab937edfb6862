"""A session with the broker: who speaks, who is online, and what is lost by a crash: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from server.delivery.lines import json_line
from server.store import Store, open_store
from tests.server.delivery.mqtt.brokers import PATIENCE_S, Broker, Consumer
from tests.server.delivery.mqtt.worlds import World
from tests.stand_ins import ManualClock

AVAILABLE = "sectorwatch/available"
ROOT = Path(__file__).parents[4]
EVENT = "sectorwatch/event"


def logged(world: World) -> list[str]:
    """The ids of all events in the order of the log."""
    return [each.event.id for each in world.store.events(after_seq=0)]


def ids(consumer: Consumer) -> list[str]:
    """The ids of the events that came, each once, as a consumer keeps them."""
    return list(dict.fromkeys(told["id"] for told in consumer.on(EVENT)))


def test_a_channel_is_online_while_it_is_held_and_offline_when_it_stops(world: World, consumer: Consumer) -> None:
    world.drain()
    consumer.wait_for(AVAILABLE, b"online")
    world.stop()
    consumer.wait_for(AVAILABLE, b"offline")


def test_every_event_comes_in_order_in_the_schema_of_all_channels(world: World, consumer: Consumer) -> None:
    world.drain()
    world.live(26)
    world.drain()
    consumer.settle()
    told = consumer.on(EVENT)
    assert told == [msgspec.json.decode(json_line(each)) for each in world.store.events(after_seq=0)]
    assert {"presence_started", "presence_ended", "entered", "moved", "crossed", "left"} <= {
        each["kind"] for each in told
    }


def test_events_are_never_retained_and_states_are(world: World, broker: Broker) -> None:
    world.drain()
    world.live(26)
    world.drain()
    later = Consumer(broker.port)
    later.settle()
    assert later.first[AVAILABLE] == b"online"
    kinds = ("/event", "/events", "/reviews", "/notice", "/movement")
    assert [topic for topic in later.first if topic.endswith(kinds)] == []
    later.close()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_broker_that_is_down_for_minutes_loses_no_event(world: World, broker: Broker, end: str) -> None:
    world.drain()
    getattr(broker, end)()
    world.live(26)
    for _ in range(5):
        world.drain()
        world.clock.advance(60)
    assert world.channel._session is None
    broker.start()
    consumer = Consumer(broker.port)
    world.clock.advance(300)
    world.drain()
    consumer.settle()
    assert ids(consumer) == logged(world)
    assert consumer.retained[AVAILABLE] == b"online"
    assert consumer.retained["sectorwatch/cameras/yard/gate/sectors/west/targets/person/state"]
    consumer.close()


def test_a_broker_that_restarts_in_mid_delivery_gets_ten_thousand_events_in_order(world: World, broker: Broker) -> None:
    world.start(frigate=False, discovery="")
    world.live(8)
    world.drain()
    first = Consumer(broker.port, EVENT)
    made = world.many(10_000)
    for _ in range(20):
        world.dispatcher.drain_once()
    first.wait(lambda: len(first.messages) >= 1900)
    came = ids(first)
    first.close()
    broker.kill()
    world.dispatcher.drain_once()
    broker.start()
    second = Consumer(broker.port, EVENT)
    world.clock.advance(300)
    world.drain()
    second.wait(lambda: bool(second.messages) and made[-1].encode() in second.messages[-1][1])
    assert list(dict.fromkeys([*came, *ids(second)])) == [*made]
    assert len(came) + len(second.messages) <= 10_000 + 100, "no more than a batch comes twice"
    second.close()


def test_a_consumer_that_keeps_ids_counts_nothing_twice_after_a_crash(world: World, consumer: Consumer) -> None:
    world.drain()
    world.live(26)
    world.drain()
    world.stop()
    with world.store._engine.begin() as connection:
        connection.exec_driver_sql("update channels set delivered_seq = 2")  # as if the last was not saved
    world.start()
    world.drain()
    consumer.settle()
    assert len(consumer.on(EVENT)) > len(logged(world))
    assert ids(consumer) == logged(world)


_SERVER = """
import sys, threading
from pathlib import Path
from server.store import open_store
from tests.server.delivery.mqtt.worlds import World
from tests.stand_ins import ManualClock
folder = Path(sys.argv[1])
clock = ManualClock(0)
world = World(folder, open_store(f"sqlite:///{folder}/sectorwatch.sqlite", clock), clock, sys.argv[2])
world.live(8)
world.drain()
print("sent", flush=True)
threading.Event().wait()
"""


def test_a_killed_server_is_offline_at_once_and_the_next_one_goes_on(
    tmp_path: Path, sqlite: Store, clock: ManualClock, broker: Broker, consumer: Consumer
) -> None:
    server = subprocess.Popen([sys.executable, "-c", _SERVER, tmp_path, broker.url], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == b"sent\n"
        consumer.wait_for(AVAILABLE, b"online")
    finally:
        os.kill(server.pid, signal.SIGKILL)
        server.wait(PATIENCE_S)
        server.stdout.close()
    consumer.wait_for(AVAILABLE, b"offline")
    before = len(consumer.on(EVENT))
    world = World(tmp_path, sqlite, clock, broker.url)
    world.live(26, begin_s=8)
    world.clock.advance(31)  # the lease of the dead one is over
    world.drain()
    consumer.settle()
    assert consumer.retained[AVAILABLE] == b"online"
    assert before > 0
    assert ids(consumer) == logged(world)
    assert len(consumer.on(EVENT)) == len(logged(world))
    world.end()


def test_of_two_servers_on_one_database_one_speaks_until_it_stops(
    tmp_path: Path, sqlite: Store, clock: ManualClock, broker: Broker, consumer: Consumer
) -> None:
    one = World(tmp_path, sqlite, clock, broker.url)
    two = World(tmp_path, open_store(str(sqlite._engine.url), clock), clock, broker.url)
    one.live(8)
    one.drain()
    two.drain()
    assert two.channel._session is None
    one.stop()
    one.live(26, begin_s=8)
    two.drain()
    one.drain()
    assert one.channel._session is None
    consumer.settle()
    assert len(consumer.on(EVENT)) == len(ids(consumer)) == len(logged(one))
    assert consumer.retained[AVAILABLE] == b"online"
    two.end()
    two.store.close()


def test_a_server_that_hung_and_lost_the_right_to_send_is_shut_out_by_its_successor(
    tmp_path: Path, sqlite: Store, clock: ManualClock, broker: Broker, consumer: Consumer
) -> None:
    one = World(tmp_path, sqlite, clock, broker.url)
    two = World(tmp_path, open_store(str(sqlite._engine.url), clock), clock, broker.url)
    one.drain()
    held = one.channel._session
    assert held is not None
    clock.advance(31)
    two.drain()
    with held._changed:
        assert held._changed.wait_for(lambda: held._lost is not None, PATIENCE_S), "they are the same client"
    two.drain()
    consumer.settle()
    assert consumer.retained[AVAILABLE] == b"online", "the will of the first is made good"
    two.end()
    two.store.close()


def test_offline_from_elsewhere_is_made_good(world: World, consumer: Consumer) -> None:
    world.drain()
    consumer.say(AVAILABLE, b"offline", retain=True)
    consumer.settle()
    world.drain()
    consumer.wait_for(AVAILABLE, b"online")


def test_a_lost_connection_is_noticed_without_an_event(world: World, broker: Broker) -> None:
    world.drain()
    session = world.channel._session
    assert session is not None
    broker.kill()
    with session._changed:
        assert session._changed.wait_for(lambda: session._lost is not None, PATIENCE_S)
    world.drain()
    [state] = world.store.channel_states()
    assert state.failures == 1
    assert "broke" in (state.error or "")


def test_a_test_is_a_message_that_disturbs_no_session(world: World, consumer: Consumer) -> None:
    world.drain()
    told = world.start()[0].test()
    consumer.settle()
    assert "sectorwatch/test" in told
    [message] = consumer.on("sectorwatch/test")
    assert "A test of the channel `mqtt`" in message["test"]
    assert consumer.retained[AVAILABLE] == b"online"


def test_what_the_broker_never_takes_becomes_a_dead_letter_and_the_rest_goes_on(
    tmp_path: Path, sqlite: Store, clock: ManualClock
) -> None:
    broker = Broker(tmp_path / "small", "allow_anonymous true", "max_packet_size 3000")
    world = World(tmp_path, sqlite, clock, broker.url, discovery="", frigate=False)
    world.drain()
    world.live(26)
    fit = _longest_votes(world, 3)
    world.drain()
    letters = sqlite.letters.all() if hasattr(sqlite.letters, "all") else []
    assert fit
    assert [state.dead_letters for state in sqlite.channel_states()] == [1], letters
    assert [state.backlog for state in sqlite.channel_states()] == [0]
    world.end()
    broker.stop()


def _longest_votes(world: World, seq: int) -> bool:
    """Make one event too large for the broker."""
    sent = world.channel.send

    def send(outgoing: object) -> None:
        if getattr(outgoing, "seq", 0) == seq:
            import dataclasses

            import msgspec

            logged = outgoing.logged  # type: ignore[attr-defined]
            event = msgspec.structs.replace(logged.event, votes={f"model-{n}": "for" for n in range(300)})
            outgoing = dataclasses.replace(outgoing, logged=dataclasses.replace(logged, event=event))  # type: ignore[type-var]
        sent(outgoing)  # type: ignore[arg-type]

    world.channel.send = send  # type: ignore[method-assign]
    return True
