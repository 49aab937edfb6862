"""The machine's clocks, the instants of the wire, and whether the wall clock is synchronised.

Synchronisation is read from the kernel (`adjtimex(2)`: NTP clients on Linux clear `STA_UNSYNC`) and from
systemd-timesyncd's flag file. Where neither can be read, the clock counts as not synchronised.
"""

from __future__ import annotations

import ctypes
import email.utils
import struct
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIMESYNC_FLAG = Path("/run/systemd/timesync/synchronized")
_STA_UNSYNC = 0x40
_TIME_ERROR = 5
_LEAST_BOUND_S = 0.001
_TIMESYNC_BOUND_S = 5.0


class Clock:
    """The machine's two clocks and a way to wait."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def unix_s(self) -> float:
        return time.time()

    def wait_until(self, monotonic_s: float, stop: threading.Event) -> bool:
        """Wait until that monotonic instant. Returns false, at once, when `stop` is set."""
        return not stop.wait(max(0.0, monotonic_s - time.monotonic()))


def iso_ms(unix_ms: int) -> str:
    """An instant as the wire has it: `2026-11-22T07:00:00.123Z`."""
    at = datetime.fromtimestamp(unix_ms // 1000, tz=UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{unix_ms % 1000:03d}Z"


def unix_s_of(http_date: str | None) -> float | None:
    """Unix time of an HTTP date (RFC 9110, section 5.6.7); None for an invalid one. A date without a zone is UTC."""
    try:
        at = email.utils.parsedate_to_datetime(http_date or "")
    except ValueError:
        return None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def boot_id() -> str:
    """The kernel's id of this boot. Monotonic instants compare only within one boot."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return _PROCESS_ID


def synchronised_within_s() -> float | None:
    """The bound of the wall clock's error in seconds; None when the clock is not synchronised.

    The kernel's `maxerror` grows by 500 ppm between an NTP client's corrections.
    """
    bound_s = _kernel_bound_s()
    return _TIMESYNC_BOUND_S if bound_s is None and _TIMESYNC_FLAG.exists() else bound_s


_PROCESS_ID = str(uuid.uuid4())  # without /proc, each process counts as a boot of its own


def _kernel_bound_s() -> float | None:
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    if adjtimex is None:
        return None
    timex = ctypes.create_string_buffer(512)  # `struct timex` with room to spare; modes 0 reads only
    state = adjtimex(timex)
    _, _, _, bound_us, _, status = struct.unpack_from(
        "Illlli", timex
    )  # modes, offset, freq, maxerror, esterror, status
    is_synchronised = 0 <= state < _TIME_ERROR and not status & _STA_UNSYNC
    return max(_LEAST_BOUND_S, bound_us / 1e6) if is_synchronised else None
