"""Whether a whole request has arrived, so that no request thread waits for a client that sends half of one.

The accepting thread looks at what the kernel holds and leaves it there. A request is whole when its head is here and,
where the body is small, the body as well. A larger body is read by a request thread, within its client's share
(`server.web.admission`). A connection that brings too little is left to the selector until more has come (SO_RCVLOWAT,
socket(7)); its first bytes must become a request within HEAD_S.
"""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass

from server.hosting import deadlines

_LOOK_BYTES = 1 << 14
"""Head and body of a heartbeat take about a fifteenth of it."""

_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,5})[ \t]*\r\n", re.IGNORECASE)
_ASKS_FIRST = re.compile(rb"\r\nexpect:", re.IGNORECASE)


@dataclass(slots=True)
class Arrival:
    """What has arrived of the present request of a connection, and until when it must be whole."""

    seen_bytes: int
    deadline: float


def missing_bytes(arrived: bytes) -> int:
    """How many bytes are certainly missing until the request that begins with `arrived` is whole; 0: none.

    What begins with no letter is no request, but a TLS handshake, say: a request thread refuses it at once.
    """
    if arrived and not arrived.lstrip(b"\r\n")[:1].isalpha():
        return 0 if arrived.strip(b"\r\n") else 1
    end = arrived.find(_HEAD_END)
    if end < 0:
        return 0 if len(arrived) >= _LOOK_BYTES else 1
    head = arrived[: end + len(_HEAD_END)]
    length = _LENGTH.search(head)
    if length is None or _ASKS_FIRST.search(head):
        return 0
    whole_bytes = len(head) + int(length[1])
    return max(0, whole_bytes - len(arrived)) if whole_bytes <= _LOOK_BYTES else 0


def arrival_of(connection: socket.socket, before: Arrival | None) -> Arrival | None:
    """What has arrived where more must come; None where a request thread can take over.

    `before` is the last answer for the same request. Raises OSError for a connection that is broken.
    """
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return None  # only TCP wakes the selector by SO_RCVLOWAT
    arrived = connection.recv(_LOOK_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    missing = missing_bytes(arrived)
    has_ended = before is not None and len(arrived) <= before.seen_bytes
    if not arrived or not missing or has_ended:
        if before is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        return None
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(arrived) + missing)
    deadline = time.monotonic() + deadlines.HEAD_S if before is None else before.deadline
    return Arrival(len(arrived), deadline)
