"""Notifications to systemd (`sd_notify(3)`, `sd_watchdog_enabled(3)`)."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(**state: str | int) -> bool:
    """Send `READY=1` and the like as `notify(ready=1)`. Returns whether it was sent."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    message = "\n".join(f"{key.upper()}={value}" for key, value in state.items())
    name = "\0" + address[1:] if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(message.encode(), name)
        return True
    return False


def watchdog_every_s() -> float | None:
    """How often to send `WATCHDOG=1`: at half of systemd's limit; None without a watchdog."""
    if (os.environ.get("WATCHDOG_PID") or str(os.getpid())) != str(os.getpid()):
        return None
    limit_us = os.environ.get("WATCHDOG_USEC", "")
    return int(limit_us) / 2e6 if limit_us.isdigit() and int(limit_us) > 0 else None
