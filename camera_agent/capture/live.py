"""Bursts of a live camera. Each frame has its own monotonic instant; a failure costs frames, never the burst.

Without a gate, every slot of the schedule is one burst. With a gate, a slot is a stretch of looks, and the gate decides
which frames form bursts.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from camera_agent.burst import Burst, Reason, Still, make_burst, new_burst_id
from camera_agent.cameras.camera import Camera, whole_frame
from camera_agent.cameras.health import CameraHealth
from camera_agent.capture.schedule import Slots
from camera_agent.clock import Clock
from camera_agent.config.active_hours import is_active, next_start_s
from camera_agent.config.settings import CameraSettings
from camera_agent.imaging.frame import CameraFailure, DamagedPicture, Frame
from camera_agent.imaging.masks import mask_digest
from camera_agent.network.backoff import Backoff
from camera_agent.uplink.byte_budget import NO_SAVING, SavingPlan
from camera_agent.wall_clock import WallClock

if TYPE_CHECKING:
    from camera_agent.capture.motion_bursts import FrameGroup, MotionBursts

_log = logging.getLogger(__name__)
_WARM_UP_S = 10.0
_COUNTS_EVERY_S = 600.0
"""Damaged and mended pictures are logged so often, not each."""


class LiveCapture:
    """One live camera's job: `run` takes what belongs to the present slot, and calls `keep` with each burst."""

    def __init__(
        self,
        site: str,
        settings: CameraSettings,
        camera: Camera,
        keep: Callable[[Burst], object],
        slots: Slots,
        clock: Clock,
        stop: threading.Event,
        *,
        wall_clock: WallClock | None = None,
        plan: Callable[[], SavingPlan] = lambda: NO_SAVING,
        is_open: bool = False,
    ) -> None:
        self._site = site
        self._settings = settings
        self._camera = camera
        self._keep = keep
        self._slots = slots
        self._clock = clock
        self._stop = stop
        self._wall_clock = wall_clock or WallClock(clock)
        self._plan = plan
        self._backoff = Backoff(first_s=1.0, max_s=60.0)
        self._is_open = is_open
        self._retry_at_s = 0.0
        self._counts_at_s: dict[str, float] = {}
        self._motion: MotionBursts | None = None
        if settings.gate is not None:
            from camera_agent.capture.motion_bursts import MotionBursts  # loads Pillow

            self._motion = MotionBursts(settings, settings.gate)
        self.health = CameraHealth(clock.monotonic_s(), stuck_after_s=settings.stuck_after_s)

    def run(self) -> None:
        """Take bursts until no slot is waiting. A slot that began while another was taken is joined where it stands."""
        slot = self._slots.at(self._clock.monotonic_s())
        while not self._stop.is_set():
            try:
                self._take_slot(slot)
            except Exception:  # noqa: BLE001 - the schedule must go on; the error is logged, the next slot tried
                _log.exception("burst_failed", extra={"camera": self._settings.name})
            latest = self._slots.at(self._clock.monotonic_s())
            if latest <= slot:
                return
            slot = latest

    def take(self, slot: int) -> Burst | None:
        """The frames of `slot` that can still be taken; None when there was none. Ends early when `stop` is set."""
        plan = self._plan()
        spacing_s = self._settings.spacing_s
        frames: list[Frame] = []
        count = self._settings.burst.frames
        step = min(plan.schedule_factor, count)
        for index in range(-slot * count % step, count, step):  # evenly spaced across bursts, at least one in each
            target_s = self._slots.begin_s(slot) + index * spacing_s
            if not self._clock.wait_until(target_s, self._stop):
                break
            if self._clock.monotonic_s() >= target_s + spacing_s:
                continue  # a frame that is late is left out, not moved
            frame = self._take_frame(plan)
            if frame is not None:
                frames.append(frame)
        return self._burst(frames, "schedule") if frames else None

    def close(self) -> None:
        self._camera.close()
        self._is_open = False

    def finish(self) -> None:
        """Hand over the gate's unfinished burst: no further frame will come soon."""
        if self._motion is not None:
            self._keep_groups(self._motion.close())

    def _take_slot(self, slot: int) -> None:
        if self._is_paused(slot):
            self._open_before(slot + 1)
            return
        if self._motion is not None:
            self._watch(self._motion, slot)
            return
        self.health.expect_burst_by(self._slots.begin_s(slot + 2))
        burst = self.take(slot)
        if burst is not None:
            self._keep(burst)

    def _is_paused(self, slot: int) -> bool:
        """Whether hours or budget pause the camera in this slot. A paused camera is closed, and its lamp goes out."""
        now_s = self._clock.monotonic_s()
        cause = self._pause_cause(now_s)
        condition = self.health.read()
        if cause is None:
            if condition.state == "paused":
                _log.info("camera_resumes", extra={"camera": self._settings.name, "slot": slot})
                self.health.set_state("starting", now_s)
            return False
        if (condition.state, condition.cause) != ("paused", cause):
            _log.info("camera_paused", extra={"camera": self._settings.name, "cause": cause})
            self.finish()
            self.close()
            self.health.set_state("paused", now_s, cause, next_burst_by_s=None)
        if cause == "outside_hours":
            self._expect_hours(now_s)
        return True

    def _expect_hours(self, now_s: float) -> None:
        """Report when the hours begin, again if they should have begun by now: the clock was set meanwhile."""
        expected_s = self.health.read().next_burst_by_s
        margin_s = 2 * self._settings.every_s
        if expected_s is None or now_s >= expected_s - margin_s:
            ahead_s = self._wall_clock.offset().ahead_s
            start_s = next_start_s(self._settings.hours, now_s + ahead_s) - ahead_s
            self.health.expect_burst_by(start_s + margin_s)

    def _pause_cause(self, at_s: float) -> str | None:
        offset = self._wall_clock.offset()
        if self._plan().is_paused:
            return "over_budget"
        is_outside = offset.is_set and not is_active(self._settings.hours, at_s + offset.ahead_s)
        return "outside_hours" if is_outside else None

    def _open_before(self, slot: int) -> None:
        """Open a paused camera `_WARM_UP_S` before `slot`, or later, if it is wanted then."""
        wanted_s = max(self._slots.begin_s(slot), self._clock.monotonic_s() + _WARM_UP_S)
        if self._is_open or self._pause_cause(wanted_s) is not None:
            return
        if self._clock.wait_until(wanted_s - _WARM_UP_S, self._stop):
            try:
                self._open()
            except CameraFailure as failure:
                self._handle_failure(failure)

    def _watch(self, motion: MotionBursts, slot: int) -> None:
        """Take a look at every step of the gate until the slot ends."""
        at_s, end_s = self._slots.begin_s(slot), self._slots.begin_s(slot + 1)
        while at_s < end_s - motion.step_s / 2:
            if not self._clock.wait_until(at_s, self._stop):
                return
            if self._clock.monotonic_s() < at_s + motion.step_s:
                self._look(motion)
            at_s += motion.step_s

    def _look(self, motion: MotionBursts) -> None:
        plan = self._plan()
        motion.save(plan)
        frame = self._take_frame(plan)
        if frame is None:
            return
        self.health.expect_burst_by(frame.at_s + motion.max_silence_s)
        was_open = motion.is_open
        groups = motion.add(frame)
        if motion.is_open != was_open:
            _log.info("gate_opened" if motion.is_open else "gate_closed", extra={"camera": self._settings.name})
        self._keep_groups(groups)

    def _take_frame(self, plan: SavingPlan) -> Frame | None:
        if self._clock.monotonic_s() < self._retry_at_s:
            return None
        try:
            self._open()
            frame = whole_frame(self._camera, plan.apply(self._settings.frame_format), self._pass_over)
            self.health.check(frame)
        except CameraFailure as failure:
            self._handle_failure(failure)
            return None
        if self._backoff.failures:
            _log.info("camera_back", extra={"camera": self._settings.name, "failures": self._backoff.failures})
            self._backoff.reset()
        if frame.is_mended:
            self._log_count("pictures_mended", self.health.read().mended, "a faulty start or end")
        return frame

    def _pass_over(self, damage: DamagedPicture) -> None:
        self.health.count_damaged()
        self._log_count("pictures_damaged", self.health.read().damaged, damage)

    def _log_count(self, event: str, count: int, cause: object) -> None:
        """Log the first one at once, then the count every `_COUNTS_EVERY_S` while there are more."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._counts_at_s.get(event, now_s):
            self._counts_at_s[event] = now_s + _COUNTS_EVERY_S
            _log.warning(event, extra={"camera": self._settings.name, "since_start": count, "cause": cause})

    def _open(self) -> None:
        if not self._is_open:
            self._camera.open()
            self._is_open = True

    def _handle_failure(self, failure: CameraFailure) -> None:
        self.close()
        retry_in_s = self._backoff.next_s()
        now_s = self._clock.monotonic_s()
        self._retry_at_s = now_s + retry_in_s
        self.health.record_failure(failure, now_s)
        _log.warning(
            "camera_failed",
            extra={
                "camera": self._settings.name,
                "kind": failure.cause,
                "cause": failure,
                "retry_in_s": retry_in_s,
            },
        )
        self.finish()

    def _keep_groups(self, groups: Iterable[FrameGroup]) -> None:
        for group in groups:
            self._keep(self._burst(group.frames, group.reason))

    def _burst(self, frames: Sequence[Frame], reason: Reason) -> Burst:
        """The wall clock is read once per burst; offsets between frames are monotonic."""
        first_s = frames[0].at_s
        captured_ms = round((first_s + self._wall_clock.offset().ahead_s) * 1000)
        return make_burst(
            [Still(jpeg=frame.jpeg, at_ms=round((frame.at_s - first_s) * 1000)) for frame in frames],
            burst_id=new_burst_id(captured_ms),
            site=self._site,
            camera=self._settings.name,
            captured_ms=captured_ms,
            clock=self._wall_clock.clock_reading(round(first_s * 1000)),
            reason=reason,
            mask_digest=mask_digest(self._settings.masks),
        )
