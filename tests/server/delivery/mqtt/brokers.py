"""A Mosquitto of a test's own, and a consumer of what it is sent."""

from __future__ import annotations

import queue
import socket
import ssl
import subprocess
import threading
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests import mosquitto
from tests.server.doors import free_port

PATIENCE_S = 30.0
_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"


class Broker:
    """Mosquitto on a port of loopback. What it retains outlasts `stop`, and not `kill`."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.port = free_port()
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._file = folder / "mosquitto.conf"
        own = lines or ("allow_anonymous true",)
        self._file.write_text(
            "\n".join(
                [
                    "per_listener_settings false",
                    "persistence true",
                    f"persistence_location {folder}/",
                    "autosave_interval 0",
                    "log_dest stderr",
                    "user root",
                    "max_queued_messages 0",  # else a consumer that is slow loses what comes after a thousand
                    f"listener {self.port} 127.0.0.1",
                    *own,
                    "",
                ]
            )
        )
        self._process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        program = mosquitto.program()
        assert program is not None, mosquitto.missing()
        self._process = subprocess.Popen(
            [program, "-c", str(self._file)], stderr=subprocess.PIPE, text=True, env=mosquitto.environment()
        )
        running = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(self._process, running), daemon=True)
        self.output: list[str] = []
        self._reader.start()
        assert running.wait(PATIENCE_S), "".join(self.output)
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as asking, suppress(ConnectionError):
            asking.sendall(_CONNECT)
            asking.recv(1)  # it heeds signals once it answers, or hangs up

    def _read(self, process: subprocess.Popen[str], running: threading.Event) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.output.append(line)
            if "running" in line:
                running.set()

    def stop(self) -> None:
        self._end("terminate")

    def kill(self) -> None:
        """It dies, and saves nothing."""
        self._end("kill")

    def _end(self, how: str) -> None:
        process, self._process = self._process, None
        if process is not None:
            getattr(process, how)()
            process.wait(PATIENCE_S)
            self._reader.join(PATIENCE_S)
            assert process.stderr is not None
            process.stderr.close()


class Consumer:
    """A client that gets everything. `retained` is what the broker retains, as far as it was sent; `messages` is all
    that came, in order.
    """

    def __init__(
        self,
        port: int,
        *topics: str,
        user: tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        will: tuple[str, bytes] | None = None,
    ) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.retained: dict[str, bytes] = {}
        self.first: dict[str, bytes] = {}
        """What the broker retained when we came."""
        self._changed = threading.Condition()
        self._ready: queue.Queue[None] = queue.Queue()
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_message = self._on_message
        self._client.on_subscribe = lambda *_: self._ready.put(None)
        if user is not None:
            self._client.username_pw_set(*user)
        if tls is not None:
            self._client.tls_set_context(tls)
        self._client.connect("127.0.0.1", port, clean_start=True)
        self._client.loop_start()
        self.listen(*(topics or ("#",)))

    def listen(self, *topics: str) -> None:
        self._client.subscribe([(topic, 1) for topic in topics])
        self._ready.get(timeout=PATIENCE_S)

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        payload = bytes(message.payload)
        with self._changed:
            if message.retain:
                self.first[message.topic] = payload
            else:
                self.messages.append((message.topic, payload))
            self.retained[message.topic] = payload
            self.got(message.topic, payload, is_retained=message.retain)
            self._changed.notify_all()

    def got(self, topic: str, payload: bytes, *, is_retained: bool) -> None:
        """Is called for each message, in the client's thread."""

    def on(self, topic: str) -> list[Any]:
        """What came on a topic, decoded; not what was retained before."""
        return [msgspec.json.decode(payload) for name, payload in self.messages if name == topic]

    def wait(self, holds: Any, what: str = "") -> None:
        with self._changed:
            assert self._changed.wait_for(holds, PATIENCE_S), what or f"{len(self.messages)} messages came"

    def wait_for(self, topic: str, payload: bytes) -> None:
        """Wait until the newest message of a topic is this."""
        self.wait(lambda: self.retained.get(topic) == payload, f"{topic}: {self.retained.get(topic)!r}")

    def settle(self) -> None:
        """Wait until everything that was published before has come."""
        mark = f"mark/{len(self.messages)}"
        self.say(mark, b"x")
        self.wait(lambda: any(topic == mark for topic, _ in self.messages))

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(PATIENCE_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def counted(messages: Sequence[tuple[str, bytes]]) -> dict[str, int]:
    """How many messages came on each topic."""
    counts: dict[str, int] = defaultdict(int)
    for topic, _ in messages:
        counts[topic] += 1
    return dict(counts)
