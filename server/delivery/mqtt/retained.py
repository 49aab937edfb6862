"""Keeps what the broker retains up to date: values as they change, and devices of Home Assistant."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from server.delivery.mqtt.discovery import Device
from server.delivery.mqtt.session import Message, Session
from server.delivery.mqtt.states import Value

log = logging.getLogger(__name__)

FORGOTTEN = 200
"""Components of a device that are no more, and still named in its message; the oldest are left out."""
PICTURES_BYTES = 250_000
"""Of pictures in one call, and the rest of one more: on a slow link the right to send has to be prolonged between."""
_HEADER_BYTES = 512
"""Of a message besides its payload, generously."""

Devices = Mapping[str, Mapping[str, str]]
"""By the topic of a device: its components, past ones too, with their platforms."""


class Retained:
    """Values by topic. `load` gives the bytes of a value whose payload stands for a picture; None: it is lost."""

    def __init__(self, load: Callable[[str], bytes | None]) -> None:
        self._load = load
        self._published: dict[str, tuple[bytes | None, float]] = {}
        self._topics: tuple[str, ...] | None = None
        self._too_large = ""

    @property
    def topics(self) -> tuple[str, ...]:
        """Whatever may be retained; the same object while it is the same."""
        if self._topics is None:
            self._topics = tuple(sorted(self._published))
        return self._topics

    def begin(self, topics: Iterable[str]) -> None:
        """A new session: all has to be published again. `topics`: what may be retained from before."""
        self._published = dict.fromkeys(topics, (None, 0.0))
        self._topics = None

    def forget(self, topic: str) -> bool:
        """The broker retains something else on a topic. Whether we had published on it."""
        self._topics = None
        return self._published.pop(topic, (None, 0.0))[0] is not None

    def delete_others(self, session: Session, topics: Collection[str]) -> None:
        """Have the broker delete what it may retain on any other topic."""
        gone = [topic for topic in self._published if topic not in topics]
        if gone:
            session.publish([Message(topic, b"", retain=True) for topic in gone])
            self._published = {topic: held for topic, held in self._published.items() if topic in topics}
            self._topics = None

    def publish(self, session: Session, values: Sequence[Value], pictures: Sequence[Value] = ()) -> None:
        """Publish what has changed. Of many pictures some wait for the next call."""
        now_s = time.monotonic()
        changed = [value for value in values if self._is_due(value, now_s)]
        messages = [Message(value.topic, value.payload, retain=True) for value in changed]
        size_bytes = 0
        for value in pictures:
            if size_bytes < PICTURES_BYTES and self._is_due(value, now_s):
                messages.append(Message(value.topic, self._picture(session, value.payload.decode()), retain=True))
                changed.append(value)
                size_bytes += len(messages[-1].payload)
        session.publish(messages)
        count = len(self._published)
        self._published |= {value.topic: (value.payload, now_s) for value in changed}
        if len(self._published) != count:
            self._topics = None

    def holds(self, values: Iterable[Value]) -> bool:
        """Whether all of these are published, and none of them waits."""
        return all(self._published.get(value.topic, (None, 0.0))[0] == value.payload for value in values)

    def _is_due(self, value: Value, now_s: float) -> bool:
        before, at_s = self._published.get(value.topic, (None, 0.0))
        return before is None or (before != value.payload and now_s - at_s >= value.every_s)

    def _picture(self, session: Session, sha256: str) -> bytes:
        """A picture's bytes; empty where it is lost, or too large for the broker."""
        picture = self._load(sha256) or b""
        if fits(session, picture):
            return picture
        if sha256 != self._too_large:
            log.warning(
                "picture not published: too large for the broker",
                extra={"bytes": len(picture), "largest_bytes": session.largest_bytes},
            )
        self._too_large = sha256
        return b""


def fits(session: Session, payload: bytes) -> bool:
    """Whether the broker takes a message with this payload."""
    return session.largest_bytes is None or len(payload) + _HEADER_BYTES <= session.largest_bytes


class _Made(NamedTuple):
    """A device, its components with those that are no more, and the message about it."""

    device: Device
    components: Mapping[str, str]
    message: bytes


class Announced:
    """The devices that Home Assistant is told of. What is known of them outlasts restarts, so that it is told of what
    goes.
    """

    def __init__(self) -> None:
        self._made: dict[str, _Made] = {}

    def again(self) -> None:
        """All devices have to be announced again."""
        self._made = {}

    def publish(
        self, session: Session, devices: Mapping[str, Device], known: Devices, later: Collection[str] = ()
    ) -> Devices:
        """Announce devices (by topic) that are new or changed, but for those that come `later`; delete those that are
        gone. What is known from now on, the same object where that has not changed. A device that comes as the same
        object has not changed.

        The first comes first: the others are reached over it.
        """
        messages = [Message(topic, b"", retain=True) for topic in known if topic not in devices]
        made: dict[str, _Made] = {}
        for topic, device in devices.items():
            before = self._made.get(topic)
            if before is not None and before.device is device:
                made[topic] = before
                continue
            if topic in later:
                continue
            components = _components(device, known.get(topic, {}))
            made[topic] = _Made(device, components, msgspec.json.encode(device.payload(components)))
            if before is None or before.message != made[topic].message:
                messages.append(Message(topic, made[topic].message, retain=True))
        session.publish(messages)
        self._made = made
        if not messages:
            return known
        waiting = {topic: components for topic, components in known.items() if topic in later}
        return waiting | {topic: each.components for topic, each in made.items()}


def _components(device: Device, known: Mapping[str, str]) -> dict[str, str]:
    past = [(name, platform) for name, platform in known.items() if name not in device.components]
    now = {name: component["platform"] for name, component in device.components.items()}
    return dict(past[-FORGOTTEN:]) | now
