"""Hours in which a camera is active, `"06:00-22:00"`, in the machine's time zone. A window may include midnight.

The zone is read each time, since it may be set after the agent has started.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import datetime
from itertools import count

_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]|24(?=:00)):([0-5]\d)")
PATTERN = f"^{_WINDOW.pattern}$"
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
    return sum(_covers(windows, minute) for minute in range(_DAY_MINUTES)) / _DAY_MINUTES


def _covers_instant(windows: Sequence[str], unix_s: float) -> bool:
    at = datetime.fromtimestamp(unix_s).astimezone()
    return _covers(windows, at.hour * 60 + at.minute)


def _covers(windows: Sequence[str], minute: int) -> bool:
    return not windows or any(_window_covers(window, minute) for window in windows)


def _window_covers(window: str, minute: int) -> bool:
    match = _WINDOW.fullmatch(window)
    if match is None:
        raise ValueError(f"{window!r} is not of the form 06:00-22:00")
    begin_hour, begin_minute, end_hour, end_minute = (int(part) for part in match.groups())
    begin, end = begin_hour * 60 + begin_minute, end_hour * 60 + end_minute
    return begin <= minute < end if begin < end else minute >= begin or minute < end
