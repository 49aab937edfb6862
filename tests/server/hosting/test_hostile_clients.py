"""What a client may try, with TLS and without: others are served as before."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from server.hosting.crowds import SlowReaders, origin_of, to_close
from server.hosting.deadlines import DeadlineSocket
from server.hosting.self_signed import Pair
from tests.server.doors import SCHEMES, Door, certified
from tests.server.launched import Running

THREADS = 4
LIMIT = 2
ALL_THREADS = THREADS + 3 * LIMIT
ASK = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
JSON_HEAD = b"POST /v1/annotations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module", params=SCHEMES)
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: Pair) -> Iterator[Door]:
    """A server with few threads, all of which wait a minute for whoever makes them wait."""
    folder = tmp_path_factory.mktemp("hostile")
    if request.param == "https":
        certified(folder, certificate)
    settings = {"threads": THREADS, "admission_limit": LIMIT}
    server = Running(["tests.server.hosted", str(folder), json.dumps(settings), "60"])
    try:
        port = int(server.line(r"^port (\d+)")[1])
        yield Door(port, certificate.certificate if request.param == "https" else None)
    finally:
        server.end()


def everything(client: socket.socket) -> bytes:
    received = b""
    while piece := client.recv(4096):
        received += piece
    return received


HELD_UP = {
    "a malformed request, and the connection stays open": b"BAD REQUEST\r\n\r\n",
    "half a request behind a whole one": ASK + ASK[:9],
    "a head of which half is more than a head may be": ASK[:-2] + b"X: %s\r\nY: %s\r\n" % (b"x" * 8000, b"y" * 8100),
    "a head of 8 kB and nothing of its small body": JSON_HEAD
    + b"X: %s\r\nContent-Length: 8000\r\n\r\n" % (b"x" * 8100),
    "a length with zeros in front and no body": JSON_HEAD + b"Content-Length: 000000000050\r\n\r\n",
    "a body that is sent when asked, and is not": JSON_HEAD + b"Expect: 100-continue\r\nContent-Length: 50\r\n\r\n",
    "half a chunk": JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n5",
    "half a trailer": JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: ",
    "an upgrade to HTTP/2": ASK[:-2]
    + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
    "HTTP/2 at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a tunnel": b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n",
}


@pytest.mark.parametrize("sent", HELD_UP.values(), ids=HELD_UP)
def test_forty_clients_that_send_this_and_wait_keep_nobody_waiting(sent: bytes, door: Door) -> None:
    with ExitStack() as clients:
        for _ in range(40):
            clients.enter_context(door.connected()).sendall(sent)
        for _ in range(3):
            assert door.status(timeout_s=30) == 200


REFUSED = {
    "a head of more than 16 KiB": (ASK[:-2] + b"".join(b"X-%d: %s\r\n" % (n, b"x" * 4000) for n in range(5)), b"431"),
    "lines that end with a line feed alone": (b"GET /livez HTTP/1.1\nHost: 127.0.0.1\n\n", b"400"),
    "a length and chunks": (ASK[:-2] + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
    "two lengths": (ASK[:-2] + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", b"400"),
    "two hosts": (ASK[:-2] + b"Host: example.org\r\n\r\n", b"400"),
    "a length that is no number": (ASK[:-2] + b"Content-Length: +3\r\n\r\nabc", b"400"),
    "a version that does not exist": (b"GET /livez HTTP/3.0\r\nHost: 127.0.0.1\r\n\r\n", b"400"),
    "an expectation that nobody knows": (ASK[:-2] + b"Expect: gold\r\n\r\n", b"417"),
    "a host that is not this one, without a token": (b"GET /models HTTP/1.1\r\nHost: example.org\r\n\r\n", b"401"),
}


@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_request_here_is_refused_at_once(sent: bytes, status: bytes, door: Door) -> None:
    with door.connected(6) as client:
        client.sendall(sent)
        assert client.recv(12)[9:] == status


ANSWERED = {
    "HTTP/1.0": b"GET /livez HTTP/1.0\r\n\r\n",
    "an absolute address": b"GET http://127.0.0.1/livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    "an empty line in front": b"\r\n" + ASK[:-2] + b"Connection: close\r\n\r\n",
}


@pytest.mark.parametrize("sent", ANSWERED.values(), ids=ANSWERED)
def test_older_and_rarer_forms_of_a_request_are_answered(sent: bytes, door: Door) -> None:
    with door.connected(20) as client:
        client.sendall(sent)
        assert everything(client)[9:12] == b"200"


def test_clients_that_do_not_read_their_answers_leave_threads_to_others(door: Door) -> None:
    many = 400 * b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with ExitStack() as clients:
        for _ in range(2 * ALL_THREADS):
            clients.enter_context(door.connected()).sendall(many)
        for _ in range(3):
            assert door.status(timeout_s=30) == 200


def test_of_too_many_slow_readers_the_oldest_of_the_address_with_most_loses_its_connection() -> None:
    readers = SlowReaders(2)
    with ExitStack() as opened:
        ends = [tuple(map(opened.enter_context, socket.socketpair())) for _ in range(3)]
        for (server, _client), origin in zip(ends, ("10.0.0.1", "10.0.0.2", "10.0.0.2"), strict=True):
            opened.enter_context(readers.waiting(server, origin))
        for _server, client in ends:
            client.setblocking(False)
        assert ends[1][1].recv(1) == b""
        for other in (0, 2):
            with pytest.raises(BlockingIOError):
                ends[other][1].recv(1)


@pytest.mark.parametrize("how", ["send", "sendall"])
def test_what_fits_is_sent_at_once_and_the_rest_takes_a_slow_reader_s_place(how: str) -> None:
    accepted, client = socket.socketpair()
    with client, DeadlineSocket(accepted, SlowReaders(0)) as server:
        getattr(server, how)(b"an answer")
        assert client.recv(100) == b"an answer"
        with pytest.raises(OSError, match="Broken pipe"):
            getattr(server, how)(bytes(64 << 20))


@pytest.mark.parametrize(
    ("client", "origin"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("::ffff:192.0.2.7", 1, 0, 0), "192.0.2.7"),
        (("2001:db8:1:2::5", 1, 0, 0), "20010db800010002"),
        (("2001:db8:1:2:ffff::6", 1, 0, 0), "20010db800010002"),
        (("fe80::1%eth0", 1, 0, 2), "fe80000000000000"),
        ("", ""),
    ],
)
def test_connections_of_one_address_or_network_count_as_one_client_s(client: object, origin: str) -> None:
    assert origin_of(client) == origin


def test_of_connections_without_a_request_one_of_the_address_with_most_is_closed() -> None:
    connections = [("honest", "a"), ("old", "b"), ("new", "b")]
    assert to_close(connections, lambda each: each[1])[0] == "old"
    assert to_close(connections[:2], lambda each: each[1])[0] == "honest"
