"""Active hours, and a camera that is paused outside them or over its budget."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import msgspec
import pytest

from camera_agent.capture.live import LiveCapture
from camera_agent.capture.schedule import Slots
from camera_agent.config.active_hours import is_active, next_start_s
from camera_agent.config.settings import BurstSettings, CameraSettings
from camera_agent.imaging.frame import CameraFailure
from camera_agent.uplink.byte_budget import NO_SAVING, PAUSE
from tests.camera_agent.capture.test_live import Kept, YardCamera
from tests.camera_agent.conftest import HandClock

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
def test_a_window_includes_its_beginning_and_not_its_end(windows: tuple[str, ...], hour: int, expected: bool) -> None:
    assert is_active(windows, EIGHT_S + (hour - 8) * 3600.0) is expected


@pytest.mark.parametrize("window", ["06:00-24:30", "24:00-06:00", "06:60-07:00", "6:00-7:00"])
def test_an_invalid_window_is_refused(window: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": "gate", "device": 0, "hours": [window]}, CameraSettings)


def capture_of(
    clock: HandClock, camera: YardCamera, hours: tuple[str, ...], plans: list[object], every_s: float = 1.0
) -> LiveCapture:
    stop = threading.Event()
    burst = BurstSettings(frames=2, spacing_s=0.5, every_s=every_s)
    settings = CameraSettings(name="gate", device=0, hours=hours, burst=burst)
    kept = Kept(clock, stop, enough=9999)
    slots = Slots(clock.monotonic_s(), settings.every_s)
    return LiveCapture("yard", settings, camera, kept.put, slots, clock, stop, plan=lambda: plans[0])  # type: ignore[arg-type,return-value]


def test_outside_its_hours_a_camera_is_paused(clock: HandClock) -> None:
    camera = YardCamera(clock)
    capture = capture_of(clock, camera, ("09:00-17:00",), [NO_SAVING])
    capture.run()
    condition = capture.health.read()
    assert (camera.asked, condition.state, condition.cause) == (0, "paused", "outside_hours")
    nine_s = clock.now_s + 3600.0
    assert condition.next_burst_by_s == pytest.approx(nine_s + 2.0)
    clock.now_s = nine_s
    capture.run()
    assert (camera.asked, capture.health.read().state) == (2, "watching")


def test_hours_are_expected_again_after_the_clock_was_set_back(clock: HandClock) -> None:
    capture = capture_of(clock, YardCamera(clock), ("08:10-17:00",), [NO_SAVING])
    capture.run()
    begin_s = clock.now_s + 600.0
    assert capture.health.read().next_burst_by_s == pytest.approx(begin_s + 2.0)
    clock.ahead_s -= 7200.0
    clock.now_s = begin_s
    capture.run()
    condition = capture.health.read()
    assert (condition.state, condition.next_burst_by_s) == ("paused", pytest.approx(begin_s + 7200.0 + 2.0))


@pytest.mark.parametrize(("every_s", "opens_s"), [(1.0, 10.0), (60.0, 10.0)])
def test_a_camera_is_closed_outside_its_hours_and_opened_shortly_before_they_begin(
    clock: HandClock, every_s: float, opens_s: float
) -> None:
    camera, eight_s = YardCamera(clock), clock.now_s
    capture = capture_of(clock, camera, ("07:00-08:01", "09:00-17:00"), [NO_SAVING], every_s=every_s)
    opened_s = []
    seen = [(camera.is_open, camera.opened)]
    for slot in range(round(3600 / every_s)):
        clock.now_s = eight_s + slot * every_s
        capture.run()
        if (camera.is_open, camera.opened) != seen[-1]:
            seen.append((camera.is_open, camera.opened))
            opened_s.append(clock.now_s - eight_s)
    assert seen == [(False, 0), (True, 1), (False, 1), (True, 2)]
    assert opened_s[1:] == [60.0, 3600.0 - opens_s]
    asked = camera.asked
    clock.now_s = eight_s + 3600.0
    capture.run()
    assert (camera.opened, camera.asked) == (2, asked + 2)


def test_a_camera_that_cannot_be_opened_before_its_hours_is_blind(clock: HandClock) -> None:
    class Unplugged(YardCamera):
        def open(self) -> None:
            raise CameraFailure("no such device")

    capture = capture_of(clock, Unplugged(clock), ("08:01-17:00",), [NO_SAVING])
    clock.now_s += 55.0
    capture.run()
    condition = capture.health.read()
    assert (condition.state, condition.detail) == ("blind", "no such device")


def test_hours_begin_on_time_after_a_change_to_or_from_summer_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    evening_s = 1_806_181_200.0  # 27 March 2027, 22:00; summer time begins in the night
    assert next_start_s(("06:00-22:00",), evening_s) == evening_s + 7 * 3600.0


def test_a_new_time_zone_applies_while_the_agent_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_active(("08:00-08:01",), EIGHT_S)
    monkeypatch.setenv("TZ", "Europe/Berlin")
    assert not is_active(("08:00-08:01",), EIGHT_S)
    monkeypatch.setenv("TZ", "Europe/Helsinki")
    assert next_start_s(("10:01-11:00",), EIGHT_S) == EIGHT_S + 60.0


def test_a_camera_with_an_empty_budget_is_paused(clock: HandClock) -> None:
    camera, plans = YardCamera(clock), [PAUSE]
    capture = capture_of(clock, camera, (), plans)  # type: ignore[arg-type]
    capture.run()
    assert (camera.asked, capture.health.read().cause) == (0, "over_budget")
    plans[0] = NO_SAVING
    clock.now_s += 1.0
    capture.run()
    assert camera.asked == 2
