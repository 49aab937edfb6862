"""A proxy that delays, cuts, resets and freezes connections, each in its own way."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["none", "short", "cut", "reset", "deaf", "slow", "lossy", "error", "hang"]
"""None; lost after some bursts; refused at once; reset somewhere in the first request; the answer lost; a trickle;
pieces that come late or end it all; HTTP 500; silence.
"""
BAD: tuple[Fault, ...] = ("short", "cut", "reset", "deaf", "slow", "lossy", "error", "hang")

_PIECE = 4096
_SHORT_BYTES = 30_000
_LINGER_NOT = struct.pack("ii", 1, 0)


class Proxy:
    """`with Proxy(url, faults) as proxy:` gives every new connection the next fault; connect to `proxy.url`."""

    def __init__(self, url: str, faults: Iterator[Fault], seed: int = 0) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname or "", parts.port or 80)
        self._faults = faults
        self._chance = random.Random(seed)
        self._over = threading.Event()
        self._door = socket.create_server(("127.0.0.1", 0))
        self._links: list[_Link] = []
        self.met: list[Fault] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._door.getsockname()[1]}"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._door.close()
        self.break_off()

    def break_off(self) -> None:
        """Reset every open connection."""
        for link in self._taken():
            link.reset()

    def freeze(self) -> None:
        """Pass no further byte on any open connection, and close none."""
        for link in self._taken():
            link.is_frozen = True

    def _taken(self) -> list[_Link]:
        links, self._links = self._links, []
        return links

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                near, _ = self._door.accept()
            except OSError:
                return
            fault = next(self._faults)
            self.met.append(fault)
            link = _Link(near, fault, self._over, random.Random(self._chance.random()))
            self._links = [*(open_link for open_link in self._links if open_link.is_alive()), link]
            link.serve(self._server)


class _Link:
    """One connection through the proxy."""

    def __init__(self, near: socket.socket, fault: Fault, over: threading.Event, chance: random.Random) -> None:
        self._near = near
        self._fault = fault
        self._over = over
        self._chance = chance
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._far: tuple[str, int] = ("", 0)
        self.is_frozen = False

    def serve(self, far: tuple[str, int]) -> None:
        self._far = far
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def reset(self) -> None:
        with contextlib.suppress(OSError):
            self._near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            self._near.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        with self._near as near, contextlib.suppress(OSError):
            if self._fault == "cut":
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            elif self._fault == "error":
                near.recv(_PIECE)
                near.sendall(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                _drain(near)
            elif self._fault == "hang":
                self._over.wait(60.0)
            else:
                self._forward(near)

    def _forward(self, near: socket.socket) -> None:
        limit = {"reset": self._chance.randrange(1, 2 * _PIECE), "short": _SHORT_BYTES, "slow": _SHORT_BYTES}
        with socket.create_connection(self._far) as far:
            back = threading.Thread(target=self._pump, args=(far, near, None), daemon=True)
            back.start()
            self._pump(near, far, limit.get(self._fault))
            if self._fault in limit:
                self.reset()
            back.join(1.0)
            far.shutdown(socket.SHUT_RDWR)  # to close it while it is read from would not end it
            back.join(5.0)

    def _pump(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        """Pass pieces on, up to byte `limit`."""
        passed = 0
        with contextlib.suppress(OSError):
            while piece := source.recv(_PIECE if limit is None else min(_PIECE, limit - passed)):
                if not self._passes(is_answer=sink is self._near):
                    self.reset()
                    return
                sink.sendall(piece)
                passed += len(piece)
                if passed == limit:
                    return
            sink.shutdown(socket.SHUT_WR)

    def _passes(self, *, is_answer: bool) -> bool:
        """Wait as long as this link delays a piece; return false where the link ends."""
        if self.is_frozen:
            self._over.wait(60.0)
        if self._fault == "slow":
            self._over.wait(0.02)
        if self._fault == "lossy":
            self._over.wait(self._chance.choice((0.0, 0.0, 0.0, 0.2, 0.6)))
            return self._chance.random() > 0.05
        return not (self._fault == "deaf" and is_answer)


def faults(seed: int, kinds: Sequence[Fault], is_bad: Callable[[], bool]) -> Iterator[Fault]:
    """Each of `kinds` in a random order, repeated while `is_bad`, then none."""
    chance = random.Random(seed)
    deck: list[Fault] = []
    while is_bad():
        deck = deck or chance.sample(kinds, len(kinds))
        yield deck.pop()
    while True:
        yield "none"


def _drain(connection: socket.socket) -> None:
    connection.settimeout(1.0)
    with contextlib.suppress(OSError):
        while connection.recv(_PIECE):
            pass
