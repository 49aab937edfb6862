"""Keeps what the broker retains up to date: values as they change, and devices of Home Assistant."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

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
        self._too_large = ""

    @property
    def topics(self) -> tuple[str, ...]:
        """Whatever may be retained."""
        return tuple(sorted(self._published))

    def begin(self, topics: Iterable[str]) -> None:
        """A new session: all has to be published again. `topics`: what may be retained from before."""
        self._published = dict.fromkeys(topics, (None, 0.0))

    def forget(self, topic: str) -> bool:
        """The broker retains something else on a topic. Whether we had published on it."""
        return self._published.pop(topic, (None, 0.0))[0] is not None

    def publish(self, session: Session, values: Sequence[Value], pictures: Sequence[Value], *, keep: str = "") -> None:
        """Publish what has changed, delete what is neither among the values nor the topic `keep`.

        Of many pictures some wait for the next call.
        """
        now_s = time.monotonic()
        kept = {value.topic for value in values} | {value.topic for value in pictures} | {keep}
        gone = [topic for topic in self._published if topic not in kept]
        changed = [value for value in values if self._is_due(value, now_s)]
        messages = [Message(topic, b"", retain=True) for topic in gone]
        messages += [Message(value.topic, value.payload, retain=True) for value in changed]
        size_bytes = 0
        for value in pictures:
            if size_bytes < PICTURES_BYTES and self._is_due(value, now_s):
                messages.append(Message(value.topic, self._picture(session, value.payload.decode()), retain=True))
                changed.append(value)
                size_bytes += len(messages[-1].payload)
        session.publish(messages)
        for topic in gone:
            del self._published[topic]
        self._published |= {value.topic: (value.payload, now_s) for value in changed}

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


class Announced:
    """The devices that Home Assistant is told of. `devices` outlasts restarts, so that it is told of what goes."""

    def __init__(self) -> None:
        self._published: dict[str, bytes] = {}

    def again(self) -> None:
        """All devices have to be announced again."""
        self._published = {}

    def publish(self, session: Session, devices: Mapping[str, Device], known: Devices) -> Devices:
        """Announce devices (by topic) that are new or changed, delete those that are gone; what is known from now on.

        The first comes first: the others are reached over it.
        """
        components = {topic: _components(device, known.get(topic, {})) for topic, device in devices.items()}
        payloads = {topic: msgspec.json.encode(device.payload(components[topic])) for topic, device in devices.items()}
        messages = [Message(topic, b"", retain=True) for topic in known if topic not in devices]
        changed = {topic: body for topic, body in payloads.items() if self._published.get(topic) != body}
        session.publish([*messages, *(Message(topic, body, retain=True) for topic, body in changed.items())])
        self._published = payloads
        return components


def _components(device: Device, known: Mapping[str, str]) -> dict[str, str]:
    past = [(name, platform) for name, platform in known.items() if name not in device.components]
    now = {name: component["platform"] for name, component in device.components.items()}
    return dict(past[-FORGOTTEN:]) | now
