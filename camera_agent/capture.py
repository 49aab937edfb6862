"""Bursts of a live camera: each frame at its own instant of the monotonic clock, each failure at the cost of
frames only.
"""

from __future__ import annotations

import logging
import threading
from typing import NamedTuple, Protocol

from camera_agent.backoff import Backoff
from camera_agent.burst import Burst, ClockReading, Still, make_burst, new_burst_id
from camera_agent.cameras.failure import CameraFailure
from camera_agent.clock import Clock, boot_id, is_synchronised
from camera_agent.journal import line
from camera_agent.schedule import Slots
from camera_agent.settings import CameraSettings

_log = logging.getLogger(__name__)


class Taken(NamedTuple):
    """A JPEG and the instant of the monotonic clock, in seconds, at which it was taken."""

    jpeg: bytes
    at_s: float


class Camera(Protocol):
    """A live camera. Every method may raise `CameraFailure`, after which it is closed and opened again."""

    def open(self) -> None: ...

    def still(self) -> Taken:
        """A picture of now; may wait for it, but not without bound."""
        ...

    def close(self) -> None:
        """Give the device back. Must be safe to call twice, and before `open`."""
        ...


class Keeper(Protocol):
    """Where finished bursts go."""

    def put(self, burst: Burst) -> bool: ...


class Capture:
    """One live camera's job: `run` takes the burst of the slot that has begun."""

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
        is_open: bool = False,
    ) -> None:
        self._site = site
        self._settings = settings
        self._camera = camera
        self._keeper = keeper
        self._slots = slots
        self._clock = clock
        self._stop = stop
        self._backoff = Backoff(first_s=1.0, most_s=60.0)
        self._is_open = is_open
        self._retry_at_s = 0.0

    def run(self) -> None:
        """Take bursts until no slot is waiting. A slot that begins while another is being taken is taken from
        where it stands.
        """
        slot = self._slots.at(self._clock.monotonic_s())
        while not self._stop.is_set():
            try:
                burst = self.take(slot)
                if burst is not None:
                    self._keeper.put(burst)
            except Exception:  # noqa: BLE001 - a loop's top: whatever it was, the next slot is tried
                _log.exception(line("burst_failed", camera=self._settings.name))
            latest = self._slots.at(self._clock.monotonic_s())
            if latest <= slot:
                return
            slot = latest

    def take(self, slot: int) -> Burst | None:
        """The frames of `slot` that can still be had; None when there was none. Ends early when asked to stop."""
        spacing_s = self._settings.spacing_s
        taken: list[Taken] = []
        for index in range(self._settings.burst.frames):
            target_s = self._slots.begin_s(slot) + index * spacing_s
            if not self._clock.wait_until(target_s, self._stop):
                break
            if self._clock.monotonic_s() >= target_s + spacing_s:
                continue  # its time has passed: what is late is left out, not moved
            still = self._still()
            if still is not None:
                taken.append(still)
        return self._bind(taken) if taken else None

    def close(self) -> None:
        self._camera.close()
        self._is_open = False

    def _still(self) -> Taken | None:
        if self._clock.monotonic_s() < self._retry_at_s:
            return None
        try:
            if not self._is_open:
                self._camera.open()
                self._is_open = True
            still = self._camera.still()
        except CameraFailure as failure:
            self.close()
            retry_in_s = self._backoff.next_s()
            self._retry_at_s = self._clock.monotonic_s() + retry_in_s
            _log.warning(line("camera_failed", camera=self._settings.name, cause=failure, retry_in_s=retry_in_s))
            return None
        if self._backoff.failures:
            _log.info(line("camera_back", camera=self._settings.name, failures=self._backoff.failures))
            self._backoff.reset()
        return still

    def _bind(self, taken: list[Taken]) -> Burst:
        """The wall clock is read once, beside the monotonic clock, and everything else is reckoned from that."""
        ahead_s = self._clock.unix_s() - self._clock.monotonic_s()
        first_s = taken[0].at_s
        captured_ms = round((first_s + ahead_s) * 1000)
        return make_burst(
            [Still(jpeg=still.jpeg, at_ms=round((still.at_s - first_s) * 1000)) for still in taken],
            burst_id=new_burst_id(captured_ms),
            site=self._site,
            camera=self._settings.name,
            captured_ms=captured_ms,
            clock=ClockReading(synced=is_synchronised(), boot_id=boot_id(), monotonic_ms=round(first_s * 1000)),
        )
