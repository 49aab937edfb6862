"""Windows by time of day, `"06:00-22:00"`, by the machine's own time zone. One may reach over midnight.

The zone is that of the moment: it may be set after the agent began.
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


def is_within(windows: Sequence[str], unix_s: float) -> bool:
    """Whether the instant lies in one of them; no window at all is all day."""
    time.tzset()
    return _is_within(windows, unix_s)


def begin_after_s(windows: Sequence[str], unix_s: float) -> float:
    """The next instant that lies in one of them, of an instant that lies in none; a change of the clocks counts."""
    time.tzset()
    minute_s = unix_s // 60 * 60
    return next(at_s for step in count(1) if _is_within(windows, at_s := minute_s + step * 60))


def part_of_day(windows: Sequence[str]) -> float:
    """How much of a day they hold together."""
    return sum(_are_holding(windows, minute) for minute in range(_DAY_MINUTES)) / _DAY_MINUTES


def _is_within(windows: Sequence[str], unix_s: float) -> bool:
    at = datetime.fromtimestamp(unix_s).astimezone()
    return _are_holding(windows, at.hour * 60 + at.minute)


def _are_holding(windows: Sequence[str], minute: int) -> bool:
    return not windows or any(_holds(window, minute) for window in windows)


def _holds(window: str, minute: int) -> bool:
    found = _WINDOW.fullmatch(window)
    if found is None:
        raise ValueError(f"{window!r} is not of the form 06:00-22:00")
    begin_hour, begin_minute, end_hour, end_minute = (int(part) for part in found.groups())
    begin, end = begin_hour * 60 + begin_minute, end_hour * 60 + end_minute
    return begin <= minute < end if begin < end else minute >= begin or minute < end
