"""A client that is refused before its body was read can read the answer, and slow clients delay nobody.

The connections are real, and the bodies are larger than any buffer."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from select import select

import pytest

from server.hosting.lingering_close import LingeringCloser
from tests.server.doors import Door
from tests.server.launched import PATIENCE_S, Running
from tests.server.web_client import jpeg

LARGE = bytes(24 * 1024 * 1024)
"""More than the system holds for a connection: the client is still sending when it is refused."""
THREADS = 6
MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}


def one_image() -> bytes:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f.jpg"\r\n\r\n'
    return head + jpeg(255) + b"\r\n--x--\r\n"


@pytest.fixture
def server(tmp_path: Path, running: list[Running], scheme: str) -> Running:
    settings = {"admission_limit": 1, "threads": THREADS, "max_body_bytes": len(LARGE)}
    server = Running(["tests.server.hosted", str(tmp_path), json.dumps(settings)])
    running.append(server)
    return server


@pytest.fixture
def door(server: Running, tmp_path: Path, scheme: str) -> Door:
    return Door(int(server.line(r"^port (\d+)")[1]), tmp_path / "tls.crt" if scheme == "https" else None)


@pytest.fixture
def full(server: Running, door: Door) -> Iterator[None]:
    """The one place for uploads is taken, and another upload is being received."""
    busy = door.asking()
    busy.request("POST", "/batch", one_image(), MULTIPART)
    server.line("^asked")
    received = door.asking()
    received.request("POST", "/batch", one_image(), MULTIPART | {"Content-Length": str(len(LARGE))})
    until_s = time.monotonic() + PATIENCE_S
    while "sectorwatch_uploads_received 1.0" not in metrics_of(door):
        assert time.monotonic() < until_s, "the second upload is not being received"
    yield
    received.close()
    server.say("\n")
    assert busy.getresponse().status == 200


def sent(door: Door, body: bytes, length: int | None = None) -> http.client.HTTPResponse:
    """The answer to a client that sends all it has before it reads anything."""
    connection = door.asking()
    connection.request("POST", "/batch", body, MULTIPART | {"Content-Length": str(length or len(body))})
    return connection.getresponse()


def metrics_of(door: Door) -> str:
    connection = door.asking()
    connection.request("GET", "/metrics")
    return connection.getresponse().read().decode()


@pytest.mark.usefixtures("full")
def test_a_client_that_sends_a_large_body_to_a_full_server_can_read_when_to_retry(door: Door) -> None:
    for _ in range(2):
        answer = sent(door, LARGE)
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["Connection"] == "close"
        assert json.loads(answer.read())["detail"].startswith("no room for another upload")


@pytest.mark.usefixtures("full")
def test_many_clients_refused_at_once_can_all_read_their_answer(door: Door) -> None:
    statuses: list[int] = []
    clients = [threading.Thread(target=lambda: statuses.append(sent(door, LARGE).status)) for _ in range(12)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(PATIENCE_S)
    assert statuses == [503] * 12


@pytest.mark.usefixtures("full")
def test_an_upload_on_an_idle_connection_is_refused_by_a_full_server(door: Door) -> None:
    waiting = door.asking()
    waiting.connect()
    assert door.status() == 200
    waiting.request("POST", "/batch", one_image(), MULTIPART)
    assert waiting.getresponse().status == 503


@pytest.mark.usefixtures("full")
def test_a_full_server_answers_requests_that_are_not_uploads(door: Door) -> None:
    connection = door.asking()
    for _ in range(2):
        connection.request("GET", "/models")
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
    connection.request("POST", "/batch", one_image(), MULTIPART)
    assert connection.getresponse().status == 503


def test_a_body_that_is_too_large_is_refused_with_a_readable_answer(door: Door) -> None:
    answer = sent(door, LARGE + bytes(1024))
    assert answer.status == 413
    assert "this server takes at most" in json.loads(answer.read())["detail"]


def test_a_refusal_after_the_whole_body_was_read_keeps_the_connection(door: Door) -> None:
    connection = door.asking()
    for _ in range(2):
        connection.request("POST", "/batch", b"--x--\r\n", MULTIPART)
        answer = connection.getresponse()
        assert answer.status == 422
        assert answer.headers["Connection"] == "keep-alive"
        answer.read()


def test_clients_that_leave_ended_connections_open_do_not_delay_others(door: Door) -> None:
    slow = [door.connected() for _ in range(4)]
    for client in slow:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        while client.recv(4096):
            pass
    began = time.monotonic()
    assert door.status() == 200
    assert time.monotonic() - began < 1.5
    for client in slow:
        client.close()


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Refused:
    """A client whose connection is ending, and its closer."""

    def __init__(self, most_bytes: int) -> None:
        self.clock = Clock()
        self.closer = LingeringCloser(most_bytes, self.clock)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.client = socket.create_connection(listener.getsockname(), PATIENCE_S)
            self._server, _ = listener.accept()
        self.closer.drain(self._server)

    def is_open(self) -> bool:
        return self._server.fileno() >= 0

    def send(self, text: bytes) -> None:
        self.client.sendall(text)

    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.closer.close_expired()

    def discard(self) -> bool:
        """Discard what has arrived; whether there was anything."""
        is_some = bool(select([self.closer], [], [], PATIENCE_S)[0])
        self.closer.discard_ready()
        return is_some


def test_a_connection_whose_client_has_finished_is_closed_at_once() -> None:
    refused = Refused(most_bytes=1000)
    refused.client.close()
    assert refused.discard()
    assert not refused.is_open()


def test_a_connection_that_is_silent_for_five_seconds_is_closed() -> None:
    refused = Refused(most_bytes=1000)
    refused.wait(4.5)
    assert refused.is_open()
    refused.wait(1.0)
    assert not refused.is_open()
    refused.client.close()


def test_a_connection_that_sends_a_little_now_and_then_is_closed_after_thirty_seconds() -> None:
    refused = Refused(most_bytes=1000)
    for _ in range(9):
        refused.send(b"x")
        refused.wait(3.0)
        assert refused.is_open()
    refused.send(b"x")
    refused.wait(3.5)
    assert not refused.is_open()
    refused.client.close()


def test_a_connection_that_sends_more_than_the_largest_body_is_closed() -> None:
    refused = Refused(most_bytes=1 << 19)
    refused.client.setblocking(False)
    for _ in range(64):
        with suppress(OSError):  # full, or closed
            refused.client.send(bytes(1 << 16))
        refused.closer.discard_ready()
    assert not refused.is_open()
    refused.client.close()
