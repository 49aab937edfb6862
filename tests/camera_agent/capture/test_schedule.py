"""The schedule, on a manual clock and on the machine's clock."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from camera_agent.capture.schedule import EverySlot, Schedule, Slots
from camera_agent.clock import Clock
from tests.camera_agent.conftest import HandClock


def wall(clock: HandClock) -> datetime:
    return datetime.fromtimestamp(clock.unix_s(), tz=UTC)


def test_the_duration_of_a_run_does_not_move_the_schedule(clock: HandClock) -> None:
    slots = Slots(clock.monotonic_s(), 10.0)
    trigger = EverySlot(slots, clock)
    fired_s: list[float] = []
    previous: datetime | None = None
    for run_s in [9.2, 9.7, 0.1, 3.0, 9.9] * 200:
        due = trigger.get_next_fire_time(previous, wall(clock))
        clock.now_s += (due - wall(clock)).total_seconds()
        fired_s.append(clock.now_s)
        previous = due
        clock.now_s += run_s
    drift_s = [at_s - (1000.0 + 10.0 * slot) for slot, at_s in enumerate(fired_s)]
    assert max(map(abs, drift_s)) < 0.001


def test_late_runs_do_not_pile_up(clock: HandClock) -> None:
    trigger = EverySlot(Slots(clock.monotonic_s(), 10.0), clock)
    first = trigger.get_next_fire_time(None, wall(clock))
    clock.now_s += 47.0
    assert trigger.get_next_fire_time(first, wall(clock)) - wall(clock) == timedelta(seconds=3)


def test_a_timer_that_wakes_a_little_early_does_not_fire_twice(clock: HandClock) -> None:
    slots = Slots(clock.monotonic_s(), 10.0)
    trigger = EverySlot(slots, clock)
    clock.now_s += 9.999
    assert slots.at(clock.now_s) == 1
    wait_s = (trigger.get_next_fire_time(wall(clock), wall(clock)) - wall(clock)).total_seconds()
    assert wait_s == pytest.approx(10.001)


@pytest.mark.parametrize("step_s", [-86400.0 * 365, 3600.0, 86400.0 * 365 * 56])
def test_a_step_of_the_wall_clock_moves_no_slot(clock: HandClock, step_s: float) -> None:
    trigger = EverySlot(Slots(clock.monotonic_s(), 10.0), clock)
    previous = trigger.get_next_fire_time(None, wall(clock))
    clock.now_s += 4.0
    clock.ahead_s += step_s
    assert trigger.get_next_fire_time(previous, wall(clock)) - wall(clock) == timedelta(seconds=6)


def test_the_schedule_reports_a_step_of_the_wall_clock(clock: HandClock) -> None:
    schedule = Schedule(clock, cameras=1)
    clock.now_s += 1.0
    assert schedule.follow_steps() == 0.0
    clock.ahead_s -= 500.0
    assert schedule.follow_steps() == pytest.approx(-500.0)
    assert schedule.follow_steps() == 0.0


class SteppedClock(Clock):
    """The machine's clocks, with a wall clock that can be set."""

    ahead_s = 0.0

    def unix_s(self) -> float:
        return super().unix_s() + self.ahead_s


def test_apscheduler_runs_the_job_at_every_slot_and_never_twice_at_once() -> None:
    clock = SteppedClock()
    slots = Slots(clock.monotonic_s(), 0.1)
    ran: list[float] = []
    at_once = threading.Semaphore(1)
    enough = threading.Event()

    def job() -> None:
        assert at_once.acquire(blocking=False)
        ran.append(clock.monotonic_s())
        if len(ran) >= 10:
            enough.set()
        at_once.release()

    schedule = Schedule(clock, cameras=1)
    schedule.add("gate", slots, job)
    schedule.start()
    assert enough.wait(30.0)
    schedule.stop()
    taken = [slots.at(at_s) for at_s in ran]
    assert taken == sorted(set(taken))
