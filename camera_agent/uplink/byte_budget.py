"""A camera's byte budget: at most so many bytes in any 24 hours, at the least cost in what is seen.

A token bucket holds a quarter of the day's bytes and fills at the rate of the other three quarters. Everything on the
wire is taken out of it: headers, answers, packet headers, repeats. Its level, less the bytes that wait to be sent,
decides how much the camera saves: first smaller JPEGs and fewer heartbeat frames, then fewer frames of the schedule,
last fewer frames of the gate. An empty bucket pauses the camera. A burst that does not fit waits in the spool.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from camera_agent.imaging.frame import FrameFormat

_DAY_S = 86_400.0
_BUCKET = 0.25
_LEAST_QUALITY = 30
_HEARTBEATS = 0.1
"""The largest part of a day's bytes that heartbeats may take."""
_HEARTBEAT_BYTES = 1500
_SEGMENT_BYTES = 1448
_SEGMENT_HEAD_BYTES = 78
"""IPv4, TCP with timestamps, and half an acknowledgement of the same size."""


class SavingPlan(NamedTuple):
    """How much a camera saves: JPEG quality lower by `quality_cut`, heartbeat frames `quiet_factor` times as far apart,
    frames of the schedule and of the gate `schedule_factor` and `gate_factor` times.
    """

    level: int
    quality_cut: int = 0
    quiet_factor: int = 1
    schedule_factor: int = 1
    gate_factor: int = 1

    @property
    def is_paused(self) -> bool:
        return self.level == PAUSE.level

    def apply(self, frame_format: FrameFormat) -> FrameFormat:
        if not self.quality_cut:
            return frame_format
        quality = min(frame_format.quality, max(_LEAST_QUALITY, frame_format.quality - self.quality_cut))
        return msgspec.structs.replace(frame_format, quality=quality, always_encode=True)


NO_SAVING = SavingPlan(0)
PAUSE = SavingPlan(4)
_PLANS = (
    (0.50, NO_SAVING),
    (0.35, SavingPlan(1, quality_cut=15, quiet_factor=2)),
    (0.20, SavingPlan(2, quality_cut=30, quiet_factor=4, schedule_factor=2)),
    (float("-inf"), SavingPlan(3, quality_cut=45, quiet_factor=8, schedule_factor=4, gate_factor=2)),
)
"""Least level of the bucket -> plan."""
SCHEDULE_FACTORS = tuple(plan.schedule_factor for _, plan in _PLANS if plan.schedule_factor > 1)
_PAUSES_BELOW = 0.05
_RESUMES_AT = 0.2


class SavedBudget(msgspec.Struct, frozen=True):
    """One entry of `budget.json`. `at_s` is Unix time; `monotonic_s` counts within the boot `boot_id`."""

    balance: float
    at_s: float
    boot_id: str = ""
    monotonic_s: float = 0.0


class ByteBudget:
    """The budget of one camera; without `bytes_per_day` it has no bound. Safe to use from several threads."""

    def __init__(self, bytes_per_day: float | None, monotonic_s: Callable[[], float]) -> None:
        self._rate = (bytes_per_day or 0.0) * (1 - _BUCKET) / _DAY_S
        self._capacity = (bytes_per_day or 0.0) * _BUCKET
        self._is_bounded = bytes_per_day is not None
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._balance = self._capacity
        self._at_s = monotonic_s()
        self._is_paused = False
        self.spent_bytes = 0

    def spend(self, size_bytes: int) -> None:
        """Count bytes that went over the wire."""
        with self._lock:
            self._fill()
            self._balance -= size_bytes
            self.spent_bytes += size_bytes

    def wait_s(self, size_bytes: int) -> float:
        """How long until `size_bytes` may be sent; 0: now. More than the bucket holds may go when it is full."""
        with self._lock:
            self._fill()
            missing = min(size_bytes, self._capacity) - self._balance
            return max(0.0, missing / self._rate) if self._is_bounded else 0.0

    def plan(self, waiting_bytes: int) -> SavingPlan:
        """How much to save while `waiting_bytes` wait to be sent."""
        if not self._is_bounded:
            return NO_SAVING
        with self._lock:
            self._fill()
            level = (self._balance - waiting_bytes) / self._capacity
            self._is_paused = level < (_RESUMES_AT if self._is_paused else _PAUSES_BELOW)
            if self._is_paused:
                return PAUSE
        return next(plan for least, plan in _PLANS if level >= least)

    def save(self, unix_s: float, boot_id: str) -> SavedBudget:
        with self._lock:
            self._fill()
            return SavedBudget(self._balance, unix_s, boot_id, self._at_s)

    def restore(self, saved: SavedBudget, unix_s: float, boot_id: str) -> None:
        """Continue from an earlier process. Within one boot, the time between them is monotonic time."""
        away_s = self._monotonic_s() - saved.monotonic_s if saved.boot_id == boot_id else unix_s - saved.at_s
        away_s = min(_DAY_S, max(0.0, away_s))
        with self._lock:
            self._balance = min(self._capacity, saved.balance + self._rate * away_s)

    def _fill(self) -> None:
        now_s = self._monotonic_s()
        self._balance = min(self._capacity, self._balance + self._rate * (now_s - self._at_s))
        self._at_s = now_s


def heartbeat_every_s(every_s: float, mb_per_day: float | None) -> float:
    """The interval of a camera's heartbeats: `every_s`, or longer where its budget is small."""
    least_s = 0.0 if mb_per_day is None else heartbeat_bytes(1.0) / (mb_per_day * 1e6 * _HEARTBEATS)
    return max(every_s, least_s)


def heartbeat_bytes(every_s: float) -> float:
    """What heartbeats at this interval take in a day, headers and answers included."""
    return _DAY_S / every_s * wire_bytes(_HEARTBEAT_BYTES)


def wire_bytes(payload_bytes: int) -> int:
    """What a TCP payload takes on the wire, packet headers and acknowledgements included."""
    segments = -(-payload_bytes // _SEGMENT_BYTES)
    return payload_bytes + segments * _SEGMENT_HEAD_BYTES
