"""Hours in which a camera is active, `"06:00-22:00"`, in the machine's time zone. A window may include midnight.

The zone is read each time, since it may be set after the agent has started.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from itertools import count

PATTERN = r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]|24(?=:00)):[0-5]\d$"
_DAY_MINUTES = 24 * 60


def is_active(windows: Sequence[str], unix_s: float) -> bool:
    """Whether the instant lies in a window. Without windows, every instant does."""
    time.tzset()
    return _covers_instant(windows, unix_s)


def next_start_s(windows: Sequence[str], unix_s: float) -> float:
    """The next instant in a window, after an instant outside all of them. Changes to summer time are included."""
    time.tzset()
    minute_s = unix_s // 60 * 60
    return next(at_s for step in count(1) if _covers_instant(windows, at_s := minute_s + step * 60))


def active_fraction(windows: Sequence[str]) -> float:
    """The fraction of a day that the windows cover."""
    minutes = (f"{minute // 60:02d}:{minute % 60:02d}" for minute in range(_DAY_MINUTES))
    return sum(_covers(windows, minute) for minute in minutes) / _DAY_MINUTES


def _covers_instant(windows: Sequence[str], unix_s: float) -> bool:
    return _covers(windows, f"{datetime.fromtimestamp(unix_s).astimezone():%H:%M}")


def _covers(windows: Sequence[str], at: str) -> bool:
    """Whether a time of day, `07:15`, lies in a window. Such times sort as text."""
    spans = (window.split("-") for window in windows)
    return not windows or any(begin <= at < end if begin < end else at >= begin or at < end for begin, end in spans)
