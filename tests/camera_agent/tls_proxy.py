"""A proxy that itself speaks TLS: whatever host is asked for, it connects to one port of this machine."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.camera_agent.certificates import context_of

_PIECE_BYTES = 1 << 16


@dataclass
class TlsProxy:
    """`asked` are the hosts that clients wanted to reach, `heads` all that they sent to the proxy itself."""

    url: str
    asked: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)


@contextmanager
def tls_proxy(pair: tuple[Path, Path], to_port: int) -> Iterator[TlsProxy]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = TlsProxy(f"https://127.0.0.1:{listener.getsockname()[1]}")
        threading.Thread(target=_accept, args=(listener, context_of(*pair), to_port, proxy), daemon=True).start()
        yield proxy
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, context: ssl.SSLContext, to_port: int, proxy: TlsProxy) -> None:
    with suppress(OSError):  # closed
        while True:
            accepted = listener.accept()[0]
            with suppress(OSError), context.wrap_socket(accepted, server_side=True) as client:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += client.recv(1)
                proxy.heads.append(head.decode())
                proxy.asked.append(head.split()[1].decode())
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                _carry(client, to_port)


def _carry(client: ssl.SSLSocket, to_port: int) -> None:
    with socket.create_connection(("127.0.0.1", to_port)) as target:
        while True:
            ready = [client] if client.pending() else select.select([client, target], [], [])[0]
            for end, other in ((client, target), (target, client)):
                if end in ready:
                    piece = end.recv(_PIECE_BYTES)
                    if not piece:
                        return
                    other.sendall(piece)
