"""A real proxy that treats each connection badly in its own way: what a metered link in the rain does."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["none", "short", "cut", "reset", "deaf", "slow", "error", "hang"]
"""None; lost after some bursts; refused at once; reset in the middle of the first request; the answer lost; a trickle;
HTTP 500; silence.
"""

_PIECE = 4096
_LINGER_NOT = struct.pack("ii", 1, 0)


class Proxy:
    """`with Proxy(url, faults) as proxy:` gives every new connection the next fault; connect to `proxy.url`."""

    def __init__(self, url: str, faults: Iterator[Fault]) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname or "", parts.port or 80)
        self._faults = faults
        self._over = threading.Event()
        self._door = socket.create_server(("127.0.0.1", 0))
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

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                near, _ = self._door.accept()
            except OSError:
                return
            fault = next(self._faults)
            self.met.append(fault)
            threading.Thread(target=self._serve, args=(near, fault), daemon=True).start()

    def _serve(self, near: socket.socket, fault: Fault) -> None:
        with near, contextlib.suppress(OSError):
            if fault == "cut":
                _reset(near)
            elif fault == "error":
                near.recv(_PIECE)
                near.sendall(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                _drain(near)
            elif fault == "hang":
                self._over.wait(60.0)
            else:
                self._forward(near, fault)

    def _forward(self, near: socket.socket, fault: Fault) -> None:
        with socket.create_connection(self._server) as far:
            back = threading.Thread(target=self._pump, args=(far, near, fault == "deaf", None, 0.0), daemon=True)
            back.start()
            limit = {"reset": _PIECE, "short": 30_000, "slow": 30_000}.get(fault)
            self._pump(near, far, False, limit, 0.02 if fault == "slow" else 0.0)
            if limit is not None:
                _reset(near)
            back.join(5.0)

    def _pump(self, source: socket.socket, sink: socket.socket, loses: bool, limit: int | None, pause_s: float) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while piece := source.recv(_PIECE):
                passed += len(piece)
                if loses:
                    _reset(sink)
                    return
                sink.sendall(piece)
                if limit is not None and passed >= limit:
                    return
                if pause_s:
                    self._over.wait(pause_s)
            sink.shutdown(socket.SHUT_WR)


def faults(seed: int, kinds: Sequence[Fault], is_bad: Callable[[], bool]) -> Iterator[Fault]:
    """Each of `kinds` in a random order, again and again while `is_bad`, then none."""
    chance = random.Random(seed)
    deck: list[Fault] = []
    while is_bad():
        deck = deck or chance.sample(kinds, len(kinds))
        yield deck.pop()
    while True:
        yield "none"


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    connection.close()


def _drain(connection: socket.socket) -> None:
    connection.settimeout(1.0)
    with contextlib.suppress(OSError):
        while connection.recv(_PIECE):
            pass
