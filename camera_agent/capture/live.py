"""Bursts of a live camera: each frame at its own instant of the monotonic clock, each failure at the cost of
frames only. Without a gate every slot of the schedule is one burst; with one, a slot is a stretch of looks, and the
gate makes the bursts.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from camera_agent.burst import Burst, Reason, Still, make_burst, new_burst_id
from camera_agent.cameras.health import Health
from camera_agent.capture.schedule import Slots
from camera_agent.clock import Clock
from camera_agent.config.active_hours import begin_after_s, is_within
from camera_agent.config.settings import CameraSettings
from camera_agent.imaging.failure import CameraFailure
from camera_agent.imaging.frame import Look
from camera_agent.imaging.masks import Form, mask_digest
from camera_agent.logs import line
from camera_agent.network.backoff import Backoff
from camera_agent.uplink.byte_budget import FREELY, Plan
from camera_agent.wall_clock import Timekeeper

if TYPE_CHECKING:
    from camera_agent.capture.motion_bursts import Gated, Group

_log = logging.getLogger(__name__)
_WARM_UP_S = 10.0


class Camera(Protocol):
    """A live camera. Every method may raise `CameraFailure`, after which it is closed and opened again."""

    def open(self) -> None: ...

    def still(self, form: Form) -> Look:
        """A picture of now, in that form; may wait for it, but not without bound."""
        ...

    def close(self) -> None:
        """Give the device back. Must be safe to call twice, and before `open`."""
        ...


class Keeper(Protocol):
    """Where finished bursts go."""

    def put(self, burst: Burst) -> bool: ...


class Capture:
    """One live camera's job: `run` takes what belongs to the slot that has begun."""

    def __init__(
        self,
        site: str,
        settings: CameraSettings,
        camera: Camera,
        keeper: Keeper,
        slots: Slots,
        clock: Clock,
        stop: threading.Event,
        *,
        time: Timekeeper | None = None,
        plan: Callable[[], Plan] = lambda: FREELY,
        is_open: bool = False,
    ) -> None:
        self._site = site
        self._settings = settings
        self._camera = camera
        self._keeper = keeper
        self._slots = slots
        self._clock = clock
        self._stop = stop
        self._time = time or Timekeeper(clock)
        self._plan = plan
        self._backoff = Backoff(first_s=1.0, most_s=60.0)
        self._is_open = is_open
        self._retry_at_s = 0.0
        self._gated = _gated_of(settings)
        self.health = Health(clock.monotonic_s(), stuck_after_s=settings.stuck_after_s)

    def run(self) -> None:
        """Take bursts until no slot is waiting. A slot that begins while another is being taken is taken from
        where it stands.
        """
        slot = self._slots.at(self._clock.monotonic_s())
        while not self._stop.is_set():
            try:
                self._take_slot(slot)
            except Exception:  # noqa: BLE001 - a loop's top: whatever it was, the next slot is tried
                _log.exception(line("burst_failed", camera=self._settings.name))
            latest = self._slots.at(self._clock.monotonic_s())
            if latest <= slot:
                return
            slot = latest

    def take(self, slot: int) -> Burst | None:
        """The frames of `slot` that can still be had; None when there was none. Ends early when asked to stop."""
        plan = self._plan()
        spacing_s = self._settings.spacing_s
        taken: list[Look] = []
        for index in range(0, self._settings.burst.frames, plan.thin_schedule):
            target_s = self._slots.begin_s(slot) + index * spacing_s
            if not self._clock.wait_until(target_s, self._stop):
                break
            if self._clock.monotonic_s() >= target_s + spacing_s:
                continue  # its time has passed: what is late is left out, not moved
            look = self._look(plan)
            if look is not None:
                taken.append(look)
        return self._bind(taken, "schedule") if taken else None

    def close(self) -> None:
        self._camera.close()
        self._is_open = False

    def finish(self) -> None:
        """Hand over what the gate has under way: no further look will come soon."""
        for group in self._gated.close() if self._gated is not None else []:
            self._keeper.put(self._bind(group.looks, group.reason))

    def _take_slot(self, slot: int) -> None:
        if self._is_paused(slot):
            self._make_ready(slot + 1)
            return
        if self._gated is not None:
            self._watch(self._gated, slot)
            return
        self.health.expect(self._slots.begin_s(slot + 2))
        burst = self.take(slot)
        if burst is not None:
            self._keeper.put(burst)

    def _is_paused(self, slot: int) -> bool:
        """Whether, by wish, nothing is taken in this slot. A camera that rests is given back, its lamp goes out."""
        now_s = self._clock.monotonic_s()
        cause = self._why_paused(now_s)
        was = self.health.read()
        if cause is None:
            if was.state == "paused":
                _log.info(line("camera_resumes", camera=self._settings.name, slot=slot))
                self.health.is_now("starting", now_s)
            return False
        if (was.state, was.cause) != ("paused", cause):
            _log.info(line("camera_paused", camera=self._settings.name, cause=cause))
            self.finish()
            self.close()
            self.health.is_now("paused", now_s, cause)
            self.health.expect(None)
        if cause == "outside_hours":
            self._expect_hours(now_s)
        return True

    def _expect_hours(self, now_s: float) -> None:
        """Say when the hours begin, and anew where they should have begun by now: the clock was set meanwhile."""
        expected_s = self.health.read().next_burst_by_s
        if expected_s is None or now_s >= expected_s - 2 * self._settings.every_s:
            self.health.expect(self._resumes_by_s(now_s))

    def _why_paused(self, at_s: float) -> str | None:
        """Outside the hours, or with no bytes left."""
        reading = self._time.reading()
        if self._plan().is_paused:
            return "over_budget"
        is_outside = reading.is_set and not is_within(self._settings.hours, at_s + reading.ahead_s)
        return "outside_hours" if is_outside else None

    def _resumes_by_s(self, now_s: float) -> float:
        ahead_s = self._time.reading().ahead_s
        return begin_after_s(self._settings.hours, now_s + ahead_s) - ahead_s + 2 * self._settings.every_s

    def _make_ready(self, slot: int) -> None:
        """Open a camera that rests, shortly before it is wanted in `slot` or later: it takes a while to see well."""
        wanted_s = max(self._slots.begin_s(slot), self._clock.monotonic_s() + _WARM_UP_S)
        if self._is_open or self._why_paused(wanted_s) is not None:
            return
        if self._clock.wait_until(wanted_s - _WARM_UP_S, self._stop):
            try:
                self._open()
            except CameraFailure as failure:
                self._failed(failure)

    def _watch(self, gated: Gated, slot: int) -> None:
        """Look, at every step of the gate until the slot ends; hand over each burst as soon as it is whole."""
        at_s, end_s = self._slots.begin_s(slot), self._slots.begin_s(slot + 1)
        while at_s < end_s - gated.step_s / 2:
            if not self._clock.wait_until(at_s, self._stop):
                return
            if self._clock.monotonic_s() < at_s + gated.step_s:
                self._look_through(gated)
            at_s += gated.step_s

    def _look_through(self, gated: Gated) -> None:
        plan = self._plan()
        gated.thin(rarer=plan.rarer, thinned=plan.thin_gate)
        look = self._look(plan)
        if look is None:
            return
        self.health.expect(look.at_s + gated.silent_s)
        was_open = gated.is_open
        groups: list[Group] = gated.look(look)
        if gated.is_open != was_open:
            _log.info(line("gate_opened" if gated.is_open else "gate_closed", camera=self._settings.name))
        for group in groups:
            self._keeper.put(self._bind(group.looks, group.reason))

    def _look(self, plan: Plan) -> Look | None:
        if self._clock.monotonic_s() < self._retry_at_s:
            return None
        try:
            self._open()
            look = self._camera.still(plan.form(self._settings.form))
            self.health.saw(look)
        except CameraFailure as failure:
            self._failed(failure)
            return None
        if self._backoff.failures:
            _log.info(line("camera_back", camera=self._settings.name, failures=self._backoff.failures))
            self._backoff.reset()
        return look

    def _open(self) -> None:
        if not self._is_open:
            self._camera.open()
            self._is_open = True

    def _failed(self, failure: CameraFailure) -> None:
        self.close()
        retry_in_s = self._backoff.next_s()
        now_s = self._clock.monotonic_s()
        self._retry_at_s = now_s + retry_in_s
        self.health.failed(failure, now_s)
        self.health.expect(None)
        said = line(
            "camera_failed", camera=self._settings.name, kind=failure.cause, cause=failure, retry_in_s=retry_in_s
        )
        _log.warning(said)
        self.finish()

    def _bind(self, taken: Sequence[Look], reason: Reason) -> Burst:
        """The wall clock is read once, beside the monotonic clock, and everything else is reckoned from that."""
        reading = self._time.reading()
        first_s = taken[0].at_s
        captured_ms = round((first_s + reading.ahead_s) * 1000)
        return make_burst(
            [Still(jpeg=look.jpeg, at_ms=round((look.at_s - first_s) * 1000)) for look in taken],
            burst_id=new_burst_id(captured_ms),
            site=self._site,
            camera=self._settings.name,
            captured_ms=captured_ms,
            clock=self._time.reads(round(first_s * 1000)),
            reason=reason,
            mask_digest=mask_digest(self._settings.masks),
        )


def _gated_of(settings: CameraSettings) -> Gated | None:
    if settings.gate is None:
        return None
    from camera_agent.capture.motion_bursts import gated_of  # loads Pillow

    return gated_of(settings)
