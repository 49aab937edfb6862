"""Bursts of a camera with a gate: which looks become frames, and where a burst begins and ends.

While nothing moves, one frame is sent every `quiet_every_s` (reason `heartbeat`). When something moves, a burst (reason
`gate`) begins with the looks of the last `before_s`, continues at the burst's spacing, and ends `after_s` after the
last motion. Full bursts are handed over on the way, without a gap. The bursts are a function of the looks and the
settings alone, so that a recording gives the same ones again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from camera_agent.burst import Reason
from camera_agent.capture.motion_gate import MotionGate
from camera_agent.config.settings import CameraSettings, GateSettings
from camera_agent.imaging.frame import Frame
from camera_agent.uplink.byte_budget import NO_SAVING, SavingPlan

_EARLY = 0.25
"""Part of a look by which a frame may come early: looks are not exactly evenly spaced."""


class FrameGroup(NamedTuple):
    """The frames of one burst, oldest first, and why they are sent."""

    reason: Reason
    frames: Sequence[Frame]


class MotionBursts:
    """Takes looks in order, `step_s` apart, and returns the bursts that they complete."""

    def __init__(self, camera: CameraSettings, gate: GateSettings) -> None:
        self._settings = gate
        self._max_frames = camera.burst.frames
        self._full_spacing_s = camera.spacing_s
        self._gate = MotionGate(gate, camera.masks)
        self._recent: deque[Frame] = deque(maxlen=max(1, round(gate.before_s * gate.looks_per_s)))
        self._frames: list[Frame] = []
        self._sent_s: float | None = None
        self._moved_s: float | None = None
        self.save(NO_SAVING)

    def save(self, plan: SavingPlan) -> None:
        """From now on, space heartbeat frames and the frames of a burst as the plan says."""
        self._quiet_every_s = self._settings.quiet_every_s * plan.quiet_factor
        self._spacing_s = self._full_spacing_s * plan.gate_factor

    @property
    def is_open(self) -> bool:
        return self._moved_s is not None

    @property
    def step_s(self) -> float:
        """The time from one look to the next."""
        look_s = 1.0 / self._settings.looks_per_s
        return min(look_s, self._full_spacing_s) if self.is_open else look_s

    @property
    def max_silence_s(self) -> float:
        """The longest time without a complete burst while the camera works."""
        return max(self._quiet_every_s, self._max_frames * self._spacing_s) + self.step_s

    def add(self, frame: Frame) -> list[FrameGroup]:
        """Take one look; return the bursts that it completes, oldest first: at most two."""
        if self._gate.check(frame.thumbnail).is_motion:
            if not self.is_open:
                self._frames = self._frames_before(frame)
            self._moved_s = frame.at_s
        if self.is_open:
            groups = self._add_while_open(frame)
        elif self._is_due(frame, self._sent_s, self._quiet_every_s):
            self._sent_s = frame.at_s
            groups = [FrameGroup("heartbeat", [frame])]
        else:
            groups = []
        self._recent.append(frame)
        return groups

    def close(self) -> list[FrameGroup]:
        """The unfinished burst, when no further look will come soon."""
        self._moved_s = None
        return self._hand_over()

    def _frames_before(self, trigger: Frame) -> list[Frame]:
        """The looks before the trigger, oldest first, spaced from it backwards, that were not sent already.

        Looks from before a pause or a camera failure are too old.
        """
        early_s = _EARLY * self.step_s
        wanted_s = trigger.at_s - self._spacing_s
        since_s = trigger.at_s - self._settings.before_s - early_s
        frames: list[Frame] = []
        for frame in reversed(self._recent):
            is_new = frame.at_s >= since_s and (self._sent_s is None or frame.at_s > self._sent_s)
            if is_new and len(frames) < self._max_frames and frame.at_s <= wanted_s + early_s:
                frames.append(frame)
                wanted_s = frame.at_s - self._spacing_s
        return frames[::-1]

    def _add_while_open(self, frame: Frame) -> list[FrameGroup]:
        last_s = self._frames[-1].at_s if self._frames else self._sent_s
        if self._is_due(frame, last_s, self._spacing_s):
            self._frames.append(frame)
        groups = self._hand_over() if len(self._frames) >= self._max_frames else []
        if self._moved_s is not None and frame.at_s - self._moved_s >= self._settings.after_s:
            groups += self.close()
        return groups

    def _is_due(self, frame: Frame, last_s: float | None, every_s: float) -> bool:
        return last_s is None or frame.at_s - last_s >= every_s - _EARLY * self.step_s

    def _hand_over(self) -> list[FrameGroup]:
        if not self._frames:
            return []
        frames, self._frames = self._frames, []
        self._sent_s = frames[-1].at_s
        return [FrameGroup("gate", frames)]
