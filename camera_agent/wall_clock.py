"""What time it is, and how far that may be believed.

Order and spacing come from the monotonic clock alone; this says how far ahead of it the wall clock is. A kernel
clock that something keeps right is believed, within the kernel's own bound. Else the server is: every answer of it
carries its time (`Date`, RFC 9110 section 6.6.1), to a second. Else the machine's clock is taken as it is, with
an unknown error; and where it stands before this program was written it was never set (a board without a battery
boots in 1970), and no instant is made of it: such bursts wait until the time is known.

A burst whose instants were taken with an unknown error gets them anew when the time is known within the same boot:
its monotonic instant tells how long ago it was.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from camera_agent.burst import ClockReading, Envelope
from camera_agent.clock import Clock, boot_id, iso_ms, synchronised_within_s, unix_s_of
from camera_agent.logs import line

_log = logging.getLogger(__name__)
_NEVER_BEFORE_S = 1_735_689_600  # 2025-01-01: a clock that shows less was never set
_DATE_ERROR_S = 2.0
"""`Date` counts whole seconds, and the answer takes its time."""
_DRIFT = 1e-4
_SLEWED_S = 5.0
_SLEW = 0.05


class Reading(NamedTuple):
    """How far the wall clock is ahead of the monotonic one, whether it is kept right, and the bound of its error."""

    ahead_s: float
    synced: bool
    uncertainty_s: float | None
    is_set: bool

    @property
    def is_known(self) -> bool:
        return self.uncertainty_s is not None


class Timekeeper:
    """Safe to use from several threads."""

    def __init__(self, clock: Clock, within_s: Callable[[], float | None] = synchronised_within_s) -> None:
        self._clock = clock
        self._within_s = within_s
        self._lock = threading.Lock()
        self._told: tuple[float, float] | None = None
        self._shown: tuple[float, float] | None = None

    def reading(self) -> Reading:
        """The best that is known now. A small correction is spread over time, so that one burst does not reach into
        the next; a large one is made at once.
        """
        known = self._known()
        now_s = self._clock.monotonic_s()
        with self._lock:
            before, since_s = self._shown or (known.ahead_s, now_s)
            missing_s = known.ahead_s - before
            if abs(missing_s) <= _SLEWED_S:
                most_s = _SLEW * max(0.0, now_s - since_s)
                missing_s = min(most_s, max(-most_s, missing_s))
            self._shown = (before + missing_s, now_s)
        left_s = abs(known.ahead_s - before - missing_s)
        error_s = None if known.uncertainty_s is None else known.uncertainty_s + left_s
        return known._replace(ahead_s=before + missing_s, uncertainty_s=error_s)

    def _known(self) -> Reading:
        monotonic_s, unix_s = self._clock.monotonic_s(), self._clock.unix_s()
        is_set = unix_s >= _NEVER_BEFORE_S
        bound_s = self._within_s()
        if bound_s is not None and is_set:
            return Reading(unix_s - monotonic_s, synced=True, uncertainty_s=bound_s, is_set=True)
        with self._lock:
            told = self._told
        if told is not None:
            ahead_s, at_s = told
            error_s = _DATE_ERROR_S + _DRIFT * max(0.0, monotonic_s - at_s)
            return Reading(ahead_s, synced=False, uncertainty_s=error_s, is_set=True)
        return Reading(unix_s - monotonic_s, synced=False, uncertainty_s=None, is_set=is_set)

    def unix_ms(self) -> int:
        """Now, as well as it is known."""
        return round((self._clock.monotonic_s() + self.reading().ahead_s) * 1000)

    def heard(self, date: str | None) -> None:
        """The `Date` of an answer that has just come."""
        told_s = unix_s_of(date)
        if told_s is None:
            return
        now_s = self._clock.monotonic_s()
        own_ahead_s = self._clock.unix_s() - now_s
        ahead_s = told_s + 0.5 - now_s
        with self._lock:
            believed_s = own_ahead_s if self._told is None else self._told[0]
            agrees = abs(ahead_s - believed_s) <= _DATE_ERROR_S
            # What agrees with the server is finer than whole seconds: it is kept.
            self._told = (believed_s if agrees else ahead_s, now_s)
        if not agrees and self._within_s() is None:
            _log.warning(line("clock_off", by_s=own_ahead_s - ahead_s, used="the server's time"))

    def retimed(self, envelope: Envelope) -> Envelope | None:
        """The envelope with the instants that are known now; None where nothing better is known than when it was
        made.
        """
        clock, reading = envelope.clock, self.reading()
        if clock.boot_id != boot_id() or not reading.is_known:
            return None
        replace = msgspec.structs.replace
        captured_ms = clock.monotonic_ms + round(reading.ahead_s * 1000)
        better = replace(clock, uncertainty_s=reading.uncertainty_s)
        return replace(envelope, captured_at=iso_ms(captured_ms), clock=better)

    def reads(self, monotonic_ms: int) -> ClockReading:
        """The clock's part of an envelope whose first frame was taken at `monotonic_ms`."""
        reading = self.reading()
        return ClockReading(reading.synced, boot_id(), monotonic_ms, reading.uncertainty_s)


def is_unset(envelope: Envelope) -> bool:
    """Whether the burst was taken with a clock that was never set, so that no server can take it as it is."""
    return envelope.captured_at < iso_ms(_NEVER_BEFORE_S * 1000)
