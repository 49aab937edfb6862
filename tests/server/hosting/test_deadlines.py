"""No client holds a request thread for long, however slowly it sends or reads."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from server.hosting.crowds import SlowReaders
from server.hosting.deadlines import BODY_S, HEAD_S, LEAST_BYTES_PER_S, DeadlineSocket
from server.hosting.self_signed import Pair
from tests.server.doors import SCHEMES, Door, certified
from tests.server.launched import Running

THREADS = 3
SILENCE = b""
HALF_A_HEAD = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX"
HALF_A_BODY = HALF_A_HEAD.replace(b"GET /livez", b"POST /v1/annotations") + (
    b": y\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
)
HALF_A_CHUNK = HALF_A_BODY.replace(b"Content-Length: 9\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n9\r\n")


class Ends:
    """Both ends of a connection, and the clock by which the server's hurries."""

    def __init__(self) -> None:
        self.now_s = 0.0
        accepted, self.client = socket.socketpair()
        self.server = DeadlineSocket(accepted, SlowReaders(1), clock=lambda: self.now_s)


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    with ends.client, ends.server:
        yield ends


def test_a_head_that_arrives_slowly_ends_at_its_deadline(ends: Ends) -> None:
    ends.client.sendall(b"GET /livez")
    ends.now_s = HEAD_S - 1
    assert ends.server.recv(4) == b"GET "
    ends.now_s = HEAD_S
    assert ends.server.recv(4) == b""


def test_each_request_of_a_kept_connection_has_its_own_deadline(ends: Ends) -> None:
    ends.client.sendall(b"GET ")
    ends.now_s = HEAD_S
    ends.server.expect_head()
    assert ends.server.recv(4) == b"GET "


def test_a_large_body_may_take_long_while_it_keeps_arriving(ends: Ends) -> None:
    ends.server.expect_body()
    for _ in range(10 * round(BODY_S)):
        ends.now_s += 1
        ends.client.sendall(bytes(LEAST_BYTES_PER_S))
        assert len(ends.server.recv(LEAST_BYTES_PER_S)) == LEAST_BYTES_PER_S


def test_a_body_that_trickles_ends_however_much_came_before(ends: Ends) -> None:
    ends.server.expect_body()
    ends.client.sendall(bytes(100 * LEAST_BYTES_PER_S))
    for _ in range(100):
        assert ends.server.recv(LEAST_BYTES_PER_S)
    ends.client.sendall(b".....")
    for at_s in (1, BODY_S - 1):
        ends.now_s = at_s
        assert ends.server.recv(1) == b"."
    ends.now_s = BODY_S + 1
    assert ends.server.recv(1) == b""


def test_a_read_waits_for_a_silent_client_no_longer_than_its_deadline(ends: Ends) -> None:
    ends.now_s = HEAD_S - 0.05
    assert ends.server.recv(1) == b""
    assert ends.server.gettimeout() is None


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with the usual deadlines, for tests that leave it as they found it."""
    server = Running(["tests.server.hosted", str(tmp_path_factory.mktemp("hosted")), "{}"])
    yield server
    server.end()


@pytest.fixture(scope="module")
def port(hosted: Running) -> int:
    return int(hosted.line(r"^port (\d+)")[1])


@pytest.fixture(scope="module", params=SCHEMES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: Pair) -> Path:
    folder = tmp_path_factory.mktemp("few-threads")
    if request.param == "https":
        certified(folder, certificate)
    return folder


@pytest.fixture(scope="module")
def door(request: pytest.FixtureRequest, folder: Path) -> Iterator[Door]:
    """A server with few threads, which waits so many seconds for a client."""
    settings = {"threads": THREADS, "admission_limit": THREADS - 1}
    server = Running(["tests.server.hosted", str(folder), json.dumps(settings), request.param])
    certificate = folder / "tls.crt"
    yield Door(int(server.line(r"^port (\d+)")[1]), certificate if certificate.exists() else None)
    server.end()


# Who has said nothing yet holds no thread for any time.
@pytest.mark.parametrize(
    ("door", "begun"),
    [("60", SILENCE), ("0.2", HALF_A_HEAD), ("0.2", HALF_A_BODY), ("0.2", HALF_A_CHUNK)],
    indirect=["door"],
    ids=["silence", "half a head", "half a body", "half a chunk"],
)
def test_more_slow_clients_than_threads_do_not_keep_others_out(begun: bytes, door: Door) -> None:
    with ExitStack() as clients:
        for _ in range(2 * THREADS):
            client = clients.enter_context(door.connected())
            client.sendall(begun)
        assert door.status(timeout_s=30) == 200


@pytest.mark.parametrize(
    "rest", [b"no number\r\n{", b"1\r\n{no end of a chunk", b""], ids=["its length", "its end", "cut off"]
)
@pytest.mark.parametrize("path", [b"/v1/annotations", b"/batch"])
def test_a_malformed_chunked_body_is_the_client_s_fault(
    path: bytes,
    rest: bytes,
    hosted: Running,
    port: int,
) -> None:
    kind = b"multipart/form-data; boundary=x" if path == b"/batch" else b"application/json"
    head = b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % (
        path,
        kind,
    )
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(head + rest)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(12) == b"HTTP/1.1 400"
    assert "Traceback" not in "".join(hosted.output)


@pytest.mark.parametrize("path", [b"/v1/annotations", b"/batch"])
def test_a_body_that_ends_before_its_length_may_be_sent_again(path: bytes, port: int) -> None:
    """An agent never sends a burst again after a 400."""
    kind = b"multipart/form-data; boundary=x" if path == b"/batch" else b"application/json"
    head = b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: %s\r\nContent-Length: 30000\r\n\r\n" % (path, kind)
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(head + b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n')
        client.shutdown(socket.SHUT_WR)
        assert b"urn:sectorwatch:problem:incomplete" in _all_of(client)


def _all_of(client: socket.socket) -> bytes:
    answer = b""
    while piece := client.recv(4096):
        answer += piece
    return answer
