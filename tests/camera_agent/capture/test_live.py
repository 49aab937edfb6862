"""Bursts of a live camera, with a manual clock and a camera that fails on demand."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from itertools import pairwise

import pytest

from camera_agent.burst import Burst
from camera_agent.capture.live import LiveCapture
from camera_agent.capture.schedule import Slots
from camera_agent.config.settings import BurstSettings, CameraSettings, GateSettings
from camera_agent.imaging.frame import CameraFailure, DamagedPicture, Frame, FrameFormat, Thumbnail
from camera_agent.uplink.byte_budget import NO_SAVING, SavingPlan
from tests.camera_agent.conftest import HandClock
from tests.camera_agent.scenes import Yard

VIEW = Thumbnail(128, 96, bytes(range(128)) * 96)


class YardCamera:
    """Takes `takes_s` per frame. The frames whose number is in `fails` fail; the camera then fails until it is opened
    again. Those whose number is in `damaged` come damaged.
    """

    def __init__(
        self, clock: HandClock, *, takes_s: float = 0.02, fails: Iterable[int] = (), damaged: Iterable[int] = ()
    ) -> None:
        self._clock = clock
        self._takes_s = takes_s
        self._fails = set(fails)
        self._damaged = set(damaged)
        self.asked = 0
        self.opened = 0
        self.is_open = False

    def open(self) -> None:
        self.opened += 1
        self.is_open = True

    def frame(self, form: FrameFormat) -> Frame:
        del form
        assert self.is_open
        self.asked += 1
        self._clock.now_s += self._takes_s
        if self.asked in self._fails:
            raise CameraFailure("lens cap")
        if self.asked in self._damaged:
            raise DamagedPicture("half a picture")
        return Frame(jpeg=f"still {self.asked}".encode(), at_s=self._clock.now_s, thumbnail=VIEW)

    def close(self) -> None:
        self.is_open = False


class Kept:
    """Keeps bursts, `takes_s` for each; stops the capture after `enough`."""

    def __init__(self, clock: HandClock, stop: threading.Event, *, enough: int, takes_s: float = 0.0) -> None:
        self.bursts: list[Burst] = []
        self.faults: list[Exception] = []
        self._clock = clock
        self._stop = stop
        self._enough = enough
        self._takes_s = takes_s

    def put(self, burst: Burst) -> bool:
        if self.faults:
            self._clock.now_s += 2.0
            raise self.faults.pop()
        self.bursts.append(burst)
        self._clock.now_s += self._takes_s
        if len(self.bursts) == self._enough:
            self._stop.set()
        return True


def capture_of(
    clock: HandClock,
    camera: YardCamera,
    *,
    enough: int = 1,
    put_takes_s: float = 0.0,
    frames: int = 4,
    plan: SavingPlan = NO_SAVING,
) -> tuple[LiveCapture, Kept]:
    stop = threading.Event()
    kept = Kept(clock, stop, enough=enough, takes_s=put_takes_s)
    settings = CameraSettings(name="gate", device=0, burst=BurstSettings(frames=frames, spacing_s=0.5))
    slots = Slots(clock.monotonic_s(), settings.every_s)
    return LiveCapture("yard", settings, camera, kept.put, slots, clock, stop, plan=lambda: plan), kept


def test_frames_are_taken_at_absolute_instants_whatever_the_duration_of_each(clock: HandClock) -> None:
    capture, kept = capture_of(clock, YardCamera(clock, takes_s=0.3))
    capture.run()
    assert kept.bursts[0].envelope.offsets_ms == (0, 500, 1000, 1500)
    assert kept.bursts[0].envelope.clock.monotonic_ms == 1_000_300
    assert kept.bursts[0].envelope.captured_at == "2027-01-15T08:00:00.300Z"


def test_a_burst_that_is_kept_slowly_costs_the_next_burst_only_its_late_frames(
    clock: HandClock,
) -> None:
    capture, kept = capture_of(clock, YardCamera(clock), enough=2, put_takes_s=1.2)
    capture.run()
    assert [len(burst.frames) for burst in kept.bursts] == [4, 3]
    assert kept.bursts[1].envelope.clock.monotonic_ms == 1_002_740


@pytest.mark.parametrize(("frames", "factor", "apart_ms"), [(5, 2, 1000), (5, 4, 2000), (10, 4, 2000), (3, 4, 1500)])
def test_a_saving_schedule_spaces_its_frames_evenly_across_bursts(
    clock: HandClock, frames: int, factor: int, apart_ms: int
) -> None:
    plan = SavingPlan(3, schedule_factor=factor)
    capture, kept = capture_of(clock, YardCamera(clock), enough=8, frames=frames, plan=plan)
    for slot in range(8):
        clock.now_s = max(clock.now_s, 1000.0 + slot * frames * 0.5)
        capture.run()
    instants_ms = [
        burst.envelope.clock.monotonic_ms + offset_ms
        for burst in kept.bursts
        for offset_ms in burst.envelope.offsets_ms
    ]
    assert len(kept.bursts) == 8
    assert {after - before for before, after in pairwise(instants_ms)} == {apart_ms}


def test_missed_slots_are_left_out(clock: HandClock) -> None:
    capture, kept = capture_of(clock, YardCamera(clock), enough=2, put_takes_s=7.0)
    capture.run()
    assert kept.bursts[1].envelope.clock.monotonic_ms == 1_008_540


def test_a_failing_camera_costs_frames_and_is_opened_again_after_a_while(clock: HandClock) -> None:
    camera = YardCamera(clock, fails=[2])
    capture, kept = capture_of(clock, camera, frames=8)
    capture.run()
    assert camera.opened == 2
    assert kept.bursts[0].frames[0] == b"still 1"
    assert 4 <= len(kept.bursts[0].frames) < 8
    assert kept.bursts[0].envelope.offsets_ms == tuple(sorted(kept.bursts[0].envelope.offsets_ms))


def test_of_fifty_instants_with_every_fifth_picture_damaged_fifty_have_a_frame(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    camera = YardCamera(clock, takes_s=0.125, damaged=range(1, 1000, 5))
    capture, kept = capture_of(clock, camera, enough=5, frames=10)
    for slot in range(5):
        clock.now_s = max(clock.now_s, 1000.0 + slot * 5.0)
        capture.run()
    assert [len(burst.frames) for burst in kept.bursts] == [10] * 5
    assert camera.opened == 1
    condition = capture.health.read()
    assert (condition.state, condition.damaged) == ("watching", 13)
    logged = [line for line in caplog.text.splitlines() if "pictures_damaged" in line]
    assert len(logged) == 1
    assert 'camera=gate since_start=1 cause="half a picture"' in logged[0]


def test_damaged_pictures_are_logged_every_ten_minutes_with_their_number(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    camera = YardCamera(clock, damaged=range(1, 10_000, 2))
    capture, _ = capture_of(clock, camera, enough=400)
    for slot in range(350):
        clock.now_s = max(clock.now_s, 1000.0 + slot * 2.0)
        capture.run()
    counts = [line.partition("since_start=")[2].split()[0] for line in caplog.text.splitlines() if "_damaged" in line]
    assert [int(count) for count in counts] == [1, pytest.approx(1200, abs=30)]


def test_a_camera_is_opened_again_after_five_damaged_pictures_in_a_row(clock: HandClock) -> None:
    camera = YardCamera(clock, damaged=range(3, 8))
    capture, kept = capture_of(clock, camera, frames=12)
    capture.run()
    assert camera.opened == 2
    assert capture.health.read().damaged == 5
    assert len(kept.bursts[0].frames) >= 8


def test_a_damaged_picture_does_not_end_the_burst_of_the_gate(clock: HandClock) -> None:
    """Somebody walks for eight seconds; every third picture is damaged."""
    stop, yard = threading.Event(), Yard()
    kept = Kept(clock, stop, enough=3)

    class Walked(YardCamera):
        def frame(self, form: FrameFormat) -> Frame:
            look = super().frame(form)
            return yard.look(look.at_s, walker=(6 * self.asked, 40) if self.asked >= 5 else None)

    settings = CameraSettings(name="gate", device=0, gate=GateSettings(), burst=BurstSettings(frames=4))
    slots = Slots(clock.monotonic_s(), 60.0)
    camera = Walked(clock, damaged=range(2, 99, 3))
    LiveCapture("yard", settings, camera, kept.put, slots, clock, stop).run()
    assert [burst.envelope.reason for burst in kept.bursts] == ["heartbeat", "gate", "gate"]
    assert [len(burst.frames) for burst in kept.bursts] == [1, 4, 4]


def test_a_mended_picture_is_counted_and_logged_once(clock: HandClock, caplog: pytest.LogCaptureFixture) -> None:
    class Sloppy(YardCamera):
        def frame(self, form: FrameFormat) -> Frame:
            return super().frame(form)._replace(is_mended=True)

    capture, kept = capture_of(clock, Sloppy(clock), enough=2)
    for slot in range(2):
        clock.now_s = max(clock.now_s, 1000.0 + slot * 2.0)
        capture.run()
    assert capture.health.read().mended == sum(len(burst.frames) for burst in kept.bursts) == 8
    assert caplog.text.count("pictures_mended camera=gate since_start=1") == 1


def test_an_unfinished_burst_of_the_gate_is_sent_when_the_camera_fails(clock: HandClock) -> None:
    """Somebody walks in at the fifth look, and the camera fails four looks later, for an hour."""
    stop, yard = threading.Event(), Yard()
    kept = Kept(clock, stop, enough=2)

    class Failing(YardCamera):
        def frame(self, form: FrameFormat) -> Frame:
            look = super().frame(form)
            return yard.look(look.at_s, walker=(6 * self.asked, 40) if self.asked >= 5 else None)

    settings = CameraSettings(name="gate", device=0, gate=GateSettings())
    slots = Slots(clock.monotonic_s(), 60.0)
    LiveCapture("yard", settings, Failing(clock, fails=range(9, 99)), kept.put, slots, clock, stop).run()
    assert [burst.envelope.reason for burst in kept.bursts] == ["heartbeat", "gate"]
    assert clock.now_s < 1010.0


def test_a_camera_that_never_answers_gives_no_burst_and_is_tried_with_growing_delays(clock: HandClock) -> None:
    camera = YardCamera(clock, fails=range(1000))
    capture, kept = capture_of(clock, camera, frames=64)
    burst = capture.take(0)
    assert burst is None
    assert not kept.bursts
    assert camera.asked <= 8


def test_stopping_keeps_the_frames_that_were_taken(clock: HandClock) -> None:
    stop = threading.Event()
    camera = YardCamera(clock)
    settings = CameraSettings(name="gate", device=0)
    kept = Kept(clock, stop, enough=1)
    capture = LiveCapture("yard", settings, camera, kept.put, Slots(clock.monotonic_s(), 10.0), clock, stop)
    asked_before = camera.frame

    def frame_and_stop(form: FrameFormat) -> Frame:
        if camera.asked == 2:
            stop.set()
        return asked_before(form)

    camera.frame = frame_and_stop  # type: ignore[method-assign]
    capture.run()
    assert [len(burst.frames) for burst in kept.bursts] == [3]


def test_every_live_burst_has_its_own_id(clock: HandClock) -> None:
    capture, kept = capture_of(clock, YardCamera(clock), enough=3)
    while len(kept.bursts) < 3:
        capture.run()
        clock.now_s += 0.5
    ids = [burst.envelope.burst_id for burst in kept.bursts]
    assert ids == sorted(set(ids))


def test_an_unexpected_error_is_logged_and_the_next_slot_is_taken(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    camera = YardCamera(clock)
    capture, kept = capture_of(clock, camera)
    kept.faults = [OSError("read-only file system")]
    capture.run()
    assert len(kept.bursts) == 1
    assert "burst_failed camera=gate" in caplog.text


def test_a_gate_takes_looks_also_with_very_short_bursts(clock: HandClock) -> None:
    settings = CameraSettings(
        name="gate",
        device=0,
        burst=BurstSettings(frames=1, spacing_s=0.2),
        gate=GateSettings(looks_per_s=2, quiet_every_s=3),
    )
    camera, stop = YardCamera(clock), threading.Event()
    kept = Kept(clock, stop, enough=3)
    capture = LiveCapture("yard", settings, camera, kept.put, Slots(clock.monotonic_s(), settings.slot_s), clock, stop)
    for _ in range(60):
        capture.run()
        clock.now_s += 0.25
    assert len(kept.bursts) == 3
