"""Which addresses a webhook may reach: public ones, unless its owner allows others."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

_NOT_PUBLIC = [ipaddress.ip_network(each) for each in ("192.0.0.0/24", "168.63.129.16/32", "fec0::/10")]
"""What `is_global` lets through, in some versions of Python: addresses for protocols (a cloud's metadata among them),
the host of a machine at Azure, and the local networks of early IPv6.
"""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class NotPublic(Exception):
    """A name leads to addresses that may not be reached."""


class Address(NamedTuple):
    """A family of sockets, and what `socket.connect` takes."""

    family: int
    place: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]

    @property
    def text(self) -> str:
        return str(self.place[0])


def addresses_of(host: str, port: int, *, allow_private: bool, numeric: bool = False) -> list[Address]:
    """The addresses of a host that may be reached, each once. `numeric`: without asking a name server.

    Raises NotPublic where none is left, and OSError where the host has none.
    """
    flags = socket.AI_NUMERICHOST if numeric else 0
    found = [
        Address(family, place)
        for family, _, _, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    ]
    found = list(dict.fromkeys(found))
    reachable = [each for each in found if allow_private or is_public(each.text)]
    if not reachable:
        what = host if host == found[0].text else f"{host} has the address {found[0].text}, which"
        raise NotPublic(f"{what} is not public: a webhook goes there with `allow_private = true` only")
    return reachable


def fault_of_host(host: str, port: int, *, allow_private: bool) -> str | None:
    """Why a host that is written as an address may not be reached; None: it may, or it is a name."""
    with suppress(OSError, UnicodeError):
        try:
            addresses_of(host, port, allow_private=allow_private, numeric=True)
        except NotPublic as error:
            return str(error)
    return None


def is_public(address: str) -> bool:
    """Whether an address, in any of its written forms that `getaddrinfo` gives, is one of the public internet."""
    ip = ipaddress.ip_address(address)
    return all(
        each.is_global and not (each.is_multicast or each.is_reserved or any(each in net for net in _NOT_PUBLIC))
        for each in _all(ip)
    )


def _all(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Sequence[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The address, or the IPv4 addresses that it stands for where a translator or a tunnel leads to them."""
    if isinstance(ip, ipaddress.IPv4Address):
        return [ip]
    if ip.ipv4_mapped is not None:
        return [ip.ipv4_mapped]
    if ip in _NAT64:
        return [ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)]
    if ip.sixtofour is not None:
        return [ip, ip.sixtofour]
    return [ip, *(ip.teredo or ())]
