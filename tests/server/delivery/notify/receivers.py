"""Real receivers on loopback: HTTP for `json://` and `form://`, SMTP for `mailto://`."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec


class Posted(msgspec.Struct, frozen=True):
    """A request: its path, headers and body."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return dict(msgspec.json.decode(self.body))

    @property
    def line(self) -> str:
        """The text of the message, without the address below it."""
        return str(self.json["message"]).partition("\n")[0]


class HttpReceiver:
    """Keeps what is posted to it. `status` is its answer; `most_bytes` refuses longer bodies with 413.

    While `opens` is not set, it answers nobody.
    """

    def __init__(self) -> None:
        self.posts: list[Posted] = []
        self.status = 200
        self.most_bytes: int | None = None
        self.opens = threading.Event()
        self.opens.set()
        self.port = 0

    def url(self, path: str = "phone", scheme: str = "json", more: str = "") -> str:
        return f"{scheme}://user:Pass-Word@127.0.0.1:{self.port}/{path}{more}"

    @property
    def lines(self) -> list[str]:
        return [post.line for post in self.posts]

    def taken(self, body: bytes) -> int:
        if self.most_bytes is not None and len(body) > self.most_bytes:
            return 413
        return self.status


@contextmanager
def http_receiver() -> Iterator[HttpReceiver]:
    receiver = HttpReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.opens.wait(30)
            status = receiver.taken(body)
            if status == 200:
                receiver.posts.append(Posted(self.path, dict(self.headers.items()), body))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        receiver.port = port
        yield receiver
        receiver.opens.set()


class SmtpReceiver:
    """Keeps the mails that it takes."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.mails: list[EmailMessage] = []
        self.recipients: list[str] = []

    @property
    def url(self) -> str:
        return f"mailto://127.0.0.1:{self.port}?from=yard@example.org&to=owner@example.org&smtp=127.0.0.1&mode=insecure"


@contextmanager
def smtp_receiver() -> Iterator[SmtpReceiver]:
    class Handler(socketserver.StreamRequestHandler):
        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

        def handle(self) -> None:
            self.say("220 here")
            for line in self.rfile:
                verb = line.decode().strip().partition(" ")[0].upper()
                if verb == "QUIT":
                    return self.say("221 bye")
                if verb == "RCPT":
                    receiver.recipients.append(line.decode().strip())
                if verb == "DATA":
                    self.say("354 go on")
                    self.take()
                self.say("250 ok")
            return None

        def take(self) -> None:
            lines = []
            for line in self.rfile:
                if line == b".\r\n":
                    break
                lines.append(line[1:] if line.startswith(b"..") else line)
            receiver.mails.append(message_from_bytes(b"".join(lines), policy=policy.default))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    receiver = SmtpReceiver(0)
    with _serving(Server(("127.0.0.1", 0), Handler)) as port:
        receiver.port = port
        yield receiver


@contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
