"""Staying inside so many megabytes a day, at the least cost in what is seen.

A bucket of a quarter of the day's bytes fills at the rate of the other three quarters, so that no 24 hours, wherever
they begin, exceed the whole. Everything that goes over the wire is taken out of it: heads, answers, packet heads,
repeats. How full it is, less what already waits to be sent, says how sparing the camera must be: first smaller
JPEGs and rarer heartbeat frames, then fewer frames of the schedule, last fewer of what the gate saw; with nothing
left it pauses, and says so. A burst that does not fit waits in the spool.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from camera_agent.imaging.masks import Form

_DAY_S = 86_400.0
_BUCKET = 0.25
_LEAST_QUALITY = 30
_HEARTBEATS = 0.1
"""The most of a day's bytes that they may take: a camera that can send nothing else is of no use."""
_HEARTBEAT_BYTES = 1500
_SEGMENT_BYTES = 1448
_SEGMENT_HEAD_BYTES = 78
"""IPv4, TCP with timestamps, and half an acknowledgement of the same size."""


class Plan(NamedTuple):
    """How sparing to be: JPEG quality lower by `worse`, heartbeat frames `rarer` times as far apart, frames of the
    schedule and of the gate so many times the spacing apart.
    """

    level: int
    worse: int = 0
    rarer: int = 1
    thin_schedule: int = 1
    thin_gate: int = 1

    @property
    def is_paused(self) -> bool:
        return self.level == PAUSED.level

    def form(self, form: Form) -> Form:
        if not self.worse:
            return form
        quality = min(form.quality, max(_LEAST_QUALITY, form.quality - self.worse))
        return msgspec.structs.replace(form, quality=quality, is_thrifty=True)


FREELY = Plan(0)
PAUSED = Plan(4)
_PLANS = (
    (0.50, FREELY),
    (0.35, Plan(1, worse=15, rarer=2)),
    (0.20, Plan(2, worse=30, rarer=4, thin_schedule=2)),
    (float("-inf"), Plan(3, worse=45, rarer=8, thin_schedule=4, thin_gate=2)),
)
_PAUSES_BELOW = 0.05
_RESUMES_AT = 0.2


class Saved(msgspec.Struct, frozen=True):
    """What is kept over a restart. `at_s` is Unix time; the monotonic clock counts within the boot of that id."""

    balance: float
    at_s: float
    boot_id: str = ""
    monotonic_s: float = 0.0


class Budget:
    """One camera's. `bytes_per_day` None: no bound, everything freely. Safe to use from several threads."""

    def __init__(self, bytes_per_day: float | None, monotonic_s: Callable[[], float]) -> None:
        self._rate = 0.0 if bytes_per_day is None else bytes_per_day * (1 - _BUCKET) / _DAY_S
        self._capacity = 0.0 if bytes_per_day is None else bytes_per_day * _BUCKET
        self._is_bounded = bytes_per_day is not None
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._balance = self._capacity
        self._at_s = monotonic_s()
        self._is_paused = False
        self.spent_bytes = 0

    def spend(self, size_bytes: int) -> None:
        """So much went over the wire."""
        with self._lock:
            self._fill()
            self._balance -= size_bytes
            self.spent_bytes += size_bytes

    def wait_s(self, size_bytes: int) -> float:
        """How long until so much may be sent; 0: now. More than the whole bucket may go when it is full."""
        with self._lock:
            self._fill()
            missing = min(size_bytes, self._capacity) - self._balance
            return max(0.0, missing / self._rate) if self._is_bounded else 0.0

    def plan(self, waiting_bytes: int) -> Plan:
        """How sparing to be, with so much still to be sent."""
        if not self._is_bounded:
            return FREELY
        with self._lock:
            self._fill()
            fullness = (self._balance - waiting_bytes) / self._capacity
            self._is_paused = fullness < (_RESUMES_AT if self._is_paused else _PAUSES_BELOW)
            if self._is_paused:
                return PAUSED
        return next(plan for least, plan in _PLANS if fullness >= least)

    def save(self, unix_s: float, boot_id: str) -> Saved:
        with self._lock:
            self._fill()
            return Saved(self._balance, unix_s, boot_id, self._at_s)

    def restore(self, saved: Saved, unix_s: float, boot_id: str) -> None:
        """Go on from an earlier process; a clock that was set since, in the same boot, gives nothing away."""
        away_s = self._monotonic_s() - saved.monotonic_s if saved.boot_id == boot_id else unix_s - saved.at_s
        away_s = min(_DAY_S, max(0.0, away_s))
        with self._lock:
            self._balance = min(self._capacity, saved.balance + self._rate * away_s)

    def _fill(self) -> None:
        now_s = self._monotonic_s()
        self._balance = min(self._capacity, self._balance + self._rate * (now_s - self._at_s))
        self._at_s = now_s


def heartbeat_every_s(every_s: float, mb_per_day: float | None) -> float:
    """How often a camera's heartbeat is sent that is wished for so often; rarer where its budget is small."""
    least_s = 0.0 if mb_per_day is None else heartbeat_bytes(1.0) / (mb_per_day * 1e6 * _HEARTBEATS)
    return max(every_s, least_s)


def heartbeat_bytes(every_s: float) -> float:
    """What heartbeats so often take in a day, heads and answers included."""
    return _DAY_S / every_s * wire_bytes(_HEARTBEAT_BYTES)


def wire_bytes(payload_bytes: int) -> int:
    """What a payload of TCP takes on the wire, packet heads and acknowledgements included."""
    segments = -(-payload_bytes // _SEGMENT_BYTES)
    return payload_bytes + segments * _SEGMENT_HEAD_BYTES
