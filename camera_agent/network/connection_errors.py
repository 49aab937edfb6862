"""Why somebody on the network was not reached, in words that say where to look."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import requests

_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322}


def address_of(url: str) -> tuple[str, int]:
    """Host and port that a URL means. Raises `ValueError` for a port that is none."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


def why_unreached(error: Exception, url: str) -> str:
    """The innermost reason of a failed connection to `url`."""
    host, port = address_of(url)
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE" not in str(error):
        return f"port {port} of {host} does not speak TLS: is it http:// there?"
    if isinstance(error, requests.exceptions.SSLError):
        return "the server's certificate is not trusted: mind `ca_file`, the name in the address, and this clock"
    if isinstance(error, requests.exceptions.ReadTimeout):
        return "no answer in time"
    inner: BaseException = error
    while (cause := inner.__cause__ or inner.__context__) is not None:
        inner = cause
    if isinstance(inner, socket.gaierror):
        return f"no host is known as {host}: mind its spelling, and this machine's network"
    if isinstance(inner, ConnectionRefusedError):
        return f"connection refused: {host} is there, but nothing listens on port {port}"
    if isinstance(inner, TimeoutError):
        return f"no connection in time: is {host} switched on, and in reach of this network?"
    if isinstance(inner, OSError) and inner.strerror:
        return f"{host} port {port}: {inner.strerror}"
    return f"{type(error).__name__}: {inner}"
