"""Windows by time of day, and a camera that rests outside them or when its bytes are spent."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import msgspec
import pytest

from camera_agent.budget import FREELY, PAUSED
from camera_agent.capture import Capture
from camera_agent.hours import is_within
from camera_agent.schedule import Slots
from camera_agent.settings import BurstSettings, CameraSettings
from tests.camera_agent.conftest import HandClock
from tests.camera_agent.test_capture import Kept, YardCamera

EIGHT_S = 1_800_000_000.0
"""Eight in the morning, UTC."""


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("windows", "hour", "expected"),
    [
        ((), 3, True),
        (("06:00-22:00",), 8, True),
        (("06:00-22:00",), 23, False),
        (("22:00-06:00",), 23, True),
        (("22:00-06:00",), 5, True),
        (("22:00-06:00",), 6, False),
        (("00:00-07:00", "09:00-24:00"), 8, False),
        (("00:00-07:00", "09:00-24:00"), 23, True),
    ],
)
def test_a_window_holds_its_beginning_and_not_its_end(windows: tuple[str, ...], hour: int, expected: bool) -> None:
    assert is_within(windows, EIGHT_S + (hour - 8) * 3600.0) is expected


@pytest.mark.parametrize("window", ["06:00-24:30", "24:00-06:00", "06:60-07:00", "6:00-7:00"])
def test_a_window_of_no_day_is_refused(window: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": "gate", "device": 0, "hours": [window]}, CameraSettings)


def capture_of(clock: HandClock, camera: YardCamera, hours: tuple[str, ...], plans: list[object]) -> Capture:
    stop = threading.Event()
    settings = CameraSettings(name="gate", device=0, hours=hours, burst=BurstSettings(frames=2, spacing_s=0.5))
    kept = Kept(clock, stop, enough=99)
    slots = Slots(clock.monotonic_s(), settings.every_s)
    return Capture("yard", settings, camera, kept, slots, clock, stop, plan=lambda: plans[0])  # type: ignore[arg-type,return-value]


def test_outside_its_hours_a_camera_rests_and_says_so(clock: HandClock) -> None:
    camera = YardCamera(clock)
    capture = capture_of(clock, camera, ("09:00-17:00",), [FREELY])
    capture.run()
    condition = capture.health.read()
    assert (camera.asked, condition.state, condition.cause) == (0, "paused", "outside_hours")
    assert condition.next_burst_by_s is None
    clock.now_s += 3600.0
    capture.run()
    assert (camera.asked, capture.health.read().state) == (2, "watching")


def test_with_its_bytes_spent_a_camera_rests_and_says_so(clock: HandClock) -> None:
    camera, plans = YardCamera(clock), [PAUSED]
    capture = capture_of(clock, camera, (), plans)  # type: ignore[arg-type]
    capture.run()
    assert (camera.asked, capture.health.read().cause) == (0, "over_budget")
    plans[0] = FREELY
    clock.now_s += 1.0
    capture.run()
    assert camera.asked == 2
