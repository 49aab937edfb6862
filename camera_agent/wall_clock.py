"""The wall clock's offset from the monotonic clock, and how far it can be trusted.

The agent orders and spaces frames by the monotonic clock alone. Their wall-clock instants come from the best source:

1. the machine's clock while it is synchronised, within the kernel's error bound;
2. the server's `Date` header (RFC 9110, section 6.6.1), which has whole seconds;
3. the machine's clock, with an unknown error. If it shows a time before `_NEVER_BEFORE_S`, it was never set (a board
   without a battery boots in 1970), and bursts wait until the time is known.

A burst taken with an unknown error gets new instants when the time becomes known within the same boot.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from camera_agent.burst import ClockReading, Envelope
from camera_agent.clock import Clock, boot_id, iso_ms, synchronised_within_s, unix_s_of

_log = logging.getLogger(__name__)
_NEVER_BEFORE_S = 1_735_689_600  # 2025-01-01
_DATE_ERROR_S = 2.0
"""`Date` has whole seconds, and the answer takes time to arrive."""
_DRIFT = 1e-4
_MAX_SLEWED_S = 5.0
_SLEW_RATE = 0.05


class Offset(NamedTuple):
    """Wall clock minus monotonic clock in seconds, and the bound of its error (None: unknown).

    `synced`: the machine's clock is synchronised. `is_set`: the clock was set since the machine started.
    """

    ahead_s: float
    synced: bool
    uncertainty_s: float | None
    is_set: bool


class WallClock:
    """Safe to use from several threads."""

    def __init__(self, clock: Clock, within_s: Callable[[], float | None] = synchronised_within_s) -> None:
        self._clock = clock
        self._within_s = within_s
        self._lock = threading.Lock()
        self._server_offset: tuple[float, float] | None = None
        self._last: tuple[float, float] | None = None

    def offset(self) -> Offset:
        """The best offset known now.

        A correction of up to `_MAX_SLEWED_S` is spread over time, so that bursts do not overlap. A larger one is
        applied at once.
        """
        best = self._best_offset()
        now_s = self._clock.monotonic_s()
        with self._lock:
            last_s, since_s = self._last or (best.ahead_s, now_s)
            step_s = best.ahead_s - last_s
            if abs(step_s) <= _MAX_SLEWED_S:
                limit_s = _SLEW_RATE * max(0.0, now_s - since_s)
                step_s = min(limit_s, max(-limit_s, step_s))
            ahead_s = last_s + step_s
            self._last = (ahead_s, now_s)
        if best.uncertainty_s is None:
            return best._replace(ahead_s=ahead_s)
        return best._replace(ahead_s=ahead_s, uncertainty_s=best.uncertainty_s + abs(best.ahead_s - ahead_s))

    def unix_ms(self) -> int:
        """The present wall-clock time."""
        return round((self._clock.monotonic_s() + self.offset().ahead_s) * 1000)

    def observe_date(self, date: str | None) -> None:
        """Take in the `Date` header of an answer that has just arrived."""
        server_s = unix_s_of(date)
        if server_s is None:
            return
        now_s = self._clock.monotonic_s()
        own_ahead_s = self._clock.unix_s() - now_s
        server_ahead_s = server_s + 0.5 - now_s
        with self._lock:
            known_s = own_ahead_s if self._server_offset is None else self._server_offset[0]
            agrees = abs(server_ahead_s - known_s) <= _DATE_ERROR_S
            # A known offset that agrees is finer than the whole seconds of `Date`.
            self._server_offset = (known_s if agrees else server_ahead_s, now_s)
        if not agrees and self._within_s() is None:
            _log.warning("clock_off", extra={"by_s": own_ahead_s - server_ahead_s, "used": "the server's time"})

    def retimed(self, envelope: Envelope) -> Envelope | None:
        """The envelope with instants by the present offset; None when the offset is unknown, or of another boot."""
        clock, offset = envelope.clock, self.offset()
        if clock.boot_id != boot_id() or offset.uncertainty_s is None:
            return None
        replace = msgspec.structs.replace
        captured_ms = clock.monotonic_ms + round(offset.ahead_s * 1000)
        better = replace(clock, uncertainty_s=offset.uncertainty_s)
        return replace(envelope, captured_at=iso_ms(captured_ms), clock=better)

    def clock_reading(self, monotonic_ms: int) -> ClockReading:
        """The `clock` part of an envelope whose first frame was taken at `monotonic_ms`."""
        offset = self.offset()
        return ClockReading(offset.synced, boot_id(), monotonic_ms, offset.uncertainty_s)

    def _best_offset(self) -> Offset:
        monotonic_s, unix_s = self._clock.monotonic_s(), self._clock.unix_s()
        is_set = unix_s >= _NEVER_BEFORE_S
        bound_s = self._within_s()
        if bound_s is not None and is_set:
            return Offset(unix_s - monotonic_s, synced=True, uncertainty_s=bound_s, is_set=True)
        with self._lock:
            server_offset = self._server_offset
        if server_offset is not None:
            ahead_s, at_s = server_offset
            error_s = _DATE_ERROR_S + _DRIFT * max(0.0, monotonic_s - at_s)
            return Offset(ahead_s, synced=False, uncertainty_s=error_s, is_set=True)
        return Offset(unix_s - monotonic_s, synced=False, uncertainty_s=None, is_set=is_set)


def was_clock_unset(envelope: Envelope) -> bool:
    """Whether the burst was taken before the clock was set; no server accepts such a burst."""
    return envelope.captured_at < iso_ms(_NEVER_BEFORE_S * 1000)
