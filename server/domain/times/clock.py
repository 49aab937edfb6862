"""The server's clock, as a value that can be replaced in tests."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Gives the present instant as microseconds of Unix time."""

SECOND_US = 1_000_000


def now_us() -> int:
    """The machine's own clock."""
    return time.time_ns() // 1000
