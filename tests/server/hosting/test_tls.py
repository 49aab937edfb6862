"""HTTPS: no client holds up another, the certificate is renewed without a restart, and what is wrong is named."""

from __future__ import annotations

import _ssl
import ctypes
import http.client
import json
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from server.__main__ import command
from server.hosting import certificate as certificates
from server.hosting import tls_front
from server.hosting.certificate import context_of, fingerprint
from server.hosting.self_signed import Pair, make
from server.hosting.tls_front import TlsFront
from tests.server.doors import Door, certified
from tests.server.launched import Running
from tests.server.web_client import jpeg

CLIENT_HELLO_BEGUN = b"\x16\x03\x01\x02\x00\x01"


def sectorwatch(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


# A server that runs


@pytest.fixture
def door(tmp_path: Path, running: list[Running], certificate: Pair) -> Door:
    certified(tmp_path, certificate)
    server = Running(["tests.server.hosted", str(tmp_path), json.dumps({"threads": 3, "admission_limit": 2}), "60"])
    running.append(server)
    return Door(int(server.line(r"^port (\d+)")[1]), certificate.certificate)


def test_sixty_connections_that_never_finish_their_handshake_or_ask_nothing_keep_nobody_waiting(door: Door) -> None:
    with ExitStack() as clients:
        for number in range(60):
            if number % 3 == 0:
                clients.enter_context(door.connected())  # the handshake, and no request
                continue
            half_open = clients.enter_context(socket.create_connection(("127.0.0.1", door.port)))
            if number % 3 == 1:
                half_open.sendall(CLIENT_HELLO_BEGUN)
        assert door.status(timeout_s=30) == 200


def test_a_burst_s_pictures_and_its_answer_pass_unchanged_and_a_connection_is_kept(
    door: Door, running: list[Running]
) -> None:
    asking = door.asking()
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="f.jpg"\r\n\r\n' + jpeg(255) + b"\r\n--x--\r\n"
    )
    for _ in range(2):
        asking.request("POST", "/batch", body, {"Content-Type": "multipart/form-data; boundary=x"})
        running[0].line("^asked")
        running[0].say("\n")
        answer = asking.getresponse()
        assert (answer.status, json.loads(answer.read())["people"]) == (200, ["person"])


def test_a_client_that_speaks_plain_http_is_told_and_an_agent_keeps_its_bursts_at_that_status(door: Door) -> None:
    asking = http.client.HTTPConnection("127.0.0.1", door.port, timeout=30)
    asking.request("GET", "/livez", headers={"Authorization": "Bearer sw_1_2"})
    answer = asking.getresponse()
    assert answer.status == 426
    assert json.loads(answer.read())["detail"] == "this port speaks HTTPS: begin the address with https://"


def test_a_renewed_certificate_is_presented_without_a_restart(door: Door, tmp_path: Path, certificate: Pair) -> None:
    assert door.status() == 200
    renewed = Pair(tmp_path / "tls.crt", tmp_path / "tls.key")
    make(renewed, ["127.0.0.1"])
    new_door = Door(door.port, renewed.certificate)
    wait = threading.Event()
    for _ in range(100):
        try:
            assert new_door.status() == 200
            return
        except ssl.SSLCertVerificationError:
            wait.wait(0.1)
    pytest.fail("the old certificate is still presented")


def test_a_stopping_server_sends_the_last_answer_before_it_ends(door: Door, running: list[Running]) -> None:
    asking = door.asking()
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f.jpg"\r\n\r\n' + jpeg(9) + b"\r\n--x--\r\n"
    asking.request("POST", "/batch", body, {"Content-Type": "multipart/form-data; boundary=x"})
    running[0].line("^asked")
    running[0].process.send_signal(signal.SIGTERM)
    running[0].say("\n")
    assert asking.getresponse().status == 200
    assert running[0].stopped() == 0


# The front alone


@pytest.fixture
def front(certificate: Pair) -> Iterator[TlsFront]:
    front = TlsFront(lambda: context_of(certificate))
    front.start()
    yield front
    front.stop(0)


class Ends:
    """A client's connection, and the plain end that the server gets."""

    def __init__(self, front: TlsFront, certificate: Pair) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            raw = socket.create_connection(listener.getsockname(), 20)
            self.server = front.take(listener.accept()[0])
        self.server.settimeout(20)
        context = ssl.create_default_context(cafile=certificate.certificate)
        self.client = context.wrap_socket(raw, server_hostname="127.0.0.1")


@pytest.fixture
def ends(front: TlsFront, certificate: Pair) -> Iterator[Ends]:
    ends = Ends(front, certificate)
    with ends.client, ends.server:
        yield ends


def test_a_server_that_ends_its_half_can_go_on_reading_what_the_client_sends(ends: Ends) -> None:
    ends.client.sendall(b"half a body")
    assert ends.server.recv(100) == b"half a body"
    ends.server.sendall(b"refused")
    ends.server.shutdown(socket.SHUT_WR)
    assert ends.client.recv(100) == b"refused"
    assert ends.client.recv(100) == b""
    ends.client.sendall(b"the rest")
    assert ends.server.recv(100) == b"the rest"


def test_a_client_that_does_not_read_makes_the_server_wait_as_on_a_plain_connection(ends: Ends) -> None:
    ends.server.settimeout(0.2)
    with pytest.raises(TimeoutError):
        ends.server.sendall(bytes(64 << 20))


def key_updates(client: socket.socket, library: ctypes.CDLL, context: int) -> Iterator[bool]:
    """Shake hands, then ask for new keys 500 times at each step, as Python's own `ssl` cannot; whether all went."""
    tls = library.SSL_new(context)
    library.SSL_set_fd(tls, client.fileno())
    try:
        while library.SSL_connect(tls) != 1:
            yield True
        while True:
            yield all(library.SSL_key_update(tls, 1) == 1 == library.SSL_do_handshake(tls) for _ in range(500))
    finally:
        library.SSL_free(tls)


def test_a_client_that_asks_for_new_keys_without_end_and_does_not_read_has_to_wait(certificate: Pair) -> None:
    library = ctypes.CDLL(_ssl.__file__)  # with the OpenSSL that Python uses
    for function, result in ("TLS_client_method", ctypes.c_void_p), ("SSL_CTX_new", ctypes.c_void_p):
        getattr(library, function).restype = result
    library.SSL_CTX_new.argtypes = library.SSL_new.argtypes = [ctypes.c_void_p]
    library.SSL_new.restype = ctypes.c_void_p
    for function in ("SSL_connect", "SSL_do_handshake", "SSL_free", "SSL_CTX_free"):
        getattr(library, function).argtypes = [ctypes.c_void_p]
    for function in ("SSL_set_fd", "SSL_key_update"):
        getattr(library, function).argtypes = [ctypes.c_void_p, ctypes.c_int]
    context = library.SSL_CTX_new(library.TLS_client_method())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), 20)
        accepted, _ = listener.accept()
    plain, server = socket.socketpair()
    client.setblocking(False)
    with client, accepted, plain, server:
        for end in (client, accepted):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
        connection = tls_front._Connection(accepted, plain, context_of(certificate))
        for went in islice(key_updates(client, library, context), 100):
            connection.advance()
            if not went:
                break
        assert connection._is_shaken
        assert not went
        assert len(connection._to_client) < 6 * tls_front._PIECE_BYTES
    library.SSL_CTX_free(context)


def test_a_server_that_does_not_read_makes_the_client_wait_as_on_a_plain_connection(ends: Ends) -> None:
    ends.client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        ends.client.sendall(bytes(64 << 20))


def test_what_the_server_wrote_before_it_closed_arrives(ends: Ends) -> None:
    answer = bytes(range(256)) * 4096
    sender = threading.Thread(target=lambda: (ends.server.sendall(answer), ends.server.close()))
    sender.start()
    received = bytearray()
    while piece := ends.client.recv(1 << 16):
        received += piece
    sender.join()
    assert bytes(received) == answer


class Endless(socket.socket):
    """A connection on which more has always arrived."""

    reads = 0

    def recv(self, size: int, flags: int = 0) -> bytes:
        del flags
        self.reads += 1
        assert self.reads < 100, "others wait for ever"
        return b"GET / HTTP/1.1\r\n".ljust(size, b"x")


def test_a_client_that_sends_plain_http_without_end_does_not_stop_the_front(certificate: Pair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), 20)
        accepted, _ = listener.accept()
    plain, server = socket.socketpair()
    with client, server, plain, Endless(fileno=accepted.detach()) as endless:
        connection = tls_front._Connection(endless, plain, context_of(certificate))
        with pytest.raises(ssl.SSLError) as refused:
            connection.advance()
        connection.explain(refused.value)
        assert client.recv(12) == b"HTTP/1.1 426"


def test_a_handshake_of_which_the_server_has_had_enough_is_ended(front: TlsFront) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), 20)
        server = front.take(listener.accept()[0])
    client.sendall(CLIENT_HELLO_BEGUN)
    server.close()
    assert client.recv(1) == b""
    client.close()


def test_the_rest_of_an_answer_waits_a_minute_for_a_client_that_does_not_read(
    certificate: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(tls_front, "_CHECK_EVERY_S", 0.05)
    front = TlsFront(lambda: context_of(certificate), lambda: now[0])
    front.start()
    ends = Ends(front, certificate)
    ends.server.setblocking(False)
    pause = threading.Event()
    sent = received = 0
    for _ in range(20):
        with suppress(BlockingIOError):
            while True:
                sent += ends.server.send(bytes(1 << 20))
        pause.wait(0.05)
    ends.server.close()
    for now[0] in range(0, 56, 7):
        pause.wait(0.1)
    assert front._connections, "the client may still read the rest"
    for _ in range(200):
        if not front._connections:
            break
        now[0] += 7
        pause.wait(0.05)
    assert not front._connections
    while piece := ends.client.recv(1 << 16):
        received += len(piece)
    assert 0 < received < sent
    front.stop(0)


@pytest.mark.parametrize("how", ["by TLS", "by TCP alone"])
def test_a_client_that_ends_its_half_after_the_request_gets_an_answer_that_takes_minutes(
    how: str, certificate: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(tls_front, "_CHECK_EVERY_S", 0.05)
    checked = threading.Semaphore(0)
    check = TlsFront._check
    monkeypatch.setattr(TlsFront, "_check", lambda front, at_s: (check(front, at_s), checked.release()))
    front = TlsFront(lambda: context_of(certificate), lambda: now[0])
    front.start()
    ends = Ends(front, certificate)
    ends.client.sendall(b"a whole request")
    if how == "by TLS":
        ends.client.setblocking(False)
        with pytest.raises(ssl.SSLWantReadError):
            ends.client.unwrap()
        ends.client.settimeout(20)
    else:
        socket.socket.shutdown(ends.client, socket.SHUT_WR)
    assert ends.server.recv(100) == b"a whole request"
    assert ends.server.recv(100) == b""
    for _ in range(4):
        now[0] += 50.0
        assert checked.acquire(timeout=20)
    ends.server.sendall(b"an answer")
    ends.server.close()
    assert ends.client.recv(100) == b"an answer"
    ends.client.close()
    front.stop(5)


def test_the_context_asks_for_tls_1_2_at_least(certificate: Pair) -> None:
    assert context_of(certificate).minimum_version is ssl.TLSVersion.TLSv1_2


# Files


@pytest.mark.usefixtures("own_folder")
def test_doctor_shows_the_fingerprint_and_warns_of_tokens_in_the_clear(
    tmp_path: Path, certificate: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECTORWATCH_HOST", "0.0.0.0")
    [clear, mend] = [
        line for line in sectorwatch("doctor").stdout.splitlines() if "in the clear" in line or "tls init" in line
    ]
    assert clear.startswith("warn  tls")
    assert "sectorwatch tls init" in mend
    monkeypatch.setenv("SECTORWATCH_HOST", "127.0.0.1")
    assert "in the clear" not in sectorwatch("doctor").stdout
    monkeypatch.setenv("SECTORWATCH_HOST", "0.0.0.0")
    certified(tmp_path, certificate)
    assert f"fingerprint {fingerprint(certificate.certificate)}" in sectorwatch("doctor").stdout


def test_serve_warns_once_of_tokens_in_the_clear_and_not_with_a_certificate(
    tmp_path: Path, running: list[Running], certificate: Pair, monkeypatch: pytest.MonkeyPatch, own_folder: None
) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "frame-change")
    assert sectorwatch("tokens", "add", "--site", "yard", "--camera", "gate").exit_code == 0
    for is_https in (False, True):
        if is_https:
            certified(tmp_path, certificate)
        server = Running(["server", "serve", "--port", "0", "--host", "0.0.0.0"])
        running.append(server)
        url = server.line(r"listens on (https?)://0\.0\.0\.0:\d+")[1]
        warnings = [line for line in server.output if certificates.IN_CLEAR in line]
        assert (url, len(warnings)) == (("https", 0) if is_https else ("http", 1))
        assert all("sectorwatch tls init" in line for line in warnings)
        server.end()


@pytest.mark.parametrize("wanted", ["gunicorn's own TLS", "another worker"])
@pytest.mark.usefixtures("own_folder")
def test_tls_without_deadlines_and_a_certificate_that_would_be_passed_over_are_refused(
    wanted: str, tmp_path: Path, running: list[Running], certificate: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "frame-change")
    monkeypatch.setenv("SECTORWATCH_PORT", "0")
    files = ["--certfile", str(certificate.certificate), "--keyfile", str(certificate.key)]
    if wanted == "another worker":
        certified(tmp_path, certificate)
        files = ["-k", "gthread"]
    server = Running(["gunicorn", "-c", "deploy/gunicorn.conf.py", *files])
    running.append(server)
    told = {
        "gunicorn's own TLS": "set the server's tls_cert and tls_key",
        "another worker": "start Gunicorn without -k",
    }
    server.line(f"server not started.*{told[wanted]}")
    assert server.stopped() == 3
