"""Telling systemd how it goes (`sd_notify(3)`, `sd_watchdog_enabled(3)`): a datagram or two, no library needed."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(**state: str | int) -> bool:
    """Send `READY=1` and the like as `notify(ready=1)`; false where nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    message = "\n".join(f"{key.upper()}={value}" for key, value in state.items())
    name = "\0" + address[1:] if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door:
        door.sendto(message.encode(), name)
        return True
    return False


def watchdog_every_s() -> float | None:
    """How often systemd wants to hear `WATCHDOG=1`, half of what it allows; None when it does not."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    allowed_us = os.environ.get("WATCHDOG_USEC", "")
    return int(allowed_us) / 2e6 if allowed_us.isdigit() and int(allowed_us) > 0 else None
