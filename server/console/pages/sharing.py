"""Live parts of open pages, each built once for all who ask for the same within a moment."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from server.domain.errors import RetryLater
from server.domain.times.clock import SECOND_US, Clock

YOUNG_US = 2 * SECOND_US
"""A part is given to those who ask within so long of the begin of its building."""

MOST_KEPT = 32
"""Parts that are remembered: some 20 kB each for a day of ten cameras."""

WAIT_S = 15.0
"""An open page gives up after as long."""


@dataclass(frozen=True, slots=True)
class _Made:
    """A part. `begun_us` is when its building began, `newest` the number of the newest news at that time."""

    content: bytes
    begun_us: int
    newest: int

    def suits(self, asked_us: int, heard: int) -> bool:
        return self.newest >= heard and asked_us - self.begun_us < YOUNG_US


@dataclass(slots=True)
class _Place:
    """What was made last for a key. Whoever builds for it holds the lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    made: _Made | None = None


class LiveParts:
    """The parts that were built last. Safe to use from several threads.

    `newest` gives the number of the newest news: whatever is built afterwards shows it. That number is asked for, and
    not taken from the page: a page of some sites names the number of its newest event, and a correction of an older
    event may have a later one.
    """

    def __init__(self, clock: Clock, newest: Callable[[], int], wait_s: float = WAIT_S) -> None:
        self._clock = clock
        self._newest = newest
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self._places: OrderedDict[Hashable, _Place] = OrderedDict()

    def of(self, key: Hashable, heard: int, build: Callable[[], bytes]) -> bytes:
        """The part for a key: one whose building began less than 2 s before now, or else what `build` gives.

        It shows all news up to the number `heard`. One thread at a time builds for a key, and others wait for it. What
        `build` raises concerns its caller alone. Raises RetryLater after having waited for others for `wait_s`.
        """
        place = self._place(key)
        before = place.made
        asked_us = self._clock()
        # One that began later than now was made before the clock was set back.
        if before is not None and before.begun_us <= asked_us and before.suits(asked_us, heard):
            return before.content
        with _held(place.lock, self._wait_s):
            made = place.made
            if made is None or made is before or not made.suits(asked_us, heard):
                begun_us, newest = self._clock(), self._newest()
                made = place.made = _Made(build(), begun_us, newest)
            return made.content

    def forget(self) -> None:
        """Something was changed: what is asked for from now on is built anew, also where its building goes on now."""
        with self._lock:
            self._places = OrderedDict()

    def _place(self, key: Hashable) -> _Place:
        with self._lock:
            place = self._places.setdefault(key, _Place())
            self._places.move_to_end(key)
            while len(self._places) > MOST_KEPT:
                self._places.popitem(last=False)
        return place


@contextmanager
def _held(lock: threading.Lock, wait_s: float) -> Iterator[None]:
    if not lock.acquire(timeout=wait_s):
        raise RetryLater("others wait for this page too, and it is not built yet")
    try:
        yield
    finally:
        lock.release()
