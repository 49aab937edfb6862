"""A refusal that its client gets to read: the connection is closed only when the rest of the request was taken off it.

We refuse before a body is read. Closing a connection on which bytes are still unread makes the system reset it, and
the client, which is busy sending, then sees a broken connection instead of the answer. So the answer says
`Connection: close`, our half is closed after it, and what the client still sends is read and thrown away, within
bounds, until it has finished (RFC 9112, section 9.6).

That happens in threads of its own: a slow sender that was refused holds no request thread, and not the thread that
accepts connections either, in which Gunicorn would read the last bytes (`gunicorn.util.close_graceful`).
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

log = logging.getLogger(__name__)

LEAVE = "sectorwatch.leave"
"""In the WSGI environment: call it before the answer is sent, and what it returns after that."""

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

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        connection = environ.get("gunicorn.socket")
        close_after = getattr(getattr(start_response, "__self__", None), "force_close", None)
        if connection is not None and close_after and environ.get("SERVER_PROTOCOL", "").startswith("HTTP/1"):
            environ[LEAVE] = partial(self._leave, connection, close_after)
        return self._app(environ, start_response)

    def _leave(self, connection: socket.socket, close_after: Callable[[], None]) -> Callable[[], None]:
        close_after()
        return partial(self._take_over, connection)

    def _take_over(self, connection: socket.socket) -> None:
        """Leave Gunicorn a socket that is at its end, and read what comes on the real one elsewhere."""
        if not self._places.acquire(blocking=False):
            return
        ours = socket.socket(fileno=os.dup(connection.fileno()))
        ended, other = socket.socketpair()
        other.close()
        os.dup2(ended.fileno(), connection.fileno())
        ended.close()
        threading.Thread(target=self._see_off, args=(ours,), name="sectorwatch-linger", daemon=True).start()

    def _see_off(self, connection: socket.socket) -> None:
        try:
            _drain(connection, self._most_bytes)
        except OSError as error:  # it is gone, or silent
            log.debug("refused client gone", extra={"cause": str(error)})
        finally:
            connection.close()
            self._places.release()


def _drain(connection: socket.socket, most_bytes: int) -> None:
    connection.shutdown(socket.SHUT_WR)
    until, read_bytes, unread = time.monotonic() + _WITHIN_S, 0, bytearray(_PIECE_BYTES)
    while read_bytes < most_bytes and (left_s := until - time.monotonic()) > 0:
        connection.settimeout(min(_SILENCE_S, left_s))
        piece_bytes = connection.recv_into(unread, flags=_AWAY)
        if not piece_bytes:
            return
        read_bytes += piece_bytes
