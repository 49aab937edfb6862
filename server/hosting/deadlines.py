"""A client's connection on which no request thread waits for long, however slowly the client sends or reads.

A blocking socket waits for ever, and forty clients that send half a line are all that a server of forty threads can
bear. So a request's head has to come within HEAD_S, and its body without a pause of BODY_S and not more slowly than
LEAST_BYTES_PER_S; for who does not keep to it the stream is at its end, which every reader knows how to take. Sending
an answer takes SEND_S at most.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

HEAD_S = 10.0
BODY_S = 30.0
SEND_S = 60.0
LEAST_BYTES_PER_S = 1024


class Hurried(socket.socket):
    """Takes over an accepted connection. Call `expect_head` before a request is read, `expect_body` after its head."""

    def __init__(self, accepted: socket.socket, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self._clock = clock
        self.expect_head()

    def expect_head(self) -> None:
        self._until = self._clock() + HEAD_S
        self._is_body = False

    def expect_body(self) -> None:
        self._until = self._clock() + BODY_S
        self._is_body = True

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As `socket.recv`, within the time there is; empty when that is over. Flags are for who does not wait."""
        if flags:
            return super().recv(size, flags)
        now, before_s = self._clock(), self.gettimeout()
        left_s = self._until - now
        if left_s <= 0:
            return b""
        self.settimeout(left_s if before_s is None else min(left_s, before_s))
        try:
            piece = super().recv(size)
        except TimeoutError:
            if before_s is not None and self._clock() < self._until:
                raise  # it is the caller's own time that is over
            return b""
        finally:
            self.settimeout(before_s)
        if self._is_body:
            self._until = min(self._until + len(piece) / LEAST_BYTES_PER_S, self._clock() + BODY_S)
        return piece

    def sendall(self, data: bytes, flags: int = 0) -> None:  # type: ignore[override]
        """As `socket.sendall`, within SEND_S. Raises TimeoutError."""
        before_s = self.gettimeout()
        self.settimeout(SEND_S if before_s is None else before_s)
        try:
            super().sendall(data, flags)
        finally:
            self.settimeout(before_s)
