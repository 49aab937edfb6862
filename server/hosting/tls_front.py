"""TLS in front of the server: one thread speaks TLS with all clients, and the server behind it sees plain bytes.

Gunicorn makes the TLS handshake in a request thread and waits for the client there, without a limit: forty clients that
send half a handshake occupy all forty threads. Here no connection waits for another. The server gets one end of a pair
of connected sockets at once. On it a handshake that does not finish looks like a client that sends nothing, a slow TLS
record like a slow client, and a client that does not read like a full buffer. So all deadlines are those of plain HTTP,
and half a request holds no request thread either (`server.hosting.whole_requests`).

Each connection holds at most a few pieces of _PIECE_BYTES in memory; beyond, its sender waits.
"""

from __future__ import annotations

import logging
import queue
import select
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from server.hosting.deadlines import SEND_S

log = logging.getLogger(__name__)

_PIECE_BYTES = 1 << 16
_MOST_PIECES = 16
"""Of a client that speaks plain HTTP, which may go on sending for ever."""
_MOST_UNREAD_BYTES = 4 * _PIECE_BYTES
"""More than a client that reads has to come: a piece of an answer, and the records of TLS itself."""
_CHECK_EVERY_S = 1.0
_MOST_LEFT = 256
"""Connections that the server has closed, and whose clients still read."""
_NOT_TLS = "HTTP_REQUEST"
_HTTPS_ONLY = (
    b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.2, HTTP/1.1\r\nConnection: Upgrade, close\r\n"
    b"Content-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n%s"
)
_USE_HTTPS = (
    b'{"type": "about:blank", "title": "Upgrade Required", "status": 426, '
    b'"detail": "this port speaks HTTPS: begin the address with https://"}'
)
"""For a client that speaks plain HTTP. An agent keeps its bursts at this status and tries again."""


class TlsFront:
    """Ends the TLS of clients. `start` before the first connection is taken; `stop` sends what is left.

    `context` gives the certificate for a new connection, and may change it while the server runs.
    """

    def __init__(self, context: Callable[[], ssl.SSLContext], clock: Callable[[], float] = time.monotonic) -> None:
        self._context = context
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._taken: queue.SimpleQueue[_Connection] = queue.SimpleQueue()
        self._connections: set[_Connection] = set()
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._stop_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="sectorwatch-tls", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def take(self, accepted: socket.socket) -> socket.socket:
        """Take over an accepted connection; returns the plain end. Never waits. Safe to call from any thread."""
        plain, ours = socket.socketpair()
        self._taken.put(_Connection(accepted, ours, self._context()))
        self._notify()
        return plain

    def stop(self, within_s: float) -> None:
        """Send what the server has answered, for at most this long, and close all connections."""
        self._stop_at = self._clock() + within_s
        self._notify()
        self._thread.join(within_s + _CHECK_EVERY_S)

    def _notify(self) -> None:
        with suppress(BlockingIOError):  # a full pipe wakes as well
            self._wake.send(b"\0")

    def _run(self) -> None:
        check_at = 0.0
        while not self._is_over():
            for key, _ready in self._selector.select(_CHECK_EVERY_S):
                if key.data is None:
                    self._admit()
                else:
                    self._advance(key.data)
            if (now := self._clock()) >= check_at:
                check_at = now + _CHECK_EVERY_S
                self._check(now)
        for connection in tuple(self._connections):
            self._close(connection)

    def _is_over(self) -> bool:
        return self._stop_at is not None and (not self._connections or self._clock() >= self._stop_at)

    def _admit(self) -> None:
        with suppress(BlockingIOError):
            while self._woken.recv(_PIECE_BYTES):
                pass
        with suppress(queue.Empty):
            while True:
                connection = self._taken.get_nowait()
                self._connections.add(connection)
                self._advance(connection)

    def _advance(self, connection: _Connection) -> None:
        """Move what can be moved now, and wait for the rest."""
        if connection not in self._connections:  # closed a moment ago, by an event of its other end
            return
        try:
            connection.advance()
        except ssl.SSLError as error:
            if not isinstance(error, ssl.SSLEOFError):  # a client that only looks whether the port is open
                log.info("tls connection failed", extra={"client": connection.client, "cause": _cause(error)})
            connection.explain(error)
            self._close(connection)
        except OSError as error:
            log.debug("tls connection gone", extra={"client": connection.client, "cause": str(error)})
            self._close(connection)
        except Exception:  # the other connections go on
            log.exception("tls connection failed")
            self._close(connection)
        else:
            if connection.is_over():
                self._close(connection)
            else:
                self._watch(connection)

    def _check(self, now: float) -> None:
        """Close what the server has left: a client that reads the rest slowly has SEND_S, and a place among a few."""
        left = [(connection.left_since(now), connection) for connection in self._connections if connection.is_left()]
        left.sort(key=lambda each: each[0], reverse=True)
        for place, (since, connection) in enumerate(left):
            is_done = connection.server_ended and connection.has_sent_all()
            if is_done or now - since >= SEND_S or place >= _MOST_LEFT:
                self._close(connection)

    def _watch(self, connection: _Connection) -> None:
        for end, events in connection.wanted():
            known = self._selector.get_map().get(end)
            if known is None:
                if events:
                    self._selector.register(end, events, connection)
            elif not events:
                self._selector.unregister(end)
            elif known.events != events:
                self._selector.modify(end, events, connection)

    def _close(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        for end in (connection.raw, connection.plain):
            with suppress(KeyError, ValueError):
                self._selector.unregister(end)
            end.close()


class _Connection:
    """A client's TLS (`raw`), the server's plain end (`plain`), and what is on its way between them."""

    def __init__(self, raw: socket.socket, plain: socket.socket, context: ssl.SSLContext) -> None:
        self.raw, self.plain = raw, plain
        raw.setblocking(False)
        plain.setblocking(False)
        self.client = _peer(raw)
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_side=True)
        self._is_shaken = self._client_ended = self._is_passed_on = self._is_shut = False
        self._to_client = self._to_server = b""
        self.server_ended = False
        self._left_at: float | None = None

    def advance(self) -> None:
        """Move bytes both ways as far as they go without waiting. Raises OSError (also ssl.SSLError) at an end."""
        self._receive()
        if self._shake():
            self._decrypt()
            self._encrypt()
        self._send()
        is_read = self._client_ended or not self._received.pending
        if self.server_ended and not self._is_shut and self.has_sent_all() and is_read:
            self._shut()

    def wanted(self) -> tuple[tuple[socket.socket, int], ...]:
        """Each end with the events for which the connection waits there."""
        reads_client = self._is_reading()
        reads_server = not self.server_ended and not self._to_client
        return (
            (self.raw, _mask(reads_client, bool(self._to_client))),
            (self.plain, _mask(reads_server, bool(self._to_server))),
        )

    def is_over(self) -> bool:
        """Whether nothing can come any more: both ended, or the server before the handshake did."""
        return self.server_ended and (not self._is_shaken or (self._is_shut and self._client_ended))

    def has_sent_all(self) -> bool:
        return not self._to_client and not self._to_send.pending

    def is_left(self) -> bool:
        """Whether the server has closed its end altogether, though something of it may be unread.

        A client that has ended its own half is not left: it waits for the answer.
        """
        ends = select.poll()
        ends.register(self.plain, 0)
        return bool(ends.poll(0))  # POLLHUP: no half of it is open

    def left_since(self, now: float) -> float:
        """When that was seen first."""
        self._left_at = now if self._left_at is None else self._left_at
        return self._left_at

    def explain(self, error: ssl.SSLError) -> None:
        """Send the alert that says what was wrong or, to a client that speaks plain HTTP, an answer in it."""
        is_http = error.reason == _NOT_TLS
        last = _HTTPS_ONLY % (len(_USE_HTTPS), _USE_HTTPS) if is_http else self._to_client + self._to_send.read()
        with suppress(OSError):
            if is_http:  # bytes that are not read would reset the connection, and lose the answer
                for _ in range(_MOST_PIECES):
                    if not self.raw.recv(_PIECE_BYTES):
                        break
        with suppress(OSError):
            self.raw.send(last)

    def _receive(self) -> None:
        if not self._is_reading():
            return
        with suppress(BlockingIOError):
            data = self.raw.recv(_PIECE_BYTES)
            if data:
                self._received.write(data)
            else:
                self._received.write_eof()

    def _is_reading(self) -> bool:
        """Whether bytes of the client have room. TLS cannot be shut while some of them are unread in it.

        TLS itself answers some records (KeyUpdate): a client that sends these and reads nothing has to wait.
        """
        is_full = bool(self._to_server) or len(self._to_client) > _MOST_UNREAD_BYTES
        return not (self._client_ended or is_full or (self.server_ended and not self._is_shut))

    def _shake(self) -> bool:
        if not self._is_shaken:
            try:
                self._tls.do_handshake()
                self._is_shaken = True
            except ssl.SSLWantReadError:
                self._notice_end_of_server()
        return self._is_shaken

    def _notice_end_of_server(self) -> None:
        """The server sends nothing before it has received something: what can be read there is its end."""
        with suppress(BlockingIOError, ConnectionResetError):
            self.server_ended = not self.plain.recv(1, socket.MSG_PEEK)

    def _decrypt(self) -> None:
        """From the client to the server."""
        while not self._client_ended:
            if not self._to_server:
                try:
                    self._to_server = self._tls.read(_PIECE_BYTES)
                    self._client_ended = not self._to_server
                except ssl.SSLWantReadError:
                    break
                except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                    self._client_ended = True
            if self._to_server and not self._pass_to_server():
                return
        if self._client_ended and not self._to_server and not self._is_passed_on:
            self._is_passed_on = True
            with suppress(OSError):  # the server is gone
                self.plain.shutdown(socket.SHUT_WR)

    def _pass_to_server(self) -> bool:
        """Whether all of it went. What a client sends after the server has closed its end is discarded."""
        try:
            self._to_server = self._to_server[self.plain.send(self._to_server) :]
        except BlockingIOError:
            pass
        except OSError:
            self._to_server = b""
        return not self._to_server

    def _encrypt(self) -> None:
        """From the server to the client."""
        if self.server_ended or self._to_client:
            return
        try:
            data = self.plain.recv(_PIECE_BYTES)
        except BlockingIOError:
            return
        except ConnectionResetError:  # closed with bytes that it has not read, after all that it has sent
            data = b""
        self.server_ended = not data
        if data:
            self._tls.write(data)

    def _send(self) -> None:
        self._to_client += self._to_send.read()
        with suppress(BlockingIOError):
            while self._to_client:
                self._to_client = self._to_client[self.raw.send(self._to_client) :]

    def _shut(self) -> None:
        """Tell the client that the answer is complete. It may go on sending until the server closes its end."""
        with suppress(ssl.SSLError):  # the client's own end has not come yet
            self._tls.unwrap()
        self._send()
        if self.has_sent_all():
            self._is_shut = True
            self.raw.shutdown(socket.SHUT_WR)


def _mask(reads: bool, writes: bool) -> int:
    return (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if writes else 0)


def _cause(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")


def _peer(connection: socket.socket) -> str:
    with suppress(OSError):
        return str(connection.getpeername()[0])
    return "gone"
