"""One connection with a broker, by paho: the only module that knows it.

A session is opened once and never connects again: whoever uses it opens another. What it publishes is acknowledged
before the call returns, so nothing waits in memory.
"""

from __future__ import annotations

import logging
import secrets
import socket
import ssl
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

log = logging.getLogger(__name__)

KEEPALIVE_S = 15
"""The broker publishes the will of a client from which nothing came for one and a half times as long."""
ANSWER_S = 10.0
"""The longest wait for an answer of the broker, besides the time that a slow link needs for the bytes."""
_SLOWEST_BYTES_PER_S = 12_500
_CONNECT_S = 5.0
_AT_ONCE = 50
_HEARD = 100
_FINAL = frozenset({0x87, 0x90, 0x95, 0x99})
"""Not authorised, topic name invalid, packet too large, payload format invalid: sending it again changes nothing."""
_UNSUPPORTED_VERSION = 0x84
_VERSIONS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}


class Message(NamedTuple):
    """What is published, at QoS 1. An empty retained one deletes what the broker retains."""

    topic: str
    payload: bytes
    retain: bool = False


class Heard(NamedTuple):
    """What came on a topic that the session listens to. `is_retained`: it was published before we listened."""

    topic: str
    payload: bytes
    is_retained: bool


class Address(NamedTuple):
    """Where the broker is, and who we are there. `tls` None: plain TCP."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    user: str
    password: str | None
    version: str

    @property
    def place(self) -> str:
        return f"{self.host}:{self.port}"


class PublishRefused(Exception):
    """The broker is there and refuses a message. `is_final`: it will always do so."""

    def __init__(self, topic: str, reason: str, is_final: bool) -> None:
        super().__init__(f"the broker refuses a message on {topic}: {reason}")
        self.is_final = is_final


class VersionRefused(ConnectionError):
    """The broker does not speak this version of MQTT, or hangs up when it is asked in it."""


class Session:
    """A connection. Constructing connects, and raises ConnectionError (VersionRefused) where that fails.

    `will` is what the broker publishes if the connection breaks.
    """

    def __init__(self, address: Address, client_id: str, will: Message | None, listen_to: Sequence[str] = ()) -> None:
        self._address = address
        self._changed = threading.Condition()
        self._acknowledged: dict[int, ReasonCode] = {}
        self._answer: ReasonCode | None = None
        self._subscribed: Sequence[ReasonCode] | None = None
        self._lost: str | None = None
        self._heard: deque[Heard] = deque(maxlen=_HEARD)
        self.largest_bytes: int | None = None
        """What the broker takes at most as one packet, where it says so."""
        self._client = self._made(client_id, will)
        try:
            self._connect()
            if listen_to:
                self._listen(listen_to)
        except BaseException:
            self._hang_up()
            raise

    def _made(self, client_id: str, will: Message | None) -> Client:
        address = self._address
        is_5 = address.version == "5"
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if is_5 else True,
            protocol=_VERSIONS[address.version],
            reconnect_on_failure=False,
        )
        client.connect_timeout = _CONNECT_S
        client.max_queued_messages_set(2 * _AT_ONCE)
        if address.tls is not None:
            client.tls_set_context(address.tls)
        if address.user:
            client.username_pw_set(address.user, address.password)
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_socket_open = _without_delay
        return client

    def _connect(self) -> None:
        address = self._address
        clean: dict[str, Any] = {"clean_start": True} if address.version == "5" else {}
        try:
            self._client.connect(address.host, address.port, KEEPALIVE_S, **clean)
        except (OSError, ValueError) as error:
            raise ConnectionError(f"no connection with the broker at {address.place}: {error}") from error
        self._client.loop_start()
        with self._changed:
            self._changed.wait_for(lambda: self._answer is not None or self._lost is not None, ANSWER_S)
        answer = self._answer
        if answer is not None and not answer.is_failure:
            return
        if answer is None:
            what = "hangs up without an answer" if self._lost else f"does not answer in {ANSWER_S:g} s"
            kind = VersionRefused if self._lost else ConnectionError
            raise kind(f"the broker at {address.place} {what}")
        if answer.value == _UNSUPPORTED_VERSION:
            raise VersionRefused(f"the broker at {address.place} does not speak MQTT {address.version}")
        raise ConnectionError(
            f"the broker at {address.place} refuses the connection: {answer}; see `user`, `password`, `client_id` and"
            " `certificate` of the channel"
        )

    def _listen(self, topics: Sequence[str]) -> None:
        result, _ = self._client.subscribe([(topic, 1) for topic in topics])
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise ConnectionError(f"the connection with the broker at {self._address.place} broke")
        with self._changed:
            self._changed.wait_for(lambda: self._subscribed is not None or self._lost is not None, ANSWER_S)
        for topic, reason in zip(topics, self._subscribed or (), strict=False):
            if reason.is_failure:
                log.warning("the broker does not let us listen", extra={"topic": topic, "reason": str(reason)})
        self.check()

    def check(self) -> None:
        """Raises ConnectionError where the connection is broken."""
        if self._lost is not None:
            raise ConnectionError(f"the connection with the broker at {self._address.place} broke: {self._lost}")

    def publish(self, messages: Sequence[Message]) -> None:
        """Publish in order, and wait until the broker has acknowledged all. Raises ConnectionError, PublishRefused."""
        waiting = iter(messages)
        while some := list(islice(waiting, _AT_ONCE)):
            self._publish(some)

    def _publish(self, messages: Sequence[Message]) -> None:
        self.check()
        self._acknowledged.clear()
        numbers = {}
        for message in messages:
            told = self._client.publish(message.topic, message.payload, qos=1, retain=message.retain)
            if told.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self.check()
                raise ConnectionError(f"the connection with the broker at {self._address.place} broke: {told.rc.name}")
            numbers[told.mid] = message.topic
        patience_s = ANSWER_S + sum(len(message.payload) for message in messages) / _SLOWEST_BYTES_PER_S
        with self._changed:
            self._changed.wait_for(
                lambda: self._lost is not None or len(self._acknowledged) >= len(numbers), patience_s
            )
            if len(self._acknowledged) < len(numbers):
                self._lost = self._lost or f"no acknowledgement in {patience_s:.0f} s"
                self.check()
        for number, topic in numbers.items():
            reason = self._acknowledged[number]
            if reason.is_failure:
                raise PublishRefused(topic, str(reason), reason.value in _FINAL)

    def heard(self) -> Iterator[Heard]:
        """What came since the last call."""
        while self._heard:
            yield self._heard.popleft()

    def close(self, last: Message | None = None) -> None:
        """Publish a last message, if the connection is there, and hang up. The broker does not publish the will."""
        try:
            if last is not None and self._lost is None:
                self._publish([last])
        except (ConnectionError, PublishRefused) as error:
            log.warning("not said at the end", extra={"topic": last and last.topic, "error": str(error)})
        finally:
            self._hang_up()

    def _hang_up(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: Client, userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        with self._changed:
            self.largest_bytes = getattr(properties, "MaximumPacketSize", None)
            self._answer = reason
            self._changed.notify_all()

    def _on_disconnect(
        self, client: Client, userdata: Any, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        with self._changed:
            self._lost = self._lost or str(reason)
            self._changed.notify_all()

    def _on_publish(
        self, client: Client, userdata: Any, number: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        _acknowledge_at_once(client.socket())
        with self._changed:
            self._acknowledged[number] = reason
            self._changed.notify_all()

    def _on_subscribe(
        self, client: Client, userdata: Any, number: int, reasons: list[ReasonCode], properties: Properties | None
    ) -> None:
        with self._changed:
            self._subscribed = reasons
            self._changed.notify_all()

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        self._heard.append(Heard(message.topic, bytes(message.payload), message.retain))


def new_client_id() -> str:
    """A name that no other client has, as every broker takes it: 22 letters, digits and hyphens."""
    return f"sectorwatch-{secrets.token_hex(5)}"


def _without_delay(client: Client, userdata: Any, sock: Any) -> None:
    """Small messages leave at once."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _acknowledge_at_once(sock)


def _acknowledge_at_once(sock: Any) -> None:
    """Let TCP confirm what came: Mosquitto sends the second of two acknowledgements once the first is confirmed, which
    Linux does after 40 ms. The option does not last.
    """
    if sock is not None and hasattr(socket, "TCP_QUICKACK"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
