"""Which connection goes where there are too many: one of the address that has most."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

Connection = TypeVar("Connection")

_NETWORK_BYTES = 8
"""Of an IPv6 address: a household or company has that network for itself."""


def origin_of(client: Any) -> str:
    """What a client shares with other connections of the same place: its address, of IPv6 the /64 network.

    `client` is what `socket.accept` returns.
    """
    if not isinstance(client, tuple):
        return ""
    host = str(client[0]).partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    address = getattr(address, "ipv4_mapped", None) or address
    return str(address) if address.version == 4 else address.packed[:_NETWORK_BYTES].hex()


def to_close(connections: Iterable[Connection], origin: Callable[[Connection], str]) -> Connection:
    """Of connections in the order of their age, the oldest of the origin that has most. There must be one."""
    in_order = list(connections)
    counts = Counter(map(origin, in_order))
    crowded = max(counts, key=counts.__getitem__)
    return next(connection for connection in in_order if origin(connection) == crowded)


class SlowReaders:
    """Request threads that wait until their client reads the answer: at most `most`, so that others are free.

    When one more would wait, the connection of another is shut down, and its thread is free. Safe to use from any
    thread.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[socket.socket, str] = {}
        self._lock = threading.Lock()

    @contextmanager
    def waiting(self, connection: socket.socket, origin: str) -> Iterator[None]:
        """For a thread that waits, during the `with` block, for room to send on `connection`."""
        with self._lock:
            self._waiting[connection] = origin
            if len(self._waiting) > self._most:
                self._end(to_close(self._waiting, self._waiting.__getitem__))
        try:
            yield
        finally:
            with self._lock:
                self._waiting.pop(connection, None)

    def _end(self, connection: socket.socket) -> None:
        del self._waiting[connection]
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
