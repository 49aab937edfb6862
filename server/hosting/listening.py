"""Listening sockets."""

from __future__ import annotations

import socket

from server.domain.errors import ConfigurationError

BACKLOG = 128


def listener(host: str, port: int, setting: str) -> socket.socket:
    """A socket that listens there; port 0: any free port. Raises ConfigurationError that names the `setting`."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host} port {port} (`{setting}`): {error.strerror}; "
            "stop the other server, or choose another port"
        ) from None
