"""What is retained goes out as it changes, and a site with many cameras waits for none of its pictures."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from server.delivery.mqtt.discovery import Device
from server.delivery.mqtt.retained import Announced, Retained
from server.delivery.mqtt.session import Message
from server.delivery.mqtt.states import Value
from tests.documentation import ROOT


class Taken:
    """A session that keeps what is published in it."""

    def __init__(self, largest_bytes: int | None = None) -> None:
        self.largest_bytes = largest_bytes
        self.messages: list[Message] = []

    def publish(self, messages: Sequence[Message]) -> None:
        self.messages += messages

    def since_last(self) -> dict[str, bytes]:
        messages, self.messages = self.messages, []
        return {message.topic: message.payload for message in messages}


def publish(retained: Retained, session: Taken, *values: Value, pictures: Sequence[Value] = ()) -> dict[str, bytes]:
    retained.delete_others(session, [value.topic for value in (*values, *pictures)])  # type: ignore[arg-type]
    retained.publish(session, values, pictures)  # type: ignore[arg-type]
    return session.since_last()


def test_only_what_changed_is_published_and_what_is_not_wanted_any_more_is_deleted() -> None:
    retained, session = Retained(lambda _: None), Taken()
    assert publish(retained, session, Value("a", b"1"), Value("b", b"1")) == {"a": b"1", "b": b"1"}
    assert publish(retained, session, Value("a", b"2"), Value("b", b"1")) == {"a": b"2"}
    assert publish(retained, session, Value("b", b"1")) == {"a": b""}
    retained.begin(["b", "old"])
    assert publish(retained, session, Value("b", b"1")) == {"b": b"1", "old": b""}


def test_a_value_that_changes_all_the_time_is_published_seldom() -> None:
    retained, session = Retained(lambda _: None), Taken()
    assert publish(retained, session, Value("a", b"1", every_s=1000.0)) == {"a": b"1"}
    assert publish(retained, session, Value("a", b"2", every_s=1000.0)) == {}


def test_many_pictures_come_one_call_after_the_other() -> None:
    retained, session = Retained(lambda sha256: sha256.encode() * 100_000), Taken()
    pictures = [Value(f"picture/{number}", bytes([97 + number]) * 2) for number in range(3)]
    calls = [publish(retained, session, pictures=pictures) for _ in range(4)]
    assert [len(call) for call in calls] == [2, 1, 0, 0]


def test_a_picture_that_is_lost_or_too_large_for_the_broker_is_deleted_there() -> None:
    retained, session = Retained({"a": b"x" * 5000}.get), Taken(largest_bytes=4000)
    pictures = [Value("large", b"a"), Value("lost", b"b")]
    assert publish(retained, session, pictures=pictures) == {"large": b"", "lost": b""}


def test_a_component_that_is_no_more_is_named_with_its_platform_alone_in_every_message_from_then_on() -> None:
    session, announced = Taken(), Announced()
    both = {"one": {"platform": "sensor"}, "two": {"platform": "event"}}
    known = announced.publish(session, {"t": Device("d", {}, both)}, {})  # type: ignore[arg-type]
    for again in (announced, Announced()):
        left = {"t": Device("d", {}, {"one": {"platform": "sensor", "name": "1"}})}
        known = again.publish(session, left, known)  # type: ignore[arg-type]
        assert b'"two":{"platform":"event"}' in session.messages[-1].payload
    again.publish(session, {}, known)  # type: ignore[arg-type]
    assert session.messages[-1] == Message("t", b"", retain=True)


def test_without_the_package_the_message_names_the_extra() -> None:
    code = "import sys; sys.modules['paho'] = None; import server.delivery.mqtt"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "ConfigurationError" in done.stderr
    assert "install sectorwatch[mqtt]" in done.stderr
