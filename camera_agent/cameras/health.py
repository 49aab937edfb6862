"""Whether what a camera gives can be believed, and since when, and if not, why: nobody has to guess.

A camera that works gives pictures with some contrast, no two of them alike to the byte (its noise sees to that).
The same frame for `stuck_after_s`, or a black or even one for `_BLANK_AFTER_S`, is a failure like any other: the
camera is opened again, less and less often, and until it is well nothing of it is sent. A dark night without a
lamp is blindness too, and is said to be.
"""

from __future__ import annotations

import hashlib
import threading
from typing import Literal

import msgspec

from camera_agent.imaging.failure import CameraFailure
from camera_agent.imaging.frame import Grey, Look, tones

EVEN_BELOW = 2.5
"""The contrast under which a picture shows nothing."""
_BLANK_AFTER_S = 10.0
_DARK_BELOW = 12.0

CameraState = Literal["starting", "watching", "blind", "paused", "finished", "stopped"]


class Condition(msgspec.Struct, frozen=True):
    """How a camera is. `since_s` and `last_frame_s` are monotonic instants; `next_burst_by_s` is the latest one at
    which its next burst is whole.
    """

    state: CameraState = "starting"
    cause: str | None = None
    detail: str | None = None
    since_s: float = 0.0
    last_frame_s: float | None = None
    next_burst_by_s: float | None = None


class Health:
    """One camera's. Read and written from several threads."""

    def __init__(self, since_s: float, *, stuck_after_s: float) -> None:
        self._stuck_after_s = stuck_after_s
        self._lock = threading.Lock()
        self._condition = Condition(since_s=since_s)
        self._last_digest = b""
        self._same_since_s = since_s
        self._blank_since_s: float | None = None

    def read(self) -> Condition:
        with self._lock:
            return self._condition

    def saw(self, look: Look) -> None:
        """A picture came. Raises `CameraFailure` when it cannot be believed."""
        self._judge_sameness(look)
        self._judge_tones(look.grey, look.at_s)
        with self._lock:
            self._set("watching", None, None, look.at_s)
            self._condition = msgspec.structs.replace(self._condition, last_frame_s=look.at_s)

    def failed(self, failure: CameraFailure, at_s: float) -> None:
        with self._lock:
            self._set("blind", failure.cause, str(failure), at_s)

    def is_now(self, state: CameraState, at_s: float, cause: str | None = None) -> None:
        """Set by what the agent does, not by what the camera gives."""
        with self._lock:
            self._set(state, cause, None, at_s)

    def expect(self, next_burst_by_s: float | None) -> None:
        with self._lock:
            self._condition = msgspec.structs.replace(self._condition, next_burst_by_s=next_burst_by_s)

    def _set(self, state: CameraState, cause: str | None, detail: str | None, at_s: float) -> None:
        was = self._condition
        since_s = was.since_s if (was.state, was.cause) == (state, cause) else at_s
        self._condition = msgspec.structs.replace(was, state=state, cause=cause, detail=detail, since_s=since_s)

    def _judge_sameness(self, look: Look) -> None:
        digest = hashlib.blake2b(look.jpeg, digest_size=16).digest()
        if digest != self._last_digest:
            self._last_digest, self._same_since_s = digest, look.at_s
        elif look.at_s - self._same_since_s >= self._stuck_after_s:
            since_s = look.at_s - self._same_since_s
            raise CameraFailure(f"the same frame, to the byte, for {since_s:.0f} s", "camera_stuck")

    def _judge_tones(self, grey: Grey, at_s: float) -> None:
        mean, spread = tones(grey)
        if spread >= EVEN_BELOW:
            self._blank_since_s = None
            return
        self._blank_since_s = at_s if self._blank_since_s is None else self._blank_since_s
        if at_s - self._blank_since_s < _BLANK_AFTER_S:
            return
        measured = f"brightness {mean:.0f} of 255, contrast {spread:.1f}"
        if mean < _DARK_BELOW:
            raise CameraFailure(f"black: {measured}", "camera_dark")
        raise CameraFailure(f"one even tone, as of a covered lens: {measured}", "camera_covered")
