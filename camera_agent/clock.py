"""Time as the agent needs it: order and spacing from the monotonic clock, the wall clock once per burst.

Whether the wall clock may be believed is asked of the kernel (`adjtimex(2)`: every NTP client on Linux keeps
`STA_UNSYNC` there) and of systemd-timesyncd's flag file. Where neither can be read the answer is no: a clock
whose quality is unknown is not called synchronised.
"""

from __future__ import annotations

import ctypes
import email.utils
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIMESYNC_FLAG = Path("/run/systemd/timesync/synchronized")
_STA_UNSYNC = 0x40
_TIME_ERROR = 5
_LEAST_BOUND_S = 0.001
_TIMESYNC_BOUND_S = 5.0


class Clock(Protocol):
    """What the agent asks of time; tests drive one by hand."""

    def monotonic_s(self) -> float: ...

    def unix_s(self) -> float: ...

    def wait_until(self, monotonic_s: float, stop: threading.Event) -> bool:
        """Wait for that instant of the monotonic clock; false, at once, when `stop` is set."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def unix_s(self) -> float:
        return time.time()

    def wait_until(self, monotonic_s: float, stop: threading.Event) -> bool:
        return not stop.wait(max(0.0, monotonic_s - time.monotonic()))


def iso_ms(unix_ms: int) -> str:
    """The wire's form of an instant: UTC, milliseconds, `Z`."""
    at = datetime.fromtimestamp(unix_ms // 1000, tz=UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{unix_ms % 1000:03d}Z"


def unix_s_of(http_date: str | None) -> float | None:
    """Unix time of an instant as HTTP writes it (RFC 9110, section 5.6.7), None for what is none. It is UTC, also where
    somebody left that out.
    """
    try:
        at = email.utils.parsedate_to_datetime(http_date or "")
    except ValueError:
        return None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def boot_id() -> str:
    """The kernel's name for this boot; monotonic instants compare only within one."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return _PROCESS_ID


def synchronised_within_s() -> float | None:
    """The bound of the wall clock's error, where something keeps it right; None where nothing is known to.

    The kernel's `maxerror` grows by 500 ppm between an NTP client's corrections.
    """
    bound_s = _kernel_bound_s()
    if bound_s is None and _TIMESYNC_FLAG.exists():
        return _TIMESYNC_BOUND_S
    return bound_s


_PROCESS_ID = str(uuid.uuid4())  # without /proc a boot cannot be told from another: let each process be its own


class _Timex(ctypes.Structure):
    """The head of `struct timex`; the rest is room for the kernel to write in."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def _kernel_bound_s() -> float | None:
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    if adjtimex is None:
        return None
    asked = _Timex()  # modes 0: read only, which needs no privilege
    state = adjtimex(ctypes.byref(asked))
    if not 0 <= state < _TIME_ERROR or asked.status & _STA_UNSYNC:
        return None
    return max(_LEAST_BOUND_S, float(asked.maxerror) / 1e6)
