"""Which looks of a camera with a gate become bursts."""

from __future__ import annotations

from itertools import pairwise

import pytest

from camera_agent.capture.motion_bursts import FrameGroup, MotionBursts
from camera_agent.config.settings import BurstSettings, CameraSettings, GateSettings
from tests.camera_agent.scenes import Yard

LOOKS_PER_S = 2.0


def camera(frames: int, spacing_s: float) -> CameraSettings:
    return CameraSettings(name="gate", device=0, burst=BurstSettings(frames=frames, spacing_s=spacing_s))


def groups_of(
    walking: tuple[float, float], *, until_s: float = 120.0, spacing_s: float = 1.0, frames: int = 10, **gate: float
) -> list[FrameGroup]:
    """The bursts of looks from 0 on, with a walker from `walking[0]` to `walking[1]`, and the unfinished burst at the
    end.
    """
    yard = Yard()
    settings = GateSettings(**{"quiet_every_s": 30.0, **gate})  # type: ignore[arg-type]
    motion = MotionBursts(camera(frames, spacing_s), settings)
    groups: list[FrameGroup] = []
    at_s = 0.0
    while at_s < until_s:
        is_there = walking[0] <= at_s < walking[1]
        place = (int(at_s * 6) % 120, 40) if is_there else None
        groups += motion.add(yard.look(at_s, walker=place))
        at_s += motion.step_s
    return groups + motion.close()


def instants(groups: list[FrameGroup], reason: str) -> list[float]:
    return [look.at_s for group in groups if group.reason == reason for look in group.frames]


def test_a_quiet_camera_sends_one_frame_at_once_and_then_one_every_half_minute() -> None:
    groups = groups_of((0.0, 0.0))
    assert instants(groups, "heartbeat") == [0.0, 30.0, 60.0, 90.0]
    assert not instants(groups, "gate")


def test_a_burst_begins_before_its_trigger_and_ends_after_the_last_motion() -> None:
    frames = instants(groups_of((40.0, 52.0)), "gate")
    assert 37.5 <= frames[0] <= 38.5
    assert 53.0 <= frames[-1] <= 56.0


def test_frames_of_the_gate_are_evenly_spaced_across_bursts() -> None:
    groups = groups_of((40.0, 80.0))
    frames = instants(groups, "gate")
    assert all(later - earlier == pytest.approx(1.0, abs=0.51) for earlier, later in pairwise(frames))
    sizes = [len(group.frames) for group in groups if group.reason == "gate"]
    assert set(sizes[:-1]) == {10}
    assert len(sizes) >= 4


def test_a_dense_burst_takes_a_look_for_each_of_its_frames() -> None:
    frames = instants(groups_of((40.0, 50.0), spacing_s=0.2), "gate")
    while_open = [at_s for at_s in frames if at_s >= 40.5]
    assert all(later - earlier == pytest.approx(0.2) for earlier, later in pairwise(while_open))


def test_no_frame_is_sent_twice_and_all_are_in_order() -> None:
    sent = [look.at_s for group in groups_of((29.0, 31.0), until_s=200.0) for look in group.frames]
    assert sent == sorted(set(sent))


def test_the_next_heartbeat_is_counted_from_the_last_frame_of_the_burst() -> None:
    groups = groups_of((40.0, 50.0), until_s=100.0)
    last_s = instants(groups, "gate")[-1]
    assert instants(groups, "heartbeat")[-1] == pytest.approx(last_s + 30.0, abs=0.5)


def test_a_burst_never_exceeds_its_frames_even_with_a_long_before_s() -> None:
    groups = groups_of((40.0, 43.0), until_s=50.0, before_s=30.0, looks_per_s=10.0, spacing_s=0.1, frames=8)
    assert max(len(group.frames) for group in groups) <= 9


def test_looks_from_before_a_long_pause_are_not_part_of_a_later_burst() -> None:
    yard, motion = Yard(), MotionBursts(camera(10, 1.0), GateSettings())
    for step in range(40):
        motion.add(yard.look(step / LOOKS_PER_S))
    motion.close()
    night_s = 8 * 3600.0
    [[reason, looks]] = motion.add(yard.look(night_s, walker=(40, 40))) + motion.close()
    assert (reason, [look.at_s for look in looks]) == ("gate", [night_s])
