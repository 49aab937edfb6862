"""The ensemble on a Ray cluster. Only this package imports ray. Begin with README.md, then `cluster` and `replica`."""

from __future__ import annotations

import socket
from importlib.util import find_spec

from server.domain.errors import ConfigurationError, RetryLater

_REACHED_S = 5.0


def require_ray() -> None:
    """Raises ConfigurationError where Ray is not installed. It imports nothing of it."""
    if find_spec("ray") is None:
        raise ConfigurationError('ensemble = "ray" needs Ray, which is not here: pip install "sectorwatch[ray]"')


def reach(address: str) -> None:
    """Raises RetryLater where nothing answers at the head `address`: Ray itself tries for minutes and says little.

    `auto` is a cluster of this machine, which Ray finds at once, or not.
    """
    host, _, port = address.rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACHED_S).close()
    except OSError as error:
        raise RetryLater(
            f"no Ray cluster answers at {address} (`ray_address`): {error.strerror or error}; start it, or name another"
        ) from error
