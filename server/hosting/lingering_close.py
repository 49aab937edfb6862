"""Lingering close: a client that is refused while it is still sending can read the answer (RFC 9112, section 9.6).

The application refuses before it reads the body. If the server closes a connection that holds unread bytes, the system
resets it, and the client sees a broken connection instead of the answer. Therefore the answer says `Connection: close`,
the server closes its own half, and discards what the client still sends, within bounds, until the client has finished.
The accepting thread does this for all such connections, so they hold no request thread.

Gunicorn's own close (`gunicorn.util.close_graceful`) waits up to 2 s for the client in the accepting thread, which
keeps all others out. So Gunicorn is left with a socket that is at its end already, and the worker ends connections
that never reach the application, such as those of malformed requests, in the same way.
"""

from __future__ import annotations

import logging
import math
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gunicorn.http.errors import ParseException
from werkzeug.wsgi import ClosingIterator

log = logging.getLogger(__name__)

_MAX_CONNECTIONS = 256
_MAX_LINGER_S = 30.0
_MAX_SILENCE_S = 5.0
_CHECK_EVERY_S = 1.0
_READ_BYTES = 1 << 18
_READS_AT_ONCE = 4
_DISCARD = socket.MSG_TRUNC if sys.platform == "linux" else 0
"""The kernel discards the bytes of a TCP stream without copying them (tcp(7))."""

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


class LingeringMiddleware:
    """WSGI middleware that hands connections with an unread request to `closer`, after their answer.

    It acts under Gunicorn's HTTP/1 workers only; under another server the application is unchanged.
    """

    def __init__(self, app: Wsgi, closer: LingeringCloser) -> None:
        self._app = app
        self._closer = closer
        self._ended, other = socket.socketpair()
        other.close()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"] = _Body(environ)
        connection = environ.get("gunicorn.socket")
        answer = getattr(start_response, "__self__", None)
        if connection is None or answer is None or not environ.get("SERVER_PROTOCOL", "").startswith("HTTP/1"):
            return self._app(environ, start_response)

        # Also of a request that is answered well: Gunicorn would wait for the rest in the request's thread.
        def is_unread() -> bool:
            return body.unread_bytes > 0

        def start(*status_and_headers: Any) -> Any:
            write = start_response(*status_and_headers)
            if is_unread():
                answer.force_close()
            return write

        def after_answer() -> None:
            if answer.should_close():
                taken = self._take_over(connection)
                if is_unread():
                    self._closer.drain(taken)
                else:
                    taken.close()

        return ClosingIterator(self._app(environ, start), after_answer)

    def _take_over(self, connection: socket.socket) -> socket.socket:
        """The connection; `connection` itself becomes a socket at its end."""
        taken = socket.socket(connection.family, connection.type, fileno=os.dup(connection.fileno()))
        os.dup2(self._ended.fileno(), connection.fileno(), inheritable=False)
        return taken


class _Body:
    """A request's body, and how much of it is unread: without end if its length is unknown.

    Errors in chunked encoding, and an end before the declared length, are OSErrors: werkzeug reports them as a client
    that disconnected. Gunicorn would let a part of a body pass for all of it.
    """

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self._stream = environ["wsgi.input"]
        self.unread_bytes = math.inf if "HTTP_TRANSFER_ENCODING" in environ else int(environ.get("CONTENT_LENGTH") or 0)

    def read(self, size: int = -1) -> bytes:
        try:
            data: bytes = self._stream.read(size)
        except ParseException as error:
            raise OSError(str(error)) from error
        self.unread_bytes -= len(data)
        if not data and size and 0 < self.unread_bytes < math.inf:
            raise OSError("the body ended before its declared length")
        return data


@dataclass(eq=False, slots=True)
class _Draining:
    """A connection that is ending, when it is closed at the latest, and when its last byte arrived."""

    connection: socket.socket
    deadline: float
    received_at: float
    received_bytes: int = 0


class LingeringCloser:
    """Discards what clients still send on ending connections, then closes them.

    One thread has this object in its selector, calls `discard_ready` when it is readable, and `close_expired` about
    once a second. A connection is closed after `max_bytes`, after 30 s, or after 5 s of silence. At most 256
    connections linger; further ones are closed at once.
    """

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._draining: set[_Draining] = set()
        self._lock = threading.Lock()
        self._check_at = 0.0
        self._discarded = bytearray(_READ_BYTES)  # shared by all: nobody reads it

    def fileno(self) -> int:
        """Readable when some connection is (epoll(7), kqueue(2))."""
        return self._selector.fileno()

    def drain(self, connection: socket.socket) -> None:
        """Close the server's half, discard what still arrives, then close. Safe to call from any thread."""
        with suppress(OSError):  # the client has gone
            connection.shutdown(socket.SHUT_WR)
        with suppress(OSError):  # no such option on this system: more wake-ups
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, _READ_BYTES)
        connection.setblocking(False)
        now = self._clock()
        draining = _Draining(connection, now + _MAX_LINGER_S, now)
        with self._lock:
            is_room = len(self._draining) < _MAX_CONNECTIONS
            if is_room:
                self._draining.add(draining)
                self._selector.register(connection, selectors.EVENT_READ, draining)
        if not is_room:
            connection.close()

    def discard_ready(self) -> None:
        """Discard what has arrived, and close the connections of clients that have finished."""
        for key, _events in self._selector.select(0):
            self._discard(key.data)

    def close_expired(self) -> None:
        """Close silent and slow connections: neither time nor a few bytes make the selector readable."""
        now = self._clock()
        if now < self._check_at:
            return
        self._check_at = now + _CHECK_EVERY_S
        with self._lock:
            all_draining = tuple(self._draining)
        for draining in all_draining:
            self._discard(draining)
            if now >= min(draining.deadline, draining.received_at + _MAX_SILENCE_S):
                self._close(draining)

    def _discard(self, draining: _Draining) -> None:
        try:
            for _ in range(_READS_AT_ONCE):
                read_bytes = draining.connection.recv_into(self._discarded, flags=_DISCARD)
                draining.received_at = self._clock()
                draining.received_bytes += read_bytes
                if not read_bytes or draining.received_bytes >= self._max_bytes:
                    self._close(draining)
                    return
        except BlockingIOError:
            return
        except OSError as error:  # the client has gone, or the connection is closed already
            log.debug("refused client gone", extra={"cause": str(error)})
            self._close(draining)

    def _close(self, draining: _Draining) -> None:
        with self._lock:
            if draining not in self._draining:
                return
            self._draining.remove(draining)
            self._selector.unregister(draining.connection)
        draining.connection.close()
