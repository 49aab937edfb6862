"""A channel that speaks for thousands of cameras: in parts, to keep the right to send, and of what changed alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from policies.occupancy import Occupancy
from server.camera_status.reports import CameraReport
from server.camera_status.status import Condition, SectorState
from server.delivery.mqtt import MqttChannel, make, states
from server.delivery.mqtt.channel import CAMERAS_AT_ONCE
from server.settings.channels import MqttSettings
from tests.server.delivery.mqtt.brokers import Broker, Consumer
from tests.server.delivery.mqtt.worlds import World

SINCE = datetime(2026, 11, 1, tzinfo=UTC)
COUNT = CAMERAS_AT_ONCE + 100
SERVER, PLACES = "sectorwatch/available", "sectorwatch/cameras/fleet"


def report(number: int) -> CameraReport:
    clear = SectorState("gate", "person", Occupancy.CLEAR, SINCE, None)
    return CameraReport(
        site="fleet",
        camera=f"cam-{number:04d}",
        condition=Condition("ok", None, SINCE),
        last_burst=None,
        last_heartbeat=None,
        sectors=(clear,),
    )


@pytest.fixture
def reports() -> list[CameraReport]:
    return [report(number) for number in range(COUNT)]


@pytest.fixture
def refresh(world: World, broker: Broker, reports: list[CameraReport]) -> Iterator[Callable[[], None]]:
    """Has a channel that speaks for them say what is new."""
    around = dataclasses.replace(world.surroundings(), reports=lambda _site: list(reports))
    channel: MqttChannel = make("fleet", MqttSettings(url=broker.url), around)
    channel.begin(None)

    def look() -> None:
        channel._next_s = 0.0
        channel.refresh()

    yield look
    channel.end()


def cameras_of(messages: list[tuple[str, bytes]]) -> set[str]:
    return {topic.split("/")[3] for topic, _ in messages if topic.startswith(PLACES)}


def test_of_many_cameras_some_wait_for_the_next_call_and_the_server_is_there_after_all_of_them(
    refresh: Callable[[], None], consumer: Consumer
) -> None:
    refresh()
    consumer.settle()
    assert len(cameras_of(consumer.messages)) == CAMERAS_AT_ONCE
    assert SERVER not in consumer.retained
    refresh()
    consumer.wait_for(SERVER, b"online")
    assert len(cameras_of(consumer.messages)) == COUNT
    devices = [topic for topic in consumer.retained if topic.startswith("homeassistant/device/")]
    assert len(devices) == COUNT + 1


def test_where_more_change_all_the_time_than_one_call_takes_every_camera_is_told_and_the_server_is_there(
    refresh: Callable[[], None], consumer: Consumer, reports: list[CameraReport]
) -> None:
    for minute in range(1, 4):
        refresh()
        consumer.settle()
        told = cameras_of(consumer.messages)
        assert len(told) == min(minute * CAMERAS_AT_ONCE, COUNT)
        assert (SERVER in consumer.retained) == (len(told) == COUNT)
        busy = Condition("late", "no_burst", datetime(2026, 11, 1, 0, minute, tzinfo=UTC))
        reports[: COUNT - 50] = [replace(each, condition=busy) for each in reports[: COUNT - 50]]


def test_later_only_cameras_that_changed_are_worked_out_and_published(
    refresh: Callable[[], None],
    consumer: Consumer,
    reports: list[CameraReport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refresh()
    refresh()
    consumer.wait_for(SERVER, b"online")
    asked: list[str] = []
    made = states.camera

    def noted(one: CameraReport, *rest: object) -> states.Camera:
        asked.append(one.camera)
        return made(one, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(states, "camera", noted)
    before = len(consumer.messages)
    (sector,) = reports[7].sectors
    reports[7] = replace(reports[7], sectors=(replace(sector, state=Occupancy.OCCUPIED),))
    reports[8] = report(8)  # read again, and the same
    del reports[-1]
    refresh()
    consumer.settle()
    assert consumer.retained[f"{PLACES}/cam-0007/sectors/gate/targets/person/state"] == b"ON"
    new = consumer.messages[before:]
    assert asked == ["cam-0007"]
    assert cameras_of(new) == {"cam-0007", f"cam-{COUNT - 1:04d}"}
    assert all(payload == b"" for topic, payload in new if f"cam-{COUNT - 1:04d}" in topic)
