"""Why a connection failed, in a sentence that says what to check."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import requests

from camera_agent.network.addresses import without_secrets
from camera_agent.network.certificates import Peer, Trust, explain_refusal
from camera_agent.network.proxies import proxy_for, through_proxy

_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322}


def host_and_port(url: str) -> tuple[str, int]:
    """The host and port of a URL. Raises `ValueError` for an invalid port."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


def explain_connection_error(error: Exception, url: str) -> str:
    """The innermost reason of a failed connection to `url`, without passwords; with the proxy where one was used."""
    proxy = proxy_for(url)
    nearest = url if proxy is None else proxy if "://" in proxy else f"http://{proxy}"
    return without_secrets(_reason(error, *host_and_port(nearest))) + through_proxy(url)


def explain_https_error(error: Exception, url: str, trust: Trust, peer: Peer, timeout_s: float) -> str:
    """As `explain_connection_error`. For a certificate that `trust` refuses, it names the setting that mends it."""
    if isinstance(error, requests.exceptions.SSLError):
        return explain_refusal(error, *host_and_port(url), trust, peer, timeout_s) + through_proxy(url)
    return explain_connection_error(error, url)


def _reason(error: Exception, host: str, port: int) -> str:
    if isinstance(error, requests.exceptions.ReadTimeout):
        return "no answer in time"
    inner: BaseException = error
    if isinstance(error, requests.RequestException):  # a socket's own error may come while another one is handled
        while (cause := inner.__cause__ or inner.__context__) is not None:
            inner = cause
    if isinstance(inner, socket.gaierror):
        return f"no host is known as {host}: check its spelling, and this machine's network"
    if isinstance(inner, ConnectionRefusedError):
        return f"connection refused: {host} is there, but nothing listens on port {port}"
    if isinstance(inner, TimeoutError):
        return f"no connection in time: is {host} switched on, and reachable from this network?"
    if isinstance(inner, OSError) and inner.strerror:
        return f"{host} port {port}: {inner.strerror}"
    return f"{type(error).__name__}: {inner}"
