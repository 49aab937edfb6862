"""The newest picture of a source that never stops sending.

Such a source must be read all the time: what is left in its buffers would be given, ever older, to whoever asks
next. A thread takes every picture off the source, holds none of them, and makes something only of the one that was
asked for.
"""

from __future__ import annotations

import threading
import time
from typing import Generic, Protocol, TypeVar

from camera_agent.imaging.failure import CameraFailure

_JOIN_S = 1.0

Picture = TypeVar("Picture")
Given = TypeVar("Given", covariant=True)


class Source(Protocol[Given]):
    """A connection that gives pictures. Only one thread touches it."""

    def advance(self) -> bool:
        """Take the next picture off; may wait, not without bound. False, or `CameraFailure`, where there is none."""
        ...

    def picture(self) -> Given | None:
        """What `advance` took off; None where it cannot be used."""
        ...

    def release(self) -> None: ...


class Reader(threading.Thread, Generic[Picture]):
    """Owns the source, and releases it when it ends."""

    def __init__(self, source: Source[Picture]) -> None:
        super().__init__(name="picture-reader", daemon=True)  # a read that hangs must not keep the process alive
        self._source = source
        self._changed = threading.Condition()
        self._is_wanted = False
        self._is_over = False
        self._failure: CameraFailure | None = None
        self._picture: tuple[Picture, float] | None = None

    def next_picture(self, timeout_s: float) -> tuple[Picture, float]:
        """The first picture that comes after this call, and its monotonic instant. Raises `CameraFailure`."""
        with self._changed:
            self._picture = None
            self._is_wanted = True
            self._changed.wait_for(lambda: self._picture is not None or self._is_over, timeout_s)
            if (picture := self._taken()) is not None:
                return picture
            if self._is_over:
                raise self._failure or CameraFailure("the stream ended")
            raise CameraFailure(f"no picture came within {timeout_s:g} s", "camera_hangs")

    def stop(self) -> None:
        with self._changed:
            self._is_over = True
        self.join(_JOIN_S)

    def run(self) -> None:
        try:
            while not self._is_over and self._source.advance():
                if self._is_wanted:
                    self._hand_over(time.monotonic())
        except CameraFailure as failure:
            self._failure = failure
        finally:
            self._source.release()
            with self._changed:
                self._is_over = True
                self._changed.notify_all()

    def _taken(self) -> tuple[Picture, float] | None:
        picture, self._picture = self._picture, None
        return picture

    def _hand_over(self, at_s: float) -> None:
        picture = self._source.picture()
        if picture is None:
            return
        with self._changed:
            self._picture = (picture, at_s)
            self._is_wanted = False
            self._changed.notify_all()
