"""Fixtures only: a broker, and a server's parts around a channel to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.store import Store, open_store
from tests.server import new_sqlite
from tests.server.delivery.mqtt.brokers import Broker, Consumer
from tests.server.delivery.mqtt.home_assistant import HomeAssistant
from tests.server.delivery.mqtt.worlds import World
from tests.stand_ins import ManualClock


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path / "broker")
    yield broker
    broker.stop()


@pytest.fixture
def sqlite(tmp_path: Path, clock: ManualClock) -> Iterator[Store]:
    """A store; what these tests are about does not depend on its engine."""
    new_sqlite.provide(tmp_path / "sectorwatch.sqlite")
    store = open_store(f"sqlite:///{tmp_path}/sectorwatch.sqlite", clock)
    yield store
    store.close()


@pytest.fixture
def world(tmp_path: Path, sqlite: Store, clock: ManualClock, broker: Broker) -> Iterator[World]:
    world = World(tmp_path, sqlite, clock, broker.url)
    yield world
    world.end()


@pytest.fixture
def home(broker: Broker) -> Iterator[Callable[[], HomeAssistant]]:
    """Starts a Home Assistant; it must have found no fault in the end."""
    started: list[HomeAssistant] = []

    def start() -> HomeAssistant:
        started.append(HomeAssistant(broker.port))
        return started[-1]

    yield start
    for each in started:
        each.close()
    assert [fault for each in started for fault in each.faults] == []


@pytest.fixture
def consumer(broker: Broker) -> Iterator[Consumer]:
    consumer = Consumer(broker.port)
    yield consumer
    consumer.close()
