"""Listening sockets."""

from __future__ import annotations

import errno
import os
import socket

from server.domain.errors import ConfigurationError, RetryLater

BACKLOG = 128

_NO_ADDRESS = "set {host_setting} to an address of this machine, or to 0.0.0.0 for all of them"
_ADVICE = {
    errno.EADDRINUSE: "stop the other server (`ss -ltnp` names it), or choose another {setting}",
    errno.EACCES: "ports below 1024 are root's: choose another {setting}, for example 8765, or put a proxy in front",
    errno.EADDRNOTAVAIL: _NO_ADDRESS,
}
_PASSING = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL})
"""A server that is still stopping, or a network that is not up yet: another start may help."""


def listener(host: str, port: int, setting: str) -> socket.socket:
    """A socket that listens there; port 0: any free port.

    Raises RetryLater for a port in use or an address that is not there, else ConfigurationError. Both name the
    `setting` of the port, and what to change.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        code = error.errno or 0
        known = code > 0 and not isinstance(error, socket.gaierror)
        why = os.strerror(code) if known else error.strerror or str(error)
        advice = _ADVICE.get(code, _NO_ADDRESS) if known else _NO_ADDRESS
        host_setting = "`host`" if setting == "port" else "`admin_host`"
        todo = advice.format(setting=f"`{setting}`", host_setting=host_setting)
        kind = RetryLater if known and code in _PASSING else ConfigurationError
        raise kind(f"cannot listen on {host} port {port} (`{setting}`): {why}; {todo}") from None
