"""One HTTP request and its answer, all of it within one time limit, to an address that was checked.

The name is resolved once for each connection, and the connection goes to the very address that was checked, so that a
name server cannot lead it elsewhere in between. Proxies of the environment, cookies and redirects play no part.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from email.message import Message
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from server.delivery.webhook.addresses import Address, NotPublic

MOST_ANSWER_BYTES = 2048
"""Of an answer's body that are read. A connection with more to come is closed."""
_PORTS = {"http": 80, "https": 443}
_KEPT = "%/:?#[]@!$&'()*+,;=~"
"""Signs of an address that stay as they are."""


class NoAnswer(Exception):
    """No connection, no answer in time, or one that is not HTTP. The text names the host, never the whole address."""


class Target(NamedTuple):
    """The parts of an address."""

    scheme: str
    host: str
    port: int
    path: str
    login: str

    @classmethod
    def of(cls, url: str) -> Target:
        """The parts of `url`. Raises ValueError, whose text does not repeat it."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
            host = host.encode("idna").decode()
        except (ValueError, KeyError):
            raise ValueError("it is not of the form https://HOST/PATH") from None
        if not host or not host.isprintable() or " " in host:
            raise ValueError("it names no host")
        path = quote(parts.path or "/", safe=_KEPT) + (f"?{quote(parts.query, safe=_KEPT)}" if parts.query else "")
        login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if "@" in parts.netloc else ""
        return cls(parts.scheme, host, port, path, login)

    @property
    def place(self) -> str:
        """Host and port, as the header Host has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        """The address without its path, which may be a secret."""
        return f"{self.scheme}://{self.place}"


class Answer(NamedTuple):
    """Status, reason, headers and the first bytes of an answer."""

    status: int
    reason: str
    headers: Message
    start: bytes


class Exchange:
    """Requests to one target over a kept connection, each within `timeout_s`. For one thread at a time."""

    def __init__(
        self,
        target: Target,
        resolve: Callable[[], Sequence[Address]],
        context: ssl.SSLContext | None,
        timeout_s: float,
    ) -> None:
        self._timeout_s = timeout_s
        self._connection = _Connection(target, resolve, context)
        self._target = target

    def ask(self, method: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """The answer. Raises NoAnswer."""
        connection = self._connection
        connection.deadline_s = time.monotonic() + self._timeout_s
        was_kept = connection.sock is not None
        try:
            try:
                return self._ask(method, headers, body)
            except TimeoutError:
                raise
            except (OSError, http.client.HTTPException):
                if not was_kept:
                    raise
                connection.close()  # the receiver had closed it
                return self._ask(method, headers, body)
        except NotPublic as error:
            raise NoAnswer(str(error)) from None
        except TimeoutError:
            raise NoAnswer(f"{self._target}: no whole answer within {self._timeout_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(f"{self._target}: {_reason(error)}") from None
        finally:
            if connection.is_used_up:
                connection.close()

    def _ask(self, method: str, headers: Mapping[str, str], body: bytes) -> Answer:
        connection = self._connection
        connection.is_used_up = True
        connection.request(method, self._target.path, body, {"Host": self._target.place, **headers})
        response = connection.getresponse()
        start = b""
        with suppress(OSError, http.client.HTTPException):  # the status says all; the rest is for people
            start = response.read(MOST_ANSWER_BYTES)
        connection.is_used_up = not response.isclosed()
        return Answer(response.status, response.reason, response.headers, start)

    def close(self) -> None:
        self._connection.close()


class _Connection(http.client.HTTPConnection):
    """A connection that ends all it does by `deadline_s` (monotonic)."""

    def __init__(
        self, target: Target, resolve: Callable[[], Sequence[Address]], context: ssl.SSLContext | None
    ) -> None:
        super().__init__(target.host, target.port)
        self.deadline_s = 0.0
        self.is_used_up = False
        self._resolve = resolve
        self._context = context

    def connect(self) -> None:
        """Connect to the first address that answers. Those that do not answer share the time."""
        addresses = self._resolve()
        for index, address in enumerate(addresses):
            within_s = self.left_s() / (len(addresses) - index)
            try:
                plain = _connected(address, within_s)
                break
            except OSError:
                if index == len(addresses) - 1:
                    raise
        sock = plain
        if self._context is not None:
            plain.settimeout(self.left_s())
            try:
                sock = self._context.wrap_socket(plain, server_hostname=self.host)
            except BaseException:
                plain.close()
                raise
        self.sock: Any = _Timed(sock, self.left_s)

    def left_s(self) -> float:
        """Seconds until the deadline. Raises TimeoutError."""
        left_s = self.deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return left_s


def _connected(address: Address, within_s: float) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.settimeout(within_s)
        sock.connect(address.place)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


class _Timed:
    """What `http.client` needs of a socket, each operation within what is left of the time.

    A request leaves in one piece, when its answer is asked for: `http.client` gives its head and its body apart.
    """

    def __init__(self, sock: socket.socket, left_s: Callable[[], float]) -> None:
        self._sock = sock
        self._left_s = left_s
        self._request = b""

    def sendall(self, data: bytes) -> None:
        self._request += data

    def makefile(self, _mode: str) -> io.BufferedReader:
        self._sock.settimeout(self._left_s())
        self._sock.sendall(self._request)
        self._request = b""
        return io.BufferedReader(_Incoming(self._sock, self._left_s))

    def close(self) -> None:
        self._sock.close()


class _Incoming(io.RawIOBase):
    """The bytes that come from a socket."""

    def __init__(self, sock: socket.socket, left_s: Callable[[], float]) -> None:
        self._sock = sock
        self._file = sock.makefile("rb", buffering=0)  # it keeps a socket open that `http.client` closes early
        self._left_s = left_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._left_s())
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def _reason(error: Exception) -> str:
    """Why there is no answer, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, http.client.RemoteDisconnected):
        return "it closed the connection without an answer"
    if isinstance(error, http.client.HTTPException):
        return f"its answer is not HTTP ({type(error).__name__})"
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
