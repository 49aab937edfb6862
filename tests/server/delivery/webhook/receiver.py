"""A receiver of webhooks on loopback: a real HTTP server that remembers what came and answers as it is told."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import msgspec

from server.hosting.self_signed import Pair


class Received(NamedTuple):
    """One request, its headers by name in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Answer(NamedTuple):
    """What the receiver answers. `raw` is sent as it is, in parts, one every `every_s`, instead of all else."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}
    raw: tuple[bytes, ...] = ()
    every_s: float = 0.02


Say = Callable[[Received], Answer]


class Receiver:
    """Listens on a port of loopback; the same one again after `stop` and `start`."""

    def __init__(self, pair: Pair | None = None) -> None:
        self.received: list[Received] = []
        self.connections = 0
        self.say: Say = lambda _: Answer()
        self.port = 0
        self._pair = pair
        self._stopping = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"{'http' if self._pair is None else 'https'}://127.0.0.1:{self.port}/in"

    @property
    def ids(self) -> list[str]:
        """The ids of the messages that came, in order."""
        return [each.headers["webhook-id"] for each in self.received]

    def start(self) -> None:
        self._stopping.clear()
        self._server = _Server(("127.0.0.1", self.port), _handler_of(self), self._stopping)
        self.port = self._server.server_address[1]
        if self._pair is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self._pair)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.01,)).start()

    def stop(self) -> None:
        """Close the port and all connections, as a process does that ends."""
        if self._server is None:
            return
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._server = None

    def answer(self, received: Received) -> Answer:
        self.received.append(received)
        return self.say(received)

    def wait(self, seconds: float) -> bool:
        """Whether the receiver stops within these seconds."""
        return self._stopping.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, place: tuple[str, int], handler: Any, stopping: threading.Event) -> None:
        super().__init__(place, handler)
        self._stopping = stopping
        self._open: set[Any] = set()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no fault here."""

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        for request in list(self._open):
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)  # it wakes the thread that waits for the next request
        super().server_close()


def _handler_of(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            receiver.connections += 1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = receiver.answer(Received(self.command, self.path, headers, body))
            if answer.raw:
                return self._send_raw(answer)
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)
            return None

        def do_PUT(self) -> None:
            self.do_POST()

        def _send_raw(self, answer: Answer) -> None:
            self.close_connection = True
            for part in answer.raw:
                self.wfile.write(part)
                self.wfile.flush()
                if receiver.wait(answer.every_s):
                    return

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Handler


@contextmanager
def receiving(pair: Pair | None = None) -> Iterator[Receiver]:
    """A receiver that listens, until the end of the block."""
    receiver = Receiver(pair)
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.stop()
