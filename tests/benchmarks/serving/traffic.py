"""Requests on connections of their own, all from one thread, for as little of the processor as Python can.

A benchmark's clients share the machine with the server that is measured: what they take it does not have. So there are
no tasks, no streams and no copies: a request takes .25 ms, most of it in the system, where asyncio's took .5.
"""

from __future__ import annotations

import heapq
import re
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

_ANSWERED_WITHIN_S = 90.0
_READ_BYTES = 1 << 16
_LOOPBACK = "127.0.0.1"
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)", re.IGNORECASE)
_RETRY = re.compile(rb"\r\nRetry-After: (\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: `status` 0 and what went wrong where nothing did. `at`: when all of it was here (s)."""

    status: int
    body: bytes
    at: float
    error: str = ""
    retry_after_s: float = 0.0


Heard = Callable[[Answer], None]


@dataclass(eq=False, slots=True)
class _Exchange:
    """One request and its answer. `left` is still to be sent: all is before anything is read, as most clients do."""

    connection: socket.socket
    left: memoryview
    heard: Heard
    until: float
    pieces: list[bytes] = field(default_factory=list)


class Traffic:
    """What is to be asked, and when; `run` does it. Instants are `time.perf_counter`'s.

    A request that is not answered within `patience_s` fails.
    """

    def __init__(self, patience_s: float = _ANSWERED_WITHIN_S) -> None:
        self._patience_s = patience_s
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._open: dict[_Exchange, None] = {}

    def at(self, instant: float, do: Callable[[], None]) -> None:
        """Call `do` at this instant, or as soon after it as can be."""
        heapq.heappush(self._due, (instant, next(self._order), do))

    def ask(self, port: int, content: bytes, heard: Heard) -> None:
        """Send a whole HTTP request that ends its connection; `heard` is called once, with what came of it."""
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex((_LOOPBACK, port))
        exchange = _Exchange(connection, memoryview(content), heard, time.perf_counter() + self._patience_s)
        self._open[exchange] = None
        self._selector.register(connection, selectors.EVENT_WRITE, exchange)
        self._go_on(exchange)

    def run(self) -> None:
        """Until there is nothing more to ask and every answer is here."""
        while self._due or self._open:
            for key, _events in self._selector.select(self._idle_s()):
                self._go_on(key.data)
            now = time.perf_counter()
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()
            while self._open and (oldest := next(iter(self._open))).until <= now:
                self._end(oldest, "TimeoutError")

    def _idle_s(self) -> float:
        instants = [self._due[0][0]] if self._due else []
        instants += [next(iter(self._open)).until] if self._open else []
        return max(0.0, min(instants) - time.perf_counter())

    def _go_on(self, exchange: _Exchange) -> None:
        """Send and read what can be now."""
        try:
            if exchange.left:
                self._send(exchange)
            else:
                self._read(exchange)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(exchange, type(error).__name__)

    def _send(self, exchange: _Exchange) -> None:
        while exchange.left:
            exchange.left = exchange.left[exchange.connection.send(exchange.left) :]
        self._selector.modify(exchange.connection, selectors.EVENT_READ, exchange)

    def _read(self, exchange: _Exchange) -> None:
        while piece := exchange.connection.recv(_READ_BYTES):
            exchange.pieces.append(piece)
        self._end(exchange)

    def _end(self, exchange: _Exchange, error: str = "") -> None:
        del self._open[exchange]
        self._selector.unregister(exchange.connection)
        exchange.connection.close()
        exchange.heard(_told(b"".join(exchange.pieces), error))


def _told(answer: bytes, error: str) -> Answer:
    """The answer, where it is all there."""
    head, _, body = answer.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    if error or length is None or int(length[1]) != len(body):
        return Answer(0, b"", time.perf_counter(), error or "cut short")
    retry = _RETRY.search(head)
    return Answer(int(head[9:12]), body, time.perf_counter(), retry_after_s=float(retry[1]) if retry else 0.0)
