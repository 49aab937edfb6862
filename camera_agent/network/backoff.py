"""Waiting longer after each failure, a little differently each time, up to a bound."""

from __future__ import annotations

import random
from collections.abc import Callable

_MOST_DOUBLINGS = 32


class Backoff:
    """`first_s`, doubled per failure up to `most_s`, each shortened by up to half so that many agents do not
    come at once.
    """

    def __init__(
        self, *, first_s: float, most_s: float, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._uniform = uniform
        self.failures = 0

    def next_s(self, *, at_least_s: float = 0.0) -> float:
        """Count a failure and say how long to wait; never less than `at_least_s` (a server's `Retry-After`)."""
        whole_s = min(self._most_s, self._first_s * 2.0 ** min(self.failures, _MOST_DOUBLINGS))
        self.failures += 1
        if at_least_s > 0:
            return at_least_s + self._uniform(0.0, min(1.0, at_least_s / 10))
        return self._uniform(whole_s / 2, whole_s)

    def reset(self) -> None:
        self.failures = 0
