"""Bursts of a camera with a gate: which looks become frames, and where one burst ends and the next begins.

Quiet, one frame every `quiet_every_s` (`heartbeat`): proof that the camera sees, and a look for the models. When
something moves, a burst (`gate`) begins with the looks of the `before_s` before, goes on at the burst's spacing, and
ends `after_s` after the last motion; full bursts are handed over on the way, without a gap. Which bursts come out
is a function of the looks and the settings alone, so that a recording gives the same ones again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from camera_agent.burst import Reason
from camera_agent.capture.motion_gate import Gate
from camera_agent.config.settings import BurstSettings, CameraSettings, GateSettings
from camera_agent.imaging.frame import Look
from camera_agent.imaging.masks import Polygons

_EARLY = 0.25
"""Part of a look by which a frame may come before its time: looks are not exactly as far apart as they should be."""


class Group(NamedTuple):
    """The frames of one burst, oldest first, and why they are sent."""

    reason: Reason
    looks: Sequence[Look]


class Gated:
    """Feed it looks in order, `step_s` apart; it gives back the bursts that are whole."""

    def __init__(self, gate: GateSettings, burst: BurstSettings, spacing_s: float, masks: Polygons = ()) -> None:
        self._settings = gate
        self._frames = burst.frames
        self._spacing_s = spacing_s
        self._gate = Gate(gate, masks)
        self._ring: deque[Look] = deque(maxlen=max(1, round(gate.before_s * gate.looks_per_s)))
        self._taken: list[Look] = []
        self._sent_s: float | None = None
        self._moved_s: float | None = None
        self._quiet_every_s = gate.quiet_every_s
        self._thinned = 1

    @property
    def is_open(self) -> bool:
        return self._moved_s is not None

    @property
    def step_s(self) -> float:
        """How long after a look the next one is due."""
        look_s = 1.0 / self._settings.looks_per_s
        return min(look_s, self._spacing_s) if self.is_open else look_s

    def thin(self, *, rarer: int, thinned: int) -> None:
        """From now on have heartbeat frames and a burst's frames so many times as far apart as the settings say."""
        self._quiet_every_s = self._settings.quiet_every_s * rarer
        self._thinned = thinned

    @property
    def silent_s(self) -> float:
        """The longest time in which no burst becomes whole while all is well."""
        whole_s = self._frames * self._spacing_s * self._thinned
        return max(self._quiet_every_s, whole_s) + self.step_s

    def look(self, look: Look) -> list[Group]:
        """Take one look; return the bursts that it made whole, oldest first: none, one, seldom two."""
        sight = self._gate.look(look.grey)
        if sight.is_motion:
            if not self.is_open:
                self._open(look)
            self._moved_s = look.at_s
        if self.is_open:
            groups = self._while_open(look)
        elif self._sent_s is None or look.at_s - self._sent_s >= self._quiet_every_s - _EARLY * self.step_s:
            self._sent_s = look.at_s
            groups = [Group("heartbeat", [look])]
        else:
            groups = []
        self._ring.append(look)
        return groups

    def close(self) -> list[Group]:
        """What is under way, when no further look will come soon."""
        self._moved_s = None
        return self._handed_over()

    def _open(self, trigger: Look) -> None:
        """Take the looks before the trigger, the spacing apart as seen from it, that were not sent already. What was
        seen before a pause, or before the camera failed, is none of them.
        """
        wanted_s = trigger.at_s - self._spacing_s * self._thinned
        since_s = trigger.at_s - self._settings.before_s - _EARLY * self.step_s
        before: list[Look] = []
        for look in reversed(self._ring):
            is_new = look.at_s >= since_s and (self._sent_s is None or look.at_s > self._sent_s)
            if is_new and len(before) < self._frames and look.at_s <= wanted_s + _EARLY * self.step_s:
                before.append(look)
                wanted_s = look.at_s - self._spacing_s * self._thinned
        self._taken = before[::-1]

    def _while_open(self, look: Look) -> list[Group]:
        last_s = self._taken[-1].at_s if self._taken else self._sent_s
        if last_s is None or look.at_s - last_s >= self._spacing_s * self._thinned - _EARLY * self.step_s:
            self._taken.append(look)
        groups = self._handed_over() if len(self._taken) >= self._frames else []
        if self._moved_s is not None and look.at_s - self._moved_s >= self._settings.after_s:
            groups += self.close()
        return groups

    def _handed_over(self) -> list[Group]:
        if not self._taken:
            return []
        taken, self._taken = self._taken, []
        self._sent_s = taken[-1].at_s
        return [Group("gate", taken)]


def gated_of(settings: CameraSettings) -> Gated:
    """The bursts of a camera that has a gate. Raises `ValueError` for one without."""
    if settings.gate is None:
        raise ValueError(f"camera {settings.name!r} has no gate")
    return Gated(settings.gate, settings.burst, settings.spacing_s, settings.masks)
