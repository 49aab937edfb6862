"""How a test reaches a server that runs: by HTTP, or by HTTPS with a certificate of its own."""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from server.hosting.self_signed import Pair, make
from tests.server.launched import PATIENCE_S

SCHEMES = ("http", "https")


def certified(folder: Path, template: Pair) -> None:
    """Put the certificate into a server's data folder, as `sectorwatch tls init` does."""
    folder.mkdir(exist_ok=True)
    for file in template:
        shutil.copy(file, folder / file.name)


def self_signed(folder: Path) -> Pair:
    pair = Pair(folder / "tls.crt", folder / "tls.key")
    make(pair, ["127.0.0.1", "localhost"])
    return pair


def free_port() -> int:
    """A port of loopback that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Door:
    """A port on loopback; with a `certificate` it speaks TLS, and that one is expected."""

    port: int
    certificate: Path | None = None

    @property
    def url(self) -> str:
        return f"{'http' if self.certificate is None else 'https'}://127.0.0.1:{self.port}"

    def asking(self, timeout_s: float = PATIENCE_S) -> http.client.HTTPConnection:
        if self.certificate is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        context = ssl.create_default_context(cafile=self.certificate)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout_s, context=context)

    def connected(self, timeout_s: float = PATIENCE_S) -> socket.socket:
        """A connection, with its handshake made."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout_s)
        if self.certificate is None:
            return connection
        return ssl.create_default_context(cafile=self.certificate).wrap_socket(connection, server_hostname="127.0.0.1")

    def status(self, path: str = "/livez", timeout_s: float = PATIENCE_S) -> int:
        connection = self.asking(timeout_s)
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status
