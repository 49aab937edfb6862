"""How a connection ends: a client that was refused gets to read why, and no client that dawdles holds up the others.

We refuse before a body is read. Closing a connection on which bytes are still unread makes the system reset it, and
the client, which is busy sending, then sees a broken connection instead of the answer. So the answer says
`Connection: close`, our half is closed after it, and what the client still sends is read and thrown away, within
bounds, until it has finished (RFC 9112, section 9.6). That happens in threads of its own: a slow sender that was
refused holds no request thread.

Gunicorn would read the last bytes, and wait up to 2 s for the client to close, in the thread that accepts connections
(`gunicorn.util.close_graceful`); meanwhile nobody else gets in. So it is left a socket that is at its end already.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

log = logging.getLogger(__name__)

LEAVE = "sectorwatch.leave"
"""In the WSGI environment: call it before the answer is sent, with whether some of the request may be unread, and what
it returns after that."""

_AT_ONCE = 64
_WITHIN_S = 30.0
_SILENCE_S = 5.0
_PIECE_BYTES = 1 << 18
_AWAY = socket.MSG_TRUNC if sys.platform == "linux" else 0
"""What the kernel has of a TCP stream is thrown away there, without being copied to us (tcp(7))."""

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Lingering:
    """WSGI middleware for Gunicorn's HTTP/1 workers; under any other server the application is as it was.

    At most `most_bytes` are thrown away per connection, for at most 30 s, 5 of them without a byte, on 64
    connections at once; beyond that it is closed as it stands.
    """

    def __init__(self, app: Wsgi, *, most_bytes: int) -> None:
        self._app = app
        self._most_bytes = most_bytes
        self._places = threading.BoundedSemaphore(_AT_ONCE)
        self._away = bytearray(_PIECE_BYTES)  # one for all: nobody reads what is in it

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        connection = environ.get("gunicorn.socket")
        answer = getattr(start_response, "__self__", None)
        if connection is None or answer is None or not environ.get("SERVER_PROTOCOL", "").startswith("HTTP/1"):
            return self._app(environ, start_response)
        environ[LEAVE] = partial(self._leave, connection, answer)
        return self._app(environ, start_response)

    def _leave(self, connection: socket.socket, answer: Any, unread: bool) -> Callable[[], None]:
        if unread:
            answer.force_close()
        return partial(self._part, connection, answer, unread)

    def _part(self, connection: socket.socket, answer: Any, unread: bool) -> None:
        """End the connection here, if it ends."""
        if not answer.should_close():
            return
        if not unread:
            _taken_over(connection).close()
        elif self._places.acquire(blocking=False):
            ours = _taken_over(connection)
            threading.Thread(target=self._see_off, args=(ours,), name="sectorwatch-linger", daemon=True).start()

    def _see_off(self, connection: socket.socket) -> None:
        try:
            self._drain(connection)
        except OSError as error:  # it is gone, or silent
            log.debug("refused client gone", extra={"cause": str(error)})
        finally:
            connection.close()
            self._places.release()

    def _drain(self, connection: socket.socket) -> None:
        until, read_bytes = time.monotonic() + _WITHIN_S, 0
        while read_bytes < self._most_bytes and (left_s := until - time.monotonic()) > 0:
            connection.settimeout(min(_SILENCE_S, left_s))
            piece_bytes = connection.recv_into(self._away, flags=_AWAY)
            if not piece_bytes:
                return
            read_bytes += piece_bytes


def _taken_over(connection: socket.socket) -> socket.socket:
    """The connection, our half of it closed; `connection` is one that is at its end from now on."""
    ours = socket.socket(fileno=os.dup(connection.fileno()))
    ended, other = socket.socketpair()
    other.close()
    os.dup2(ended.fileno(), connection.fileno())
    ended.close()
    with suppress(OSError):  # the client has gone
        ours.shutdown(socket.SHUT_WR)
    return ours
