"""A client's connection with deadlines, so that a slow client cannot hold a request thread.

A blocking socket waits for ever: forty clients that send half a line would occupy all forty threads. A request's head
must arrive within HEAD_S. Its body may pause for BODY_S and must average LEAST_BYTES_PER_S. After that, `recv` returns
the end of the stream, which every reader handles. Sending an answer takes SEND_S at most, and few threads wait for
that at once (`crowds.SlowReaders`).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress

from server.hosting.crowds import SlowReaders

HEAD_S = 10.0
BODY_S = 30.0
SEND_S = 60.0
LEAST_BYTES_PER_S = 1024


class DeadlineSocket(socket.socket):
    """Takes over an accepted connection, of a client at `origin`.

    Call `expect_head` before a request is read, `expect_body` after its head.
    """

    def __init__(
        self,
        accepted: socket.socket,
        slow_readers: SlowReaders,
        origin: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self._slow_readers = slow_readers
        self._origin = origin
        self._clock = clock
        self.expect_head()

    def expect_head(self) -> None:
        self._deadline = self._clock() + HEAD_S
        self._is_body = False

    def expect_body(self) -> None:
        self._deadline = self._clock() + BODY_S
        self._is_body = True

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As `socket.recv`, until the deadline; empty after it. A call with flags does not wait, so it has none."""
        if flags:
            return super().recv(size, flags)
        timeout_s = self.gettimeout()
        left_s = self._deadline - self._clock()
        if left_s <= 0:
            return b""
        self.settimeout(left_s if timeout_s is None else min(left_s, timeout_s))
        try:
            data = super().recv(size)
        except TimeoutError:
            if timeout_s is not None and self._clock() < self._deadline:
                raise  # the caller's own timeout
            return b""
        finally:
            self.settimeout(timeout_s)
        if self._is_body:
            self._deadline = min(self._deadline + len(data) / LEAST_BYTES_PER_S, self._clock() + BODY_S)
        return data

    def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override]
        """Send all of it, as `sendall`: Gunicorn sends `100 Continue` by this."""
        self.sendall(data, flags)
        return len(data)

    def sendall(self, data: bytes, flags: int = 0) -> None:  # type: ignore[override]
        """As `socket.sendall`, within SEND_S. Raises OSError, also where other slow readers need the thread."""
        timeout_s = self.gettimeout()
        rest = memoryview(data)
        try:
            self.settimeout(0)
            with suppress(BlockingIOError):
                rest = rest[super().send(rest, flags) :]
            if rest:
                self.settimeout(SEND_S if timeout_s is None else timeout_s)
                with self._slow_readers.waiting(self, self._origin):
                    super().sendall(rest, flags)
        finally:
            self.settimeout(timeout_s)
