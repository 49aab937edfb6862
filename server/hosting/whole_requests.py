"""Whether a whole request has arrived, so that no request thread waits for a client that sends half of one.

The accepting thread takes what has arrived and holds it, with TLS and without. A request is whole when its head is here
and, where the body is small, the body as well. A larger body is read by a request thread, within its client's share
(`server.web.admission`), and so is one that the client sends only when asked (`Expect`). From its first byte on, a
request must become whole within HEAD_S. A head of more than HEAD_BYTES is refused.
"""

from __future__ import annotations

import math
import re
import socket
import time
from collections.abc import Callable

from server.hosting import deadlines
from server.web.admission import SMALL_BODY_BYTES

HEAD_BYTES = 1 << 14
"""As Node.js and most proxies allow."""

_MOST_BYTES = HEAD_BYTES + SMALL_BODY_BYTES
_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*0*(\d{1,9})[ \t]*\r\n", re.IGNORECASE)
_ASKS_FIRST = re.compile(rb"\r\nexpect:", re.IGNORECASE)


class Arrival:
    """What has arrived of the next request of a connection: at most HEAD_BYTES and a small body.

    `held` are its bytes, `deadline` is when it must be whole. `has_ended` says that no more bytes can come.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.held = bytearray()
        self.deadline = math.inf
        self.has_ended = False

    @property
    def is_complete(self) -> bool:
        """Whether a request thread can take over: with a whole request, or one that it refuses."""
        return self.has_ended or not missing_bytes(self.held)

    @property
    def is_head_too_long(self) -> bool:
        return len(self.held) >= HEAD_BYTES and _HEAD_END not in self.held[: HEAD_BYTES + len(_HEAD_END)]

    def add(self, arrived: bytes) -> None:
        """Hold bytes that were read together with the request before."""
        self.held += arrived
        if self.held and self.deadline == math.inf:
            self.deadline = self._clock() + deadlines.HEAD_S

    def receive(self, connection: socket.socket) -> None:
        """Take what has arrived on a connection that does not block, until the request is whole."""
        try:
            while not self.is_complete:
                arrived = connection.recv(_MOST_BYTES - len(self.held), socket.MSG_DONTWAIT)
                self.has_ended = not arrived
                self.add(arrived)
        except BlockingIOError:
            return
        except OSError:  # broken: the request thread finds out
            self.has_ended = True


def missing_bytes(arrived: bytes | bytearray) -> int:
    """How many bytes are certainly missing until the request that begins with `arrived` is whole; 0: none.

    For bytes that cannot become a request it is 0 as well, so that a request thread refuses them at once: they do not
    begin with a letter (a TLS handshake, say), a line ends without a carriage return, or the head is too long.
    """
    if arrived and not arrived.lstrip(b"\r\n")[:1].isalpha():
        return 0 if arrived.strip(b"\r\n") else 1
    end = arrived.find(_HEAD_END)
    if end < 0:
        has_bare_line_feeds = arrived.count(b"\n") != arrived.count(b"\r\n")
        return 0 if len(arrived) >= HEAD_BYTES or has_bare_line_feeds else 1
    head = arrived[: end + len(_HEAD_END)]
    length = _LENGTH.search(head)
    if length is None or _ASKS_FIRST.search(head) or int(length[1]) > SMALL_BODY_BYTES:
        return 0
    return max(0, len(head) + int(length[1]) - len(arrived))
