"""server/delivery/mqtt/README.md describes the channel that is there."""

from __future__ import annotations

import re

import msgspec
import pytest

from server.settings.channels import MqttSettings
from tests.documentation import ROOT
from tests.server.delivery.mqtt.brokers import Broker, Consumer
from tests.server.delivery.mqtt.worlds import World

TEXT = (ROOT / "server/delivery/mqtt/README.md").read_text(encoding="utf-8")
KEYS = {key for row in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", TEXT, re.M) for key in re.findall(r"`(\w+)`", row)}
TOPICS = [topic for row in re.findall(r"^\| (`[^|]+`) \| [yn]", TEXT, re.M) for topic in re.findall(r"`([^`]+)`", row)]


@pytest.mark.parametrize("field", msgspec.structs.fields(MqttSettings), ids=lambda field: field.name)
def test_every_key_is_listed(field: msgspec.structs.FieldInfo) -> None:
    assert field.name in KEYS


@pytest.mark.parametrize("name", ["version", "prefix", "discovery", "frigate", "fresh_s"])
def test_the_defaults_are_those_of_the_code(name: str) -> None:
    default = next(field.default for field in msgspec.structs.fields(MqttSettings) if field.name == name)
    shown = next(row for row in re.findall(r"^\| `(\w+)` \| `([^`]+)`", TEXT, re.M) if row[0] == name)[1]
    assert shown == {True: "true", False: "false"}.get(default, f"{default:g}" if name == "fresh_s" else f'"{default}"')


def test_every_topic_that_is_published_is_listed(world: World, broker: Broker) -> None:
    consumer = Consumer(broker.port)
    world.keep_frame(b"\xff\xd8", "a" * 64)
    world.store.notices.add("serves", "e" * 64, ["eye"], "loaded at start")
    world.drain()
    world.store.notices.add("approved", "e" * 64, ["eye"], "")
    world.live(26)
    world.drain()
    world.channel.test()
    consumer.settle()
    names = {"SITE": "yard", "CAMERA": "gate", "SECTOR": "[a-z]+", "TARGET": "person"}
    known = re.compile("|".join(re.sub("[A-Z]+", lambda m: names[m[0]], topic) for topic in TOPICS))
    ours = {topic.removeprefix("sectorwatch/") for topic, _ in consumer.messages if topic.startswith("sectorwatch/")}
    assert [topic for topic in ours if not known.fullmatch(topic)] == []
    assert [
        topic
        for topic in TOPICS
        if not any(re.fullmatch(re.sub("[A-Z]+", lambda m: names[m[0]], topic), o) for o in ours)
    ] == []
    consumer.close()
