"""Delays that grow with each failure, up to a bound, with jitter."""

from __future__ import annotations

import random
from collections.abc import Callable

_MAX_DOUBLINGS = 32


class Backoff:
    """`first_s`, doubled per failure up to `max_s`. Each delay is shortened by up to half, so that many agents do not
    retry at the same time.
    """

    def __init__(
        self, *, first_s: float, max_s: float, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._uniform = uniform
        self.failures = 0

    def next_s(self, *, at_least_s: float = 0.0) -> float:
        """Count a failure and return how long to wait; never less than `at_least_s` (a server's `Retry-After`)."""
        delay_s = min(self._max_s, self._first_s * 2.0 ** min(self.failures, _MAX_DOUBLINGS))
        self.failures += 1
        if at_least_s > 0:
            return at_least_s + self._uniform(0.0, min(1.0, at_least_s / 10))
        return self._uniform(delay_s / 2, delay_s)

    def reset(self) -> None:
        self.failures = 0
