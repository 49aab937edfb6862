"""How soon an event is at a consumer over MQTT: `python -m tests.benchmarks.mqtt_latency [--walks 40]`.

People walk across a yard, one after the other. Bursts go through the real pipeline (with an ensemble that answers at
once) and store (SQLite), and the running dispatcher sends over a real Mosquitto on loopback. Printed: the time from the
arrival of a burst, and from the commit, to the arrival of its events and of the sectors' states at the consumer.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from server.domain.times.clock import SECOND_US
from server.store import open_store
from tests.server import new_sqlite
from tests.server.delivery.mqtt.brokers import Broker, Consumer
from tests.server.delivery.mqtt.worlds import World
from tests.server.scenes import START_US, across
from tests.stand_ins import ManualClock

_WALK_S = 30.0
_QUANTILES = (0.5, 0.95)


class Timed(Consumer):
    """Notes when each event and each change of a sector's state came first."""

    def __init__(self, port: int) -> None:
        self.events_s: dict[str, float] = {}
        self.states_s: list[float] = []
        super().__init__(port, "sectorwatch/event", "sectorwatch/cameras/+/+/sectors/+/targets/+/state")

    def got(self, topic: str, payload: bytes, *, is_retained: bool) -> None:
        now_s = time.perf_counter()
        if topic.endswith("/state"):
            self.states_s.append(now_s)
        else:
            self.events_s.setdefault(msgspec.json.decode(payload)["id"], now_s)


def measure(folder: Path, walks: int) -> dict[str, list[float]]:
    """Milliseconds: of events from arrival and from commit, and of states from commit."""
    new_sqlite.provide(folder / "sectorwatch.sqlite")
    clock = ManualClock(START_US)
    store = open_store(f"sqlite:///{folder}/sectorwatch.sqlite", clock)
    broker = Broker(folder / "broker")
    world = World(folder, store, clock, broker.url)
    consumer, stop = Timed(broker.port), threading.Event()
    thread = threading.Thread(target=world.dispatcher.run, args=(stop,))
    thread.start()
    committed: list[float] = []

    def commit() -> None:
        committed.append(time.perf_counter())
        world.dispatcher.wake()

    world.yard.pipeline._committed = commit
    took: dict[str, list[float]] = {"burst to event": [], "commit to event": [], "commit to state": []}
    for burst in world.yard.walked(lambda t: across(t % _WALK_S), walks * _WALK_S):
        clock.now_us += 2 * SECOND_US
        last = store.last_seq()
        states = len(consumer.states_s)
        began_s = time.perf_counter()
        world.yard.pipeline.process(burst)
        fresh = {each.event.id for each in store.events(after_seq=last)}
        if not fresh:
            continue
        done_s = committed[-1]
        consumer.wait(lambda fresh=fresh: fresh <= consumer.events_s.keys())
        took["burst to event"] += [1000 * (consumer.events_s[each] - began_s) for each in fresh]
        took["commit to event"] += [1000 * (consumer.events_s[each] - done_s) for each in fresh]
        took["commit to state"] += [1000 * (at_s - done_s) for at_s in consumer.states_s[states:]]
    stop.set()
    world.dispatcher.wake()
    thread.join()
    consumer.close()
    broker.stop()
    store.close()
    return took


def line(what: str, took: list[float]) -> str:
    """Median, 95 % and the longest."""
    ordered: list[Any] = sorted(took)
    shown = [f"{statistics.quantiles(ordered, n=100)[round(100 * q) - 1]:6.1f}" for q in _QUANTILES]
    return f"{what:18} {len(took):5} {' '.join(shown)} {ordered[-1]:6.1f}"


@click.command(help=__doc__)
@click.option("--walks", default=40, show_default=True, help="People who walk across the yard.")
def main(walks: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        took = measure(Path(folder), walks)
    click.echo(f"{'':18} {'count':>5} {'median':>6} {'95 %':>6} {'most':>6}  ms")
    for what, values in took.items():
        click.echo(line(what, values))


if __name__ == "__main__":
    main()
