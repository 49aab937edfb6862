"""What a schedule sees: the formula against arithmetic, a simulation and the real gate."""

from __future__ import annotations

import math
import random

import pytest

from camera_agent.capture.motion_bursts import MotionBursts
from camera_agent.cli.coverage import bytes_per_day, chances, report
from camera_agent.config.settings import BurstSettings, CameraSettings, GateSettings
from tests.camera_agent.scenes import Yard


def camera(*, frames: int = 10, spacing_s: float = 1.0, every_s: float | None = None, gate: GateSettings | None = None):  # type: ignore[no-untyped-def]
    burst = BurstSettings(frames=frames, spacing_s=spacing_s, every_s=every_s)
    return CameraSettings(name="gate", device=0, burst=burst, gate=gate)


@pytest.mark.parametrize(("view_s", "in_one", "in_three"), [(2.0, 0.55, 0.35), (4.0, 0.75, 0.55), (8.5, 1.0, 1.0)])
def test_eight_frames_half_a_second_apart_every_ten_seconds(view_s: float, in_one: float, in_three: float) -> None:
    in_frames = chances(camera(frames=8, spacing_s=0.5, every_s=10.0), view_s)
    assert (in_frames[0], in_frames[2]) == (pytest.approx(in_one), pytest.approx(in_three))


def simulated(settings: CameraSettings, view_s: float, *, arrivals: int = 2000, seed: int = 1) -> list[float]:
    """The chances of 1, 2, 3 frames by random arrivals; the error of each is about `0.5 / sqrt(arrivals)`."""
    chance = random.Random(seed)
    period_s = settings.every_s if settings.gate is None else 1.0 / settings.gate.looks_per_s
    counts = [frames_in_view(settings, chance.uniform(0.0, period_s), view_s) for _ in range(arrivals)]
    return [sum(count >= least for count in counts) / arrivals for least in (1, 2, 3)]


def frames_in_view(settings: CameraSettings, arrives_s: float, view_s: float) -> int:
    if settings.gate is None:
        bursts = range(math.ceil(view_s / settings.every_s) + 2)
        frames = range(settings.burst.frames)
        taken_s = [number * settings.every_s + index * settings.spacing_s for number in bursts for index in frames]
        return sum(arrives_s <= at_s < arrives_s + view_s for at_s in taken_s)
    look_s = 1.0 / settings.gate.looks_per_s
    step_s = min(look_s, settings.spacing_s)
    at_s, last_s, count = math.ceil(arrives_s / look_s) * look_s, -math.inf, 0
    while at_s < arrives_s + view_s:
        if at_s - last_s >= settings.spacing_s - 0.25 * step_s:
            count, last_s = count + 1, at_s
        at_s += step_s
    return count


SCHEDULES = [
    camera(),
    camera(frames=8, spacing_s=0.5, every_s=10.0),
    camera(frames=3, spacing_s=0.7, every_s=4.0),
    camera(gate=GateSettings()),
    camera(spacing_s=0.2, gate=GateSettings(looks_per_s=1.0)),
    camera(spacing_s=0.7, gate=GateSettings()),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=range(len(SCHEDULES)))
@pytest.mark.parametrize("view_s", [0.3, 1.0, 2.0, 4.0, 8.0, 15.0])
def test_the_formula_agrees_with_the_simulation(schedule: CameraSettings, view_s: float) -> None:
    assert chances(schedule, view_s) == pytest.approx(simulated(schedule, view_s), abs=0.04)


def test_the_formula_agrees_with_the_gate_itself() -> None:
    """A person is in view for 1.2 s, at sixty instants; the frames of the real gate with the person are counted."""
    chance, view_s, counts = random.Random(3), 1.2, []
    yard = Yard(noise=1.0)
    motion = MotionBursts(camera(), GateSettings(after_s=2.0))
    at_s, arrival_s = 0.0, 20.0 + chance.random()
    frames: list[float] = []
    while len(counts) < 60:
        is_there = arrival_s <= at_s < arrival_s + view_s
        frames += [
            frame.at_s
            for group in motion.add(yard.look(at_s, walker=(50, 40) if is_there else None))
            for frame in group.frames
        ]
        at_s += motion.step_s
        if at_s > arrival_s + 6.0:
            counts.append(sum(arrival_s <= frame_s < arrival_s + view_s for frame_s in frames))
            frames, arrival_s = [], at_s + 2.0 + chance.random()
    exact = chances(camera(gate=GateSettings()), view_s)
    assert [sum(count >= least for count in counts) / 60 for least in (1, 2, 3)] == pytest.approx(exact, abs=0.12)


def test_a_gate_at_five_per_cent_activity_costs_less_than_a_fifth() -> None:
    even = bytes_per_day(camera(), 60_000.0, active=0.05, heartbeat_s=60.0)
    gated = bytes_per_day(camera(gate=GateSettings()), 60_000.0, active=0.05, heartbeat_s=60.0)
    assert even == pytest.approx(86_400 * 63_500, rel=0.02)
    assert gated < even / 5


def test_hours_outside_the_windows_cost_no_bytes() -> None:
    def camera_of(*hours: str) -> CameraSettings:
        return CameraSettings(name="gate", device=0, hours=hours)

    all_day = bytes_per_day(camera_of(), 60_000.0, active=0.05, heartbeat_s=0.0)
    two_thirds = camera_of("06:00-20:00", "18:00-22:00")
    assert bytes_per_day(two_thirds, 60_000.0, active=0.05, heartbeat_s=0.0) == pytest.approx(all_day * 16 / 24)
    first, *_ = report(two_thirds, frame_bytes=60_000.0, active=0.05, heartbeat_s=60.0)
    assert first.endswith("; off outside 06:00-20:00, 18:00-22:00")


def test_the_report_names_what_a_budget_allows_and_the_chances_it_costs() -> None:
    def budget_lines(mb_per_day: float) -> list[str]:
        settings = CameraSettings(name="gate", device=0, mb_per_day=mb_per_day)
        lines = list(report(settings, frame_bytes=60_000.0, active=0.05, heartbeat_s=60.0))
        return lines[next(index for index, line in enumerate(lines) if "budget" in line) :]

    assert budget_lines(6000.0) == ["  budget 6000 MB a day: enough"]
    assert budget_lines(3000.0)[0] == "  budget 3000 MB a day: 54% of that, so frames 2 times as far apart"
    assert budget_lines(3000.0)[1] == "         1 s in 1 frame: 50% instead of 100%"
    assert budget_lines(100.0)[0] == (
        "  budget 100 MB a day: 2% of that, so frames 4 times as far apart, and a pause for 93% of the day"
    )
    assert budget_lines(100.0)[2] == "         2 s in 1 frame: 4% instead of 100%"
    assert budget_lines(100.0)[-1] == "        15 s in 1 frame: 7% instead of 100%"
