"""Home Assistant finds the entities by itself, and their states are those of the report on the cameras."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from policies.events import instant
from server.delivery.care import ChannelCare
from server.domain.errors import Conflict
from server.settings.channels import MqttSettings
from tests.policies.stories import TWO_HALVES
from tests.server.delivery.mqtt.brokers import Broker, Consumer
from tests.server.delivery.mqtt.home_assistant import STATUS, HomeAssistant
from tests.server.delivery.mqtt.worlds import EVERY_S, SECOND, World

Home = Callable[[], HomeAssistant]
GATE = "sectorwatch/cameras/yard/gate"
WEST = f"{GATE}/sectors/west/targets/person"
KINDS = {
    "movement",
    "movement_west",
    "movement_east",
    "occupancy_west_person",
    "occupancy_east_person",
    "connectivity",
    "problem",
    "condition",
    "burst",
}


def test_each_camera_is_a_device_that_is_reached_over_the_server(world: World, home: Home) -> None:
    world.live(6)
    world.drain()
    ha = home()
    assert ha.devices.keys() == {"sectorwatch_server", "sectorwatch_cameras_yard_gate"}
    gate, server = ha.devices["sectorwatch_cameras_yard_gate"], ha.devices["sectorwatch_server"]
    assert gate["via_device"] in server["identifiers"]
    assert (gate["name"], gate["configuration_url"]) == ("yard gate", "https://yard.example")
    mine = {uid for uid, entity in ha.entities.items() if entity.device == "sectorwatch_cameras_yard_gate"}
    assert mine == {f"sectorwatch_cameras_yard_gate_{kind}" for kind in KINDS}


def test_a_person_in_a_sector_turns_it_on_and_off_and_moves(world: World, home: Home) -> None:
    world.live(2)
    world.drain()
    ha = home()
    west, east = ha.named("occupancy_west_person"), ha.named("occupancy_east_person")
    assert (west.state, west.is_available) == (False, True)
    world.live(8, begin_s=2)
    world.drain()
    ha.settle()
    assert (west.state, east.state) == (True, False)
    assert west.attributes["since"].startswith("2026-11-22T07:00:0")
    assert (west.attributes["label"], west.attributes["cause"]) == ("person", None)
    world.live(26, begin_s=8)
    world.drain()
    ha.settle()
    assert (west.state, east.state) == (False, False)
    moved = [fired for fired in ha.named("gate_movement").fired if fired["event_type"] == "moved"]
    assert [(fired["from_sector"], fired["to_sector"], fired["direction"]) for fired in moved] == [
        ("west", "east", "right")
    ]
    assert [fired["event_type"] for fired in ha.named("movement_west").fired] == ["entered", "left", "moved"]
    assert "crossed" in [fired["event_type"] for fired in ha.named("gate_movement").fired]


def test_the_plug_of_an_agent_makes_its_sectors_unavailable_within_two_heartbeats_and_says_why(
    world: World, home: Home
) -> None:
    world.live(8)
    world.beat()
    world.drain()
    ha = home()
    west, connectivity = ha.named("occupancy_west_person"), ha.named("gate_connectivity")
    assert west.is_available
    assert connectivity.state is True
    world.clock.advance(2 * EVERY_S + 1)
    world.drain()
    ha.settle()
    assert not west.is_available
    assert west.state is None, "who does not look at availability is not misled either"
    assert connectivity.state is False
    assert connectivity.is_available, "it shows that the agent is gone"
    condition = ha.named("gate_condition")
    assert (condition.state, condition.is_available) == ("agent_silent", True)
    assert west.attributes["cause"] == "agent_silent"
    assert ha.named("gate_problem").state is True


def test_an_agent_with_rare_bursts_is_missed_within_two_heartbeats_as_well(world: World, home: Home) -> None:
    world.live(8)
    world.beat(next_burst_by=instant(world.clock.now_us + 3600 * SECOND))
    world.drain()
    ha = home()
    world.clock.advance(2 * EVERY_S + 1)
    world.drain()
    ha.settle()
    assert not ha.named("occupancy_west_person").is_available
    assert ha.named("gate_condition").state == "agent_silent"


def test_a_late_event_turns_nothing_on(world: World, home: Home) -> None:
    world.live(26)
    world.drain()
    ha = home()
    world.stop()
    with world.store._engine.begin() as connection:
        connection.exec_driver_sql("update channels set delivered_seq = 0")
    world.start()
    world.drain()
    ha.settle()
    assert ha.named("occupancy_west_person").state is False
    assert ha.named("occupancy_east_person").state is False
    states = [payload for topic, payload in ha.messages if topic.endswith("/state") and "targets" in topic]
    assert b"ON" not in states


def test_old_movement_is_an_event_and_no_movement_of_an_entity(world: World, home: Home) -> None:
    world.start(fresh_s=300)
    world.drain()
    ha = home()
    ha.listen("sectorwatch/event")
    world.live(26)
    world.clock.advance(3600)
    world.drain()
    ha.settle()
    assert len(ha.on("sectorwatch/event")) == world.store.last_seq()
    assert ha.named("gate_movement").fired == []


def test_everything_is_announced_again_when_home_assistant_begins_anew(world: World, home: Home) -> None:
    world.live(6)
    world.drain()
    ha = home()
    count = sum(topic.endswith("/config") for topic, _ in ha.messages)
    ha.say(STATUS, b"online")
    ha.settle()
    world.drain()
    ha.settle()
    assert sum(topic.endswith("/config") for topic, _ in ha.messages) == count + 2


def test_nothing_is_published_again_that_did_not_change(world: World, broker: Broker) -> None:
    world.live(6)
    world.drain()
    consumer = Consumer(broker.port)
    world.drain()
    consumer.settle()
    assert [topic for topic, _ in consumer.messages if not topic.startswith("mark/")] == []
    consumer.close()


def test_a_sector_that_is_no_more_is_deleted_also_after_a_restart(world: World, home: Home) -> None:
    world.live(6)
    world.drain()
    ha = home()
    world.stop()
    world.yard.write(TWO_HALVES.replace("west", "north"))
    world.start()
    world.drain()
    ha.settle()
    assert not [uid for uid in ha.entities if "west" in uid]
    assert ha.named("occupancy_north_person").is_available is False
    assert ha.named("occupancy_north_person").attributes["cause"] == "no burst was judged by this policy yet"
    assert ha.retained[f"{WEST}/state"] == b"", "nothing of it is retained"
    later = home()
    assert not [uid for uid in later.entities if "west" in uid]
    assert later.entities.keys() == ha.entities.keys()


def test_a_camera_that_is_no_more_is_deleted_with_all_that_is_retained_of_it(world: World, home: Home) -> None:
    world.live(6)
    world.drain()
    ha = home()
    world.stop()
    world.start(sites=["another"])
    world.drain()
    ha.settle()
    assert ha.devices.keys() == {"sectorwatch_server"}
    assert not [topic for topic, payload in ha.retained.items() if topic.startswith(GATE) and payload]
    assert not [topic for topic in home().first if "yard" in topic]


def test_a_broken_policy_file_deletes_nothing(world: World, home: Home) -> None:
    world.live(6)
    world.drain()
    ha = home()
    before = set(ha.entities)
    world.stop()
    world.yard.write("site = ")
    world.start()
    world.drain()
    ha.settle()
    assert set(ha.entities) == before


def test_ids_are_the_same_after_a_restart(world: World, home: Home) -> None:
    world.live(6)
    world.drain()
    ha = home()
    before = set(ha.entities)
    world.stop()
    world.start()
    world.live(10, begin_s=6)
    world.drain()
    ha.settle()
    assert set(ha.entities) == before == ha.seen


def test_the_newest_kept_frame_is_an_image_and_goes_with_the_frame(world: World, home: Home) -> None:
    world.live(6)
    world.keep_frame(b"\xff\xd8 a picture", "a" * 64)
    world.drain()
    ha = home()
    assert ha.named("gate_picture").picture == b"\xff\xd8 a picture"
    world.newest.clear()
    world.drain()
    ha.settle()
    assert ha.retained[f"{GATE}/picture"] == b""
    assert not [uid for uid in ha.entities if "picture" in uid]


def test_a_picture_is_deleted_at_the_next_start_where_pictures_are_not_wanted_any_more(
    world: World, home: Home
) -> None:
    world.live(6)
    world.keep_frame(b"\xff\xd8 a picture", "a" * 64)
    world.drain()
    world.stop()
    world.start(pictures=False)
    world.drain()
    ha = home()
    assert f"{GATE}/picture" not in Consumer(ha._client._port).first
    assert not [uid for uid in ha.entities if "picture" in uid]


def test_a_channel_that_is_forgotten_leaves_nothing_at_the_broker_and_no_entity(world: World, home: Home) -> None:
    world.live(6)
    world.keep_frame(b"\xff\xd8 a picture", "a" * 64)
    world.drain()
    ha = home()
    assert ha.entities
    world.stop()
    settings = {"mqtt": msgspec.convert({"url": world.url}, MqttSettings)}
    care = ChannelCare(world.store, settings, world.surroundings)
    care.pause("ann", "mqtt")
    sentence = care.forget("ann", "mqtt")
    ha.settle()
    assert sentence is not None
    assert f"the broker at 127.0.0.1:{ha._client._port} has deleted the " in sentence
    assert ha.entities == {}
    assert Consumer(ha._client._port).first == {}
    assert world.store.channel_states() == []


def test_a_channel_is_not_forgotten_while_its_broker_is_away(world: World, broker: Broker) -> None:
    world.drain()
    world.stop()
    world.store.pause("mqtt")
    broker.stop()
    settings = {"mqtt": msgspec.convert({"url": world.url}, MqttSettings)}
    with pytest.raises(Conflict, match="its receiver still retains what it got: ConnectionError: no connection"):
        ChannelCare(world.store, settings, world.surroundings).forget("ann", "mqtt")
    assert [each.name for each in world.store.channel_states()] == ["mqtt"]
    ChannelCare(world.store, {}, world.surroundings).forget("ann", "mqtt")
    assert world.store.channel_states() == []


def test_without_a_discovery_prefix_home_assistant_is_told_of_nothing(world: World, home: Home) -> None:
    world.live(6)
    world.drain()
    world.stop()
    world.start(discovery="")
    world.drain()
    assert home().entities == {}


def test_only_chosen_targets_have_entities(world: World, home: Home) -> None:
    world.start(targets=["car"])
    world.live(6)
    world.drain()
    assert not [uid for uid in home().entities if "person" in uid]


@pytest.mark.parametrize("what", ["unapproved", "approved"])
def test_a_notice_is_an_event_of_the_server(world: World, home: Home, what: str) -> None:
    world.drain()
    ha = home()
    world.store.notices.add(what, "e" * 64, ["eye"], "says `cat`, not `person`")  # type: ignore[arg-type]
    world.drain()
    ha.settle()
    [fired] = ha.named("server_notice").fired
    assert (fired["event_type"], fired["detail"]) == (what, "says `cat`, not `person`")
