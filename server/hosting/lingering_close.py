"""How a connection ends: a client that was refused gets to read why, and no client that dawdles holds up the others.

We refuse before a body is read. Closing a connection on which bytes are still unread makes the system reset it, and
the client, which is busy sending, then sees a broken connection instead of the answer. So the answer says
`Connection: close`, our half is closed after it, and what the client still sends is read and thrown away, within
bounds, until it has finished (RFC 9112, section 9.6). The thread that accepts connections does that for all of them,
when a client has finished or much has come (`server.hosting.gunicorn_worker`): a slow sender that was refused holds no
request thread.

Gunicorn would read the last bytes, and wait up to 2 s for the client to close, in the thread that accepts connections
(`gunicorn.util.close_graceful`); meanwhile nobody else gets in. So it is left a socket that is at its end already.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from server.web.multipart import LEAVE

log = logging.getLogger(__name__)

_AT_ONCE = 256
_WITHIN_S = 30.0
_SILENCE_S = 5.0
_LOOKED_AFTER_S = 1.0
_PIECE_BYTES = 1 << 18
_PIECES_AT_ONCE = 4
_AWAY = socket.MSG_TRUNC if sys.platform == "linux" else 0
"""What the kernel has of a TCP stream is thrown away there, without being copied to us (tcp(7))."""

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Lingering:
    """WSGI middleware for Gunicorn's HTTP/1 workers; under any other server the application is as it was.

    Those who may still be sending are left to `leavers`.
    """

    def __init__(self, app: Wsgi, leavers: Leavers) -> None:
        self._app = app
        self._leavers = leavers
        self._ended, other = socket.socketpair()
        other.close()

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
        ours = self._taken_over(connection)
        if unread:
            self._leavers.see_off(ours)
        else:
            ours.close()

    def _taken_over(self, connection: socket.socket) -> socket.socket:
        """The connection, our half of it closed; `connection` is one that is at its end from now on."""
        ours = socket.socket(connection.family, connection.type, fileno=os.dup(connection.fileno()))
        os.dup2(self._ended.fileno(), connection.fileno(), inheritable=False)
        with suppress(OSError):  # the client has gone
            ours.shutdown(socket.SHUT_WR)
        return ours


@dataclass(eq=False, slots=True)
class _Leaver:
    """A connection that is being ended, since when it is silent, and when it is closed at the latest."""

    connection: socket.socket
    until: float
    heard_at: float
    read_bytes: int = 0


class Leavers:
    """Connections that are ending. Whoever has this in a selector calls `attend` when it is readable, and `look_after`
    about once a second, always from the same thread.

    At most `most_bytes` are thrown away per connection, for at most 30 s, 5 of them without a byte, on 256
    connections at once; beyond that it is closed as it stands.
    """

    def __init__(self, most_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_bytes = most_bytes
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._here: set[_Leaver] = set()
        self._lock = threading.Lock()
        self._look_at = 0.0
        self._away = bytearray(_PIECE_BYTES)  # one for all: nobody reads what is in it

    def fileno(self) -> int:
        """Readable when there is something to attend to (epoll(7), kqueue(2))."""
        return self._selector.fileno()

    def see_off(self, connection: socket.socket) -> None:
        """Read what still comes, then close. Our half is closed already. Any thread may call it."""
        with suppress(OSError):  # no such option here: more wakings
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, _PIECE_BYTES)
        connection.setblocking(False)
        now = self._clock()
        leaver = _Leaver(connection, now + _WITHIN_S, now)
        with self._lock:
            is_room = len(self._here) < _AT_ONCE
            if is_room:
                self._here.add(leaver)
                self._selector.register(connection, selectors.EVENT_READ, leaver)
        if not is_room:
            connection.close()

    def attend(self) -> None:
        """Throw away what has come, and close where the client has finished."""
        for key, _events in self._selector.select(0):
            self._drain(key.data)

    def look_after(self) -> None:
        """Close who is silent or too slow: time wakes nobody, and a few bytes do not either."""
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + _LOOKED_AFTER_S
        with self._lock:
            here = tuple(self._here)
        for leaver in here:
            self._drain(leaver)
            if now >= min(leaver.until, leaver.heard_at + _SILENCE_S):
                self._close(leaver)

    def _drain(self, leaver: _Leaver) -> None:
        try:
            for _ in range(_PIECES_AT_ONCE):
                piece_bytes = leaver.connection.recv_into(self._away, flags=_AWAY)
                leaver.heard_at = self._clock()
                leaver.read_bytes += piece_bytes
                if not piece_bytes or leaver.read_bytes >= self._most_bytes:
                    self._close(leaver)
                    return
        except BlockingIOError:
            return
        except OSError as error:  # it is gone
            log.debug("refused client gone", extra={"cause": str(error)})
            self._close(leaver)

    def _close(self, leaver: _Leaver) -> None:
        with self._lock:
            if leaver not in self._here:
                return
            self._here.remove(leaver)
            self._selector.unregister(leaver.connection)
        leaver.connection.close()
