"""A consumer that is written for Frigate reads our stays as its events, and our presences as its reviews."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from policies.events import microseconds
from server.delivery.mqtt import frigate
from server.domain.announcements import Announcement
from server.domain.records import What
from tests.server.delivery.mqtt.brokers import Broker, Consumer
from tests.server.delivery.mqtt.worlds import World

# Frigate's keys, from the documentation of its topics `frigate/events` and `frigate/reviews`.
OBJECT = {
    "id",
    "camera",
    "frame_time",
    "snapshot",
    "label",
    "sub_label",
    "top_score",
    "false_positive",
    "start_time",
    "end_time",
    "score",
    "box",
    "area",
    "ratio",
    "region",
    "current_zones",
    "entered_zones",
    "thumbnail",
    "has_snapshot",
    "has_clip",
    "active",
    "stationary",
    "motionless_count",
    "position_changes",
    "attributes",
    "current_attributes",
    "current_estimated_speed",
    "average_estimated_speed",
    "velocity_angle",
    "recognized_license_plate",
    "recognized_license_plate_score",
}
REVIEW = {"id", "camera", "start_time", "end_time", "severity", "thumb_path", "data"}
REVIEW_DATA = {"detections", "objects", "sub_labels", "zones", "audio"}


@pytest.fixture
def consumer(broker: Broker) -> Iterator[Consumer]:
    consumer = Consumer(broker.port)
    yield consumer
    consumer.close()


@pytest.fixture
def log(world: World) -> list[Announcement]:
    """The announcements of a walk across the yard."""
    world.live(26)
    return [Announcement(each.seq, "event", each) for each in world.store.events(after_seq=0)]


def told(announcements: Sequence[Announcement], known: frigate.Happenings | None = None) -> list[tuple[str, Any]]:
    known, messages = known or {}, []
    for announcement in announcements:
        answer = frigate.tell(announcement, known)
        messages += answer.messages
        known = answer.happenings
    return messages


def of(log: Sequence[Announcement], kind: str, sector: str = "west") -> Announcement:
    return next(each for each in log if (each.logged.event.kind, each.logged.event.sector) == (kind, sector))


def again(announcement: Announcement, what: What, **changes: Any) -> Announcement:
    """The same event, corrected or withdrawn."""
    event = msgspec.structs.replace(announcement.logged.event, **changes)
    withdrawn_us = 1 if what == "withdrawn" else None
    return Announcement(99, what, replace(announcement.logged, event=event, withdrawn_at_us=withdrawn_us))


def test_each_stay_is_new_goes_on_and_ends_under_one_id_with_all_keys_of_frigate(
    world: World, consumer: Consumer
) -> None:
    world.drain()
    world.live(26)
    world.drain()
    consumer.settle()
    messages = consumer.on("sectorwatch/events")
    for message in messages:
        assert message.keys() == {"type", "before", "after", "burst"}
        assert message["after"].keys() >= OBJECT
        assert message["before"].keys() == message["after"].keys()
    kinds: dict[str, list[str]] = {}
    for message in messages:
        kinds.setdefault(message["after"]["id"], []).append(message["type"])
    assert all(each[0] == "new" and each[-1] == "end" and "new" not in each[1:] for each in kinds.values())
    assert len(kinds) == 2, "a stay in each half"
    zones = [message["after"]["entered_zones"] for message in messages if message["type"] == "new"]
    assert sorted(zones) == [["east"], ["west"]]
    for message in messages:
        assert (message["after"]["end_time"] is not None) == (message["type"] == "end")
        assert message["after"]["current_zones"] == (
            [] if message["type"] == "end" else message["after"]["entered_zones"]
        )


def test_what_is_not_known_is_null_and_never_invented(log: list[Announcement]) -> None:
    event = of(log, "entered").logged.event
    [(_, message)] = told([of(log, "entered")])
    after = message["after"]
    nulls = {key for key, value in after.items() if value is None}
    assert nulls >= {
        "box",
        "area",
        "region",
        "ratio",
        "snapshot",
        "sub_label",
        "thumbnail",
        "velocity_angle",
        "end_time",
    }
    assert after["label"] == "person"
    assert after["camera"] == "gate"
    assert after["start_time"] == microseconds(event.started_at) / 1e6
    assert (after["score"], after["false_positive"], after["has_clip"]) == (event.score, False, False)
    assert message["burst"]["votes"] == event.votes
    assert message["burst"]["policy"] == event.provenance.policy


def test_a_presence_is_a_review_with_the_stays_in_it(world: World, consumer: Consumer) -> None:
    world.drain()
    world.live(26)
    world.drain()
    consumer.settle()
    reviews = consumer.on("sectorwatch/reviews")
    stays = {message["after"]["id"] for message in consumer.on("sectorwatch/events")}
    for review in reviews:
        assert review["after"].keys() == REVIEW
        assert review["after"]["data"].keys() == REVIEW_DATA
        assert review["after"]["severity"] == "alert"
        assert set(review["after"]["data"]["detections"]) <= stays
    by_id: dict[str, list[Any]] = {}
    for review in reviews:
        by_id.setdefault(review["after"]["id"], []).append(review)
    assert [(each[0]["type"], each[-1]["type"]) for each in by_id.values()] == [("new", "end"), ("new", "end")]
    assert [len(each[-1]["after"]["data"]["detections"]) for each in by_id.values()] == [1, 1]


def test_a_restart_between_begin_and_end_keeps_the_id(world: World, consumer: Consumer) -> None:
    world.drain()
    world.live(8)
    world.drain()
    world.stop()
    world.start()
    world.live(26, begin_s=8)
    world.drain()
    consumer.settle()
    west = [each for each in consumer.on("sectorwatch/events") if each["after"]["entered_zones"] == ["west"]]
    assert west[0]["type"] == "new"
    assert west[-1]["type"] == "end"
    assert len({each["after"]["id"] for each in west}) == 1
    assert west[-1]["before"]["start_time"] == west[0]["after"]["start_time"]


def test_a_stay_that_never_was_ends_as_a_false_positive(log: list[Announcement]) -> None:
    entered = of(log, "entered")
    new, end = told([entered, again(entered, "withdrawn")])
    assert end[1]["type"] == "end"
    assert end[1]["after"]["false_positive"] is True
    assert end[1]["after"]["id"] == new[1]["after"]["id"]


def test_a_stay_that_never_was_and_is_not_remembered_ends_under_its_id(log: list[Announcement]) -> None:
    entered = of(log, "entered")
    [new] = told([entered])
    [end] = told([again(entered, "withdrawn")])
    assert (end[1]["type"], end[1]["before"]) == ("end", None)
    assert end[1]["after"]["id"] == new[1]["after"]["id"]


def test_nothing_more_comes_of_a_stay_that_never_was(log: list[Announcement]) -> None:
    entered, crossed = of(log, "entered"), next(each for each in log if each.logged.event.kind == "crossed")
    same = again(crossed, "event", track=entered.logged.event.track)
    kinds = [message["type"] for _, message in told([entered, same, again(entered, "withdrawn"), same])]
    assert kinds == ["new", "update", "end"]


def test_an_end_that_is_withdrawn_lets_the_stay_go_on(log: list[Announcement]) -> None:
    entered, left = of(log, "entered"), of(log, "left")
    *_, reopened = told([entered, left, again(left, "withdrawn")])
    assert (reopened[1]["type"], reopened[1]["after"]["end_time"]) == ("update", None)
    assert reopened[1]["after"]["current_zones"] == ["west"]


def test_an_end_without_its_begin_has_no_start(log: list[Announcement]) -> None:
    [(_, end)] = told([of(log, "left")])
    assert (end["type"], end["before"], end["after"]["start_time"]) == ("end", None, None)


def test_a_corrected_score_is_an_update(log: list[Announcement]) -> None:
    entered = of(log, "entered")
    *_, update = told([entered, again(entered, "corrected", score=0.5)])
    assert update[1]["type"] == "update"
    assert (update[1]["before"]["score"], update[1]["after"]["score"]) == (0.9, 0.5)
    assert update[1]["after"]["top_score"] == 0.9


def test_a_presence_that_never_was_ends(log: list[Announcement]) -> None:
    started = of(log, "presence_started")
    *_, end = told([started, again(started, "withdrawn")])
    assert end[1]["type"] == "end"
    assert end[1]["burst"]["announced_as"] == "withdrawn"


def test_what_is_sent_twice_is_the_same_message(log: list[Announcement]) -> None:
    known: frigate.Happenings = {}
    for announcement in log:
        first, second = frigate.tell(announcement, known), frigate.tell(announcement, known)
        assert first == second
        known = first.happenings


def test_what_is_remembered_has_a_bound(log: list[Announcement]) -> None:
    entered = of(log, "entered")
    known: frigate.Happenings = {}
    for number in range(frigate.REMEMBERED + 5):
        known = frigate.tell(again(entered, "event", track=f"track-{number}"), known).happenings
    assert len(known) == frigate.REMEMBERED
    assert "track-4" not in "".join(name.split("/")[2] + " " for name in known).split()


def test_stays_and_presences_of_an_erased_stretch_are_forgotten_and_later_ones_are_not(world: World) -> None:
    world.drain()
    world.live(26)
    world.drain()
    before = msgspec.json.decode(world.channel.memory)["happenings"]
    first = of([Announcement(each.seq, "event", each) for each in world.store.events(after_seq=0)], "entered")
    start_us = microseconds(first.logged.event.started_at)
    world.store.retention.erase("yard", "gate", start_us, start_us + 1, author="owner")
    world.drain()
    after = msgspec.json.decode(world.channel.memory)["happenings"]
    assert after
    assert len(after) < len(before)
    gone = {each["id"] for name, each in before.items() if name not in after}
    assert not any(gone & set(each.get("stays", ())) for each in after.values())
    stored = world.store.memory("mqtt")
    assert stored is not None
    assert not any(each in stored for each in gone), "nor does the database hold it"


def test_frigates_topics_can_be_switched_off(world: World, consumer: Consumer) -> None:
    world.start(frigate=False)
    world.drain()
    world.live(26)
    world.drain()
    consumer.settle()
    assert consumer.on("sectorwatch/event")
    assert consumer.on("sectorwatch/events") == consumer.on("sectorwatch/reviews") == []


def test_a_second_visit_of_a_track_to_a_sector_is_another_event(log: list[Announcement]) -> None:
    entered, left = of(log, "entered"), of(log, "left")
    later = entered.logged.event.started_at.replace(minute=30)
    second = again(entered, "event", started_at=later, confirmed_at=later)
    first, _, new = [each for topic, each in told([entered, left, second]) if topic == "events"]
    assert (new["type"], new["after"]["end_time"]) == ("new", None)
    assert new["after"]["id"] != first["after"]["id"]
