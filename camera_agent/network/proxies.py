"""Which proxy of the environment is used for an address: none for the own network."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, select_proxy

from camera_agent.network.addresses import shown

_OWN_DOMAINS = (".local", ".localhost", ".lan", ".internal", ".home.arpa")


class OwnNetworkAdapter(HTTPAdapter):
    """Sends each request, also a redirected one, directly or through the proxy that `proxy_for` names."""

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        proxy = proxy_for(request.url or "")
        options["proxies"] = {} if proxy is None else {urlsplit(request.url or "").scheme: proxy}
        return super().send(request, *args, **options)


def proxy_for(url: str) -> str | None:
    """The proxy for this address (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, less NO_PROXY); None for a direct connection."""
    host = urlsplit(url).hostname or ""
    if is_own_network(host) or "*" in re.split(r"[,\s]+", _no_proxy()):
        return None
    return select_proxy(url, get_environ_proxies(url))


def is_own_network(host: str) -> bool:
    """Whether the host is a private, loopback or link-local address, a `.local` name or the like, or one word."""
    host = host.lower().rstrip(".").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(_OWN_DOMAINS)
    address = getattr(address, "ipv4_mapped", None) or address
    return not address.is_global and not address.is_multicast


def through_proxy(url: str) -> str:
    """For error messages: the proxy on the way to this address, without its password; empty where there is none."""
    proxy = proxy_for(url)
    if proxy is None:
        return ""
    name = proxy if "://" in proxy else f"http://{proxy}"
    return f" (through the proxy {shown(name)} of the environment; NO_PROXY={urlsplit(url).hostname} goes around it)"


def exempt_from_proxies(host: str) -> None:
    """Have FFmpeg connect directly to a host of the own network, and honour `NO_PROXY` in capitals.

    FFmpeg takes `http_proxy` and `no_proxy` from the environment of this process when it opens an address.
    """
    excepted = [entry for entry in re.split(r"[,\s]+", _no_proxy()) if entry]
    if is_own_network(host) and host not in excepted:
        excepted.append(host)
    if excepted:
        os.environ["no_proxy"] = ",".join(excepted)


def _no_proxy() -> str:
    return os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
