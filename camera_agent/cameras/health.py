"""Whether a camera's pictures can be trusted; if not, why and since when.

A working camera gives pictures with some contrast, and its noise makes no two of them the same. The same bytes for
`stuck_after_s`, or a black or even picture for `_BLANK_AFTER_S`, are a camera failure: the camera is opened again with
growing delays, and nothing is sent until it recovers. A dark night without a lamp counts as a failure, too.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from camera_agent.imaging.frame import CameraFailure, Frame, Thumbnail, tones
from camera_agent.network.addresses import without_secrets

LEAST_CONTRAST = 2.5
"""A picture with less contrast shows nothing."""
_BLANK_AFTER_S = 10.0
_DARK_BELOW = 12.0

CameraState = Literal["starting", "watching", "blind", "paused", "finished", "stopped"]


class Condition(msgspec.Struct, frozen=True):
    """A camera's condition. `since_s` and `last_frame_s` are monotonic instants; by `next_burst_by_s`, the next burst
    is complete. `damaged` pictures were passed over, `mended` ones had a faulty start or end, since the agent started.
    """

    state: CameraState = "starting"
    cause: str | None = None
    detail: str | None = None
    since_s: float = 0.0
    last_frame_s: float | None = None
    next_burst_by_s: float | None = None
    damaged: int = 0
    mended: int = 0


class CameraHealth:
    """The health of one camera. One thread at a time may change it, and any may read it."""

    def __init__(self, since_s: float, *, stuck_after_s: float) -> None:
        self._stuck_after_s = stuck_after_s
        self._condition = Condition(since_s=since_s)
        self._last_digest = b""
        self._same_since_s = since_s
        self._blank_since_s: float | None = None

    def read(self) -> Condition:
        return self._condition

    def check(self, frame: Frame) -> None:
        """Take in a new frame. Raises `CameraFailure` when it cannot be trusted."""
        self._check_stuck(frame)
        self._check_tones(frame.thumbnail, frame.at_s)
        self.set_state("watching", frame.at_s, last_frame_s=frame.at_s)
        if frame.is_mended:
            self._condition = msgspec.structs.replace(self._condition, mended=self._condition.mended + 1)

    def record_failure(self, failure: CameraFailure, at_s: float) -> None:
        """The camera is blind, and no burst is expected."""
        self.set_state("blind", at_s, failure.cause, detail=without_secrets(str(failure)), next_burst_by_s=None)

    def set_state(
        self,
        state: CameraState,
        at_s: float,
        cause: str | None = None,
        *,
        detail: str | None = None,
        **fields: float | None,
    ) -> None:
        """Set the state and other fields. An unchanged state with an unchanged cause keeps its beginning."""
        old = self._condition
        fields["since_s"] = old.since_s if (old.state, old.cause) == (state, cause) else at_s
        self._condition = msgspec.structs.replace(old, state=state, cause=cause, detail=detail, **fields)

    def expect_burst_by(self, monotonic_s: float | None) -> None:
        """When the next burst is complete; None when none is expected."""
        self._condition = msgspec.structs.replace(self._condition, next_burst_by_s=monotonic_s)

    def count_damaged(self) -> None:
        """A picture was passed over."""
        self._condition = msgspec.structs.replace(self._condition, damaged=self._condition.damaged + 1)

    def _check_stuck(self, frame: Frame) -> None:
        digest = hashlib.blake2b(frame.jpeg, digest_size=16).digest()
        same_s = frame.at_s - self._same_since_s
        if digest != self._last_digest:
            self._last_digest, self._same_since_s = digest, frame.at_s
        elif same_s >= self._stuck_after_s:
            raise CameraFailure(f"the same frame, to the byte, for {same_s:.0f} s", "camera_stuck")

    def _check_tones(self, thumbnail: Thumbnail, at_s: float) -> None:
        mean, contrast = tones(thumbnail)
        if contrast >= LEAST_CONTRAST:
            self._blank_since_s = None
            return
        self._blank_since_s = at_s if self._blank_since_s is None else self._blank_since_s
        if at_s - self._blank_since_s < _BLANK_AFTER_S:
            return
        measured = f"brightness {mean:.0f} of 255, contrast {contrast:.1f}"
        if mean < _DARK_BELOW:
            raise CameraFailure(f"black: {measured}", "camera_dark")
        raise CameraFailure(f"one even tone, as if the lens were covered: {measured}", "camera_covered")
