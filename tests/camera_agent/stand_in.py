"""A small server on a loopback port: it parses requests, keeps bursts, and fails on demand.

It runs in the test's process; a real agent process can send to it.
"""

from __future__ import annotations

import email.policy
import hashlib
import json
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Seen:
    """One burst as it came over the wire."""

    envelope: dict[str, Any]
    frames: tuple[bytes, ...]
    token: str | None

    @property
    def identity(self) -> tuple[object, ...]:
        """All of the burst that must never change: the envelope without the instant of sending, and the frames."""
        envelope = {**self.envelope, "agent": self.envelope["agent"]["version"]}
        hashes = tuple(hashlib.sha256(frame).hexdigest() for frame in self.frames)
        return json.dumps(envelope, sort_keys=True), hashes


@dataclass(frozen=True)
class Answer:
    """What to answer the next request instead of accepting it. Status 0: close the connection without an answer."""

    status: int
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    keep: bool = False
    """Whether the burst is remembered all the same, as when only the answer is lost."""


class _Quiet(BaseHTTPRequestHandler):
    """Answers on kept connections, without a log. A killed agent is not an error here."""

    protocol_version = "HTTP/1.1"

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:  # the agent was killed: nothing to answer
            self.close_connection = True

    def finish(self) -> None:
        try:
            super().finish()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        del format, args


class StandIn:
    """`with StandIn() as server:` accepts every burst, unless `answers` (for the next ones, in turn) or `always` is
    set.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.bursts: dict[str, Seen] = {}
        """Bursts accepted, in the order in which they first came."""
        self.arrivals: list[Seen] = []
        """Every burst that came whole, again and again."""
        self.answers: deque[Answer] = deque()
        self.always: Answer | None = None
        self.on_arrival: Callable[[int], Answer | None] = lambda count: None
        """Called when a burst has come, with how many came so far; may say how to answer this one."""
        self.events: list[dict[str, Any]] = []
        self.heartbeats: list[dict[str, Any]] = []
        self.heartbeat_status = 204
        self.votes: dict[str, list[list[str]]] | None = None
        """Added to every receipt; None: as a server before version 0.3.0."""
        self.observations: list[dict[str, Any]] = []
        self.site_policy: Answer = Answer(404, b'{"title": "Not Found"}')
        """The answer of `GET /v1/site-policy`."""
        self.asked: list[tuple[str, str | None]] = []
        """Path and token of every GET."""
        self.unix_s: Callable[[], float | None] = time.time
        """The server's clock, which every answer carries; None: this one does not."""
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait_for(self, is_so: Callable[[], bool], timeout_s: float = 120.0) -> None:
        """Wait until `is_so`, which is checked after each arrival."""
        with self._changed:
            assert self._changed.wait_for(is_so, timeout_s), f"{len(self.bursts)} bursts came in {timeout_s} s"

    def _arrived(self, seen: Seen) -> tuple[int, bytes, dict[str, str]]:
        with self._changed:
            self.arrivals.append(seen)
            count = len(self.arrivals)
            answer = self.answers.popleft() if self.answers else self.always
        answer = self.on_arrival(count) or answer
        try:
            if answer is not None and not answer.keep:
                return answer.status, answer.body, answer.headers
            is_known = self._remember(seen)
            if answer is not None:
                return answer.status, answer.body, answer.headers
            return 200 if is_known else 201, self._receipt(seen), {}
        finally:
            with self._changed:
                self._changed.notify_all()

    def _beaten(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        with self._changed:
            self.heartbeats.append(json.loads(body))
            self._changed.notify_all()
            return self.heartbeat_status, b"", {}

    def _remember(self, seen: Seen) -> bool:
        burst_id = seen.envelope["burst_id"]
        with self._changed:
            is_known = burst_id in self.bursts
            self.bursts.setdefault(burst_id, seen)
            return is_known

    def _receipt(self, seen: Seen) -> bytes:
        labels = {"stand-in": ["nothing"] * len(seen.frames)}
        receipt = {"burst_id": seen.envelope["burst_id"], "labels": labels, "events": self.events}
        receipt |= {"observations": self.observations} | ({} if self.votes is None else {"votes": self.votes})
        return json.dumps(receipt).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stand_in = self

        class Handler(_Quiet):
            def date_time_string(self, timestamp: float | None = None) -> str:
                told_s = stand_in.unix_s() if timestamp is None else timestamp
                return "" if told_s is None else super().date_time_string(told_s)

            def do_GET(self) -> None:
                with stand_in._changed:
                    stand_in.asked.append((self.path, self.headers["Authorization"]))
                self._answer(stand_in.site_policy.status, stand_in.site_policy.body, stand_in.site_policy.headers)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/heartbeats":
                    self._answer(*stand_in._beaten(body))
                    return
                if len(body) < int(self.headers["Content-Length"]):
                    self.close_connection = True  # the agent died while it sent
                    return
                seen = read_wire(self.headers["Content-Type"], body, self.headers["Authorization"])
                status, content, headers = stand_in._arrived(seen)
                if status == 0:
                    self.close_connection = True
                    return
                self._answer(status, content, headers)

        return Handler


def read_wire(content_type: str, body: bytes, authorization: str | None) -> Seen:
    """A multipart body as the standard library's mail parser reads it, checked against DESIGN.md section 4."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    parts = list(message.iter_parts())
    names = [part.get_param("name", header="content-disposition") for part in parts]
    assert names == ["burst"] + ["file"] * (len(parts) - 1)
    assert [part.get_content_type() for part in parts] == ["application/json"] + ["image/jpeg"] * (len(parts) - 1)
    frames = tuple(part.get_payload(decode=True) for part in parts[1:])
    envelope = json.loads(parts[0].get_payload(decode=True))
    assert [hashlib.sha256(frame).hexdigest() for frame in frames] == envelope["frame_sha256"]
    assert len(envelope["offsets_ms"]) == len(frames)
    return Seen(envelope, frames, authorization)
