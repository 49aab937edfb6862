"""When bursts begin: slots at fixed distances on the monotonic clock, run by APScheduler.

APScheduler compares wall clocks, which fails on a machine without a battery-backed clock: its interval trigger counts
every missed run after a step from 1970 (agronholm/apscheduler#35), and after a step backwards it waits for the old time
to come again. So the trigger here computes the time to the next slot from the monotonic clock and adds it to the
present wall clock; when the wall clock is stepped, `follow_steps` reschedules every job. A run that starts early waits
for its slot (`capture.live`). A run that finds its predecessor busy is skipped: the predecessor goes on with the slot
that has begun.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from camera_agent.clock import Clock

_EARLY_S = 0.05
_STEP_S = 0.5


class Slots(NamedTuple):
    """Slot k begins at `origin_s + k * every_s` of the monotonic clock, however late an earlier run is."""

    origin_s: float
    every_s: float

    def begin_s(self, slot: int) -> float:
        return self.origin_s + slot * self.every_s

    def at(self, monotonic_s: float) -> int:
        """The slot that has begun, or begins within 50 ms: a timer may wake a little early."""
        return math.floor((monotonic_s + _EARLY_S - self.origin_s) / self.every_s)


class EverySlot(BaseTrigger):  # type: ignore[misc]
    """Fires at the beginning of each slot. It has no state, so it gives the right answer at any wall-clock time."""

    def __init__(self, slots: Slots, clock: Clock) -> None:
        self._slots = slots
        self._clock = clock

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """The beginning of the next slot; at first, that of the first slot."""
        monotonic_s = self._clock.monotonic_s()
        slot = max(0, self._slots.at(monotonic_s) + (previous_fire_time is not None))
        return now + timedelta(seconds=max(0.0, self._slots.begin_s(slot) - monotonic_s))


class Schedule:
    """Runs each camera's job at its slots, each camera on one thread."""

    def __init__(self, clock: Clock, *, cameras: int) -> None:
        self._clock = clock
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(max_workers=cameras)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone=UTC,
        )
        self._wall_ahead_s = clock.unix_s() - clock.monotonic_s()

    def add(self, name: str, slots: Slots, run: Callable[[], None]) -> None:
        self._scheduler.add_job(run, EverySlot(slots, self._clock), name=name)

    def start(self) -> None:
        self._scheduler.start()

    def follow_steps(self) -> float:
        """Reschedule every job if the wall clock was stepped. Returns the step in seconds (0: none).

        Call it about once a second.
        """
        wall_ahead_s = self._clock.unix_s() - self._clock.monotonic_s()
        step_s = wall_ahead_s - self._wall_ahead_s
        self._wall_ahead_s = wall_ahead_s  # this also absorbs the slow drift of a clock that is being slewed
        if abs(step_s) < _STEP_S:
            return 0.0
        for job in self._scheduler.get_jobs():
            job.reschedule(job.trigger)
        return step_s

    def stop(self) -> None:
        """Start no further run; do not wait for those under way."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
