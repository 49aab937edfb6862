"""A request thread is taken for a whole request, and a slow upload holds its own client's share."""

from __future__ import annotations

import json
import math
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from server.hosting import deadlines
from server.hosting.gunicorn_app import gunicorn_options
from server.hosting.self_signed import Pair as Certificate
from server.hosting.whole_requests import HEAD_BYTES, Arrival, missing_bytes
from server.settings import ServerSettings
from server.store import open_store
from server.web.auth import new_token
from tests.server.doors import SCHEMES, Door, certified
from tests.server.launched import Running
from tests.server.web_client import envelope, jpeg

HEAD = b"POST /v1/heartbeats HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"


@pytest.mark.parametrize(
    ("arrived", "missing"),
    [
        (b"G", 1),
        (b"GET / HTTP/1.1\r\n\r", 1),
        (b"GET / HTTP/1.1\r\n\r\n", 0),
        (HEAD, 4),
        (HEAD + b"ab", 2),
        (HEAD + b"abcd", 0),
        (HEAD + b"abcdGET / HTTP/1.1", 0),
        (HEAD.replace(b": 4", b": 000000000004"), 4),
        (HEAD.replace(b": 4", b":\t8192 "), 8192),
        (HEAD.replace(b": 4", b": 8193"), 0),
        (HEAD.replace(b": 4", b": 999999999999"), 0),
        (HEAD.replace(b"Host", b"X: " + b"x" * 12000 + b"\r\nHost"), 4),
        (HEAD.replace(b"Host", b"Expect: 100-continue\r\nHost"), 0),
        (b"x" * HEAD_BYTES, 0),
        (b"GET / HTTP/1.1\n", 0),
        (b"\x16\x03\x01\x02\x00", 0),
        (b"\r\n", 1),
        (b"\r\nG", 1),
    ],
)
def test_a_request_is_whole_with_its_head_and_a_small_body(arrived: bytes, missing: int) -> None:
    assert missing_bytes(arrived) == missing


Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=["of TCP", "behind TLS"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Both ends of a connection, of the kinds from which the accepting thread reads."""
    if request.param == "behind TLS":
        client, server = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            server, _ = listener.accept()
    server.setblocking(False)
    with client, server:
        yield client, server


def arrive(arrival: Arrival, pair: Pair, data: bytes) -> None:
    """Send, and take it once it is there."""
    client, server = pair
    if data:
        client.sendall(data)
    else:
        client.shutdown(socket.SHUT_WR)
    assert select.select([server], [], [], 20)[0]
    arrival.receive(server)


def test_half_a_head_is_held_until_one_deadline_and_the_end_of_the_client_ends_the_waiting(pair: Pair) -> None:
    now = [100.0]
    arrival = Arrival(lambda: now[0])
    arrival.receive(pair[1])
    assert (bytes(arrival.held), arrival.deadline, arrival.is_complete) == (b"", math.inf, False)
    for at_s, half in ((200.0, b"GET / HT"), (205.0, b"TP")):
        now[0] = at_s
        arrive(arrival, pair, half)
        assert (arrival.deadline, arrival.is_complete) == (200.0 + deadlines.HEAD_S, False)
    arrive(arrival, pair, b"")
    assert (bytes(arrival.held), arrival.is_complete) == (b"GET / HTTP", True)


def test_a_connection_that_is_reset_is_left_to_a_request_thread(pair: Pair) -> None:
    arrival = Arrival()
    pair[1].close()
    arrival.receive(pair[1])
    assert arrival.is_complete


def test_no_more_than_a_head_and_a_small_body_is_held(pair: Pair) -> None:
    arrival = Arrival()
    for _ in range(8):
        arrive(arrival, pair, b"x" * 4096)
        if arrival.is_complete:
            break
    assert (len(arrival.held), arrival.is_head_too_long) == (HEAD_BYTES, True)
    whole = Arrival()
    whole.add(HEAD + b"x" * HEAD_BYTES)
    assert not whole.is_head_too_long


THREADS = 4
LIMIT = 3
SETTINGS = ServerSettings(threads=THREADS, admission_limit=LIMIT)


def hosted(folder: Path) -> tuple[Running, Door]:
    """A server that nobody makes wait in vain for a minute, by HTTPS if its folder holds a certificate."""
    settings = {"threads": THREADS, "admission_limit": LIMIT}
    server = Running(["tests.server.hosted", str(folder), json.dumps(settings), "60"])
    certificate = folder / "tls.crt"
    return server, Door(int(server.line(r"^port (\d+)")[1]), certificate if certificate.exists() else None)


@pytest.fixture(scope="module", params=SCHEMES)
def door(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("whole")
    if request.param == "https":
        certified(folder, certificate)
    server, door = hosted(folder)
    yield door
    server.end()


HALVES = {
    "head": b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX",
    "small body": b"POST /v1/heartbeats HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{",
}


@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
@pytest.mark.parametrize("half", HALVES)
def test_clients_that_send_half_a_request_hold_no_thread_for_any_time(half: str, kept: bool, door: Door) -> None:
    with ExitStack() as clients:
        for _ in range(4 * (THREADS + LIMIT)):
            client = clients.enter_context(door.connected())
            if kept:
                client.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                assert client.recv(12) == b"HTTP/1.1 200"
            client.sendall(HALVES[half])
        assert door.status(timeout_s=30) == 200


@pytest.mark.parametrize("begun", [b"", HALVES["head"]], ids=["nothing", "half a head"])
def test_any_number_of_connections_that_bring_no_request_keep_nobody_out(
    begun: bytes, tmp_path: Path, running: list[Running]
) -> None:
    server, door = hosted(tmp_path)
    running.append(server)
    with ExitStack() as clients:
        for _ in range(20 + gunicorn_options(SETTINGS)["worker_connections"]):
            client = clients.enter_context(door.connected())
            client.sendall(begun)
        assert door.status(timeout_s=30) == 200


def test_a_request_whose_head_comes_in_pieces_is_answered(door: Door) -> None:
    with door.connected(20) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in (b"GET /li", b"vez HTTP/1.1\r\nHost: 127.0.0.1\r", b"\n\r", b"\n"):
            client.sendall(piece)
        assert client.recv(12) == b"HTTP/1.1 200"


def test_requests_that_come_at_once_are_answered_in_turn_and_the_half_one_when_it_is_whole(door: Door) -> None:
    ask = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with door.connected(20) as client:
        client.sendall(3 * ask + ask[:9])
        received = b""
        while received.count(b"HTTP/1.1 200") < 3 or not received.endswith(b"}"):
            received += client.recv(4096)
        client.sendall(ask[9:])
        assert client.recv(12) == b"HTTP/1.1 200"


def token_for(folder: Path, camera: str) -> str:
    store = open_store(f"sqlite:///{folder}/sectorwatch.sqlite")
    made = new_token()
    store.add_token(made.id, camera, "north-yard", camera, made.hash)
    store.close()
    return made.token


def upload(token: str, camera: str) -> bytes:
    """A whole request with a burst of one frame."""
    frame = jpeg(250, (640, 480))
    burst = json.dumps(envelope([frame], camera=camera, burst_id=f"0197-burst-{camera}")).encode()
    parts = (
        b'--x\r\nContent-Disposition: form-data; name="burst"\r\nContent-Type: application/json\r\n\r\n%s\r\n' % burst
    )
    parts += b'--x\r\nContent-Disposition: form-data; name="file"; filename="0.jpg"\r\n\r\n%s\r\n--x--\r\n' % frame
    parts += b" " * (1 << 15)  # an epilogue, so that the body is not small
    head = (
        f"POST /v1/bursts HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(parts)}\r\n\r\n"
    )
    return head.encode() + parts


def status_of(client: socket.socket) -> int:
    client.settimeout(30)
    return int(client.recv(12)[9:])


def test_slow_uploads_of_one_token_hold_its_own_share_and_no_place_of_others(
    tmp_path: Path, running: list[Running]
) -> None:
    server, door = hosted(tmp_path)
    running.append(server)
    slow, honest = (token_for(tmp_path, camera) for camera in ("slow", "gate"))
    with ExitStack() as clients:
        sending = []
        for _ in range(8):
            client = clients.enter_context(door.connected())
            client.sendall(upload(slow, "slow")[:-1000])
            sending.append(client)
        while len(sending) > 1:  # one is received; the others are beyond the share of a client, of three
            ready = select.select(sending, [], [], 30)[0]
            assert ready, "no upload beyond the share is refused"
            for client in ready:
                assert status_of(client) == 503
                sending.remove(client)
        good = clients.enter_context(door.connected())
        good.sendall(upload(honest, "gate"))
        server.line("^asked")
        server.say("\n")
        assert status_of(good) == 201
        sending[0].sendall(upload(slow, "slow")[-1000:])
        server.line("^asked")
        server.say("\n")
        assert status_of(sending[0]) == 201
