"""The motion gate opens for everything that moves, and for nothing else."""

from __future__ import annotations

import math

import cv2
import pytest

from camera_agent.capture.motion_gate import MotionGate
from camera_agent.config.settings import GateSettings
from camera_agent.imaging.frame import FrameFormat
from camera_agent.imaging.opencv import encode_picture
from tests.camera_agent.scenes import Yard

LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))


def gate_that_knows(yard: Yard, settings: GateSettings | None = None, **more: object) -> MotionGate:
    gate = MotionGate(settings or GateSettings(), **more)  # type: ignore[arg-type]
    for _ in range(20):
        assert not gate.check(yard.grey()).is_motion
    return gate


def test_an_empty_yard_never_opens_the_gate() -> None:
    yard = Yard(noise=4.0)
    gate = gate_that_knows(yard)
    assert not any(gate.check(yard.grey()).is_motion for _ in range(600))


def test_a_walker_of_four_by_ten_pixels_is_motion_at_every_look() -> None:
    yard = Yard()
    gate = gate_that_knows(yard)
    assert all(gate.check(yard.grey(walker=(4 * step, 40))).is_motion for step in range(30))


def test_a_standing_person_is_motion_for_a_minute_and_then_background() -> None:
    yard = Yard()
    gate = gate_that_knows(yard)
    seen = [gate.check(yard.grey(walker=(60, 40))).is_motion for _ in range(2 * 300)]
    assert all(seen[: 2 * 60])
    assert not any(seen[-20:])


def test_a_cloud_or_a_change_of_exposure_is_not_motion() -> None:
    yard = Yard()
    gate = gate_that_knows(yard)
    for step in range(60):
        assert not gate.check(yard.grey(brighter=30.0 * (step % 2))).is_motion


def test_a_fast_cloud_is_not_motion_and_a_walker_under_it_is() -> None:
    yard = Yard()
    gate = gate_that_knows(yard)
    lights = [0.75 + 0.25 * math.cos(step / 2 * math.tau / 10) for step in range(240)]
    assert not any(gate.check(yard.grey(light=light)).is_motion for light in lights)
    assert all(gate.check(yard.grey(light=light, walker=(40, 40))).is_motion for light in lights[:60])


@pytest.mark.parametrize("wagon", [20, 40, 60])
def test_a_large_object_is_motion_and_not_light(wagon: int) -> None:
    yard = Yard()
    gate = gate_that_knows(yard)
    result = gate.check(yard.grey(wagon=wagon))
    assert result.is_motion
    assert result.changed == pytest.approx(wagon / 128 * 76 / 96, abs=0.05)


def test_a_lamp_that_is_switched_on_is_light_and_a_walker_in_it_is_motion() -> None:
    yard = Yard()
    gate = gate_that_knows(yard)
    result = gate.check(yard.grey(lit=True))
    assert not result.is_motion
    assert result.changed > GateSettings().lighting
    assert not gate.check(yard.grey(lit=True)).is_motion
    assert gate.check(yard.grey(lit=True, walker=(60, 40))).is_motion


@pytest.mark.parametrize("where", ["ignore", "masks"])
def test_motion_in_an_ignored_or_masked_part_does_not_count(where: str) -> None:
    yard = Yard()
    settings = GateSettings(ignore=(LEFT_HALF,)) if where == "ignore" else GateSettings()
    gate = gate_that_knows(yard, settings, masks=(LEFT_HALF,) if where == "masks" else ())
    assert not gate.check(yard.grey(walker=(20, 40))).is_motion
    assert gate.check(yard.grey(walker=(90, 40))).is_motion


def test_the_gate_adapts_to_what_always_flutters() -> None:
    yard = Yard()
    gate = gate_that_knows(yard)
    places = [(30 + 3 * (step % 2), 30) for step in range(2 * 600)]
    seen = [gate.check(yard.grey(walker=place)).is_motion for place in places]
    assert any(seen[:20])
    assert not any(seen[-100:])


def test_nine_of_ten_looks_at_people_on_real_footage_are_motion(vtest: str) -> None:
    """PETS S2.L1 has somebody in motion nearly all the time, from 20 pixels of height upwards."""
    video = cv2.VideoCapture(vtest)
    gate, seen = MotionGate(GateSettings()), []
    while video.grab():
        _, picture = video.retrieve()
        seen.append(gate.check(encode_picture(picture, FrameFormat()).thumbnail).is_motion)
        for _ in range(4):
            video.grab()
    video.release()
    assert len(seen) == 159
    assert sum(seen) >= 0.9 * len(seen)
