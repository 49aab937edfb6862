"""The newest picture of a source that sends all the time.

Such a source must be read all the time: pictures left in its buffers would be old when they are asked for. A thread
takes every picture off the source and decodes only those that are asked for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from camera_agent.imaging.frame import CameraFailure, DamagedPicture, EncodedPicture, Frame, FrameFormat

_JOIN_S = 1.0

Picture = TypeVar("Picture")
PictureOut = TypeVar("PictureOut", covariant=True)


class Source(Protocol[PictureOut]):
    """A connection that gives pictures. Only one thread uses it."""

    def advance(self) -> bool:
        """Take the next picture off. May wait, but not without bound. False or `CameraFailure` where there is none."""

    def picture(self) -> PictureOut | None:
        """What `advance` took off; None where it is too old. Raises `DamagedPicture`."""

    def release(self) -> None: ...


class LatestFrameReader(threading.Thread, Generic[Picture]):
    """Reads the source until it ends or `stop` is called, then releases it."""

    def __init__(self, source: Source[Picture]) -> None:
        super().__init__(name="picture-reader", daemon=True)  # a read that hangs must not keep the process alive
        self._source = source
        self._changed = threading.Condition()
        self._is_wanted = False
        self._is_over = False
        self._failure: CameraFailure | None = None
        self._latest: list[tuple[Picture | DamagedPicture, float]] = []

    def next_picture(self, timeout_s: float) -> tuple[Picture, float]:
        """The first picture that comes after this call, and its monotonic instant.

        Raises `DamagedPicture` when that one is damaged, and `CameraFailure` when none comes.
        """
        with self._changed:
            self._latest.clear()
            self._is_wanted = True
            self._changed.wait_for(lambda: self._latest or self._is_over, timeout_s)
            if self._latest:
                picture, at_s = self._latest.pop()
                if isinstance(picture, DamagedPicture):
                    raise picture
                return picture, at_s
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
                at_s = time.monotonic()
                if self._is_wanted and (picture := self._picture()) is not None:
                    with self._changed:
                        self._latest, self._is_wanted = [(picture, at_s)], False
                        self._changed.notify_all()
        except CameraFailure as failure:
            self._failure = failure
        finally:
            self._source.release()
            with self._changed:
                self._is_over = True
                self._changed.notify_all()

    def _picture(self) -> Picture | DamagedPicture | None:
        try:
            return self._source.picture()
        except DamagedPicture as damage:
            return damage


class LatestFrameCamera(Generic[Picture]):
    """A camera that sends all the time. `frame()` gives the first picture that arrives after the call."""

    def __init__(
        self,
        connect: Callable[[], Source[Picture]],
        encode: Callable[[Picture, FrameFormat], EncodedPicture],
        timeout_s: float,
    ) -> None:
        self._connect = connect
        self._encode = encode
        self._timeout_s = timeout_s
        self._reader: LatestFrameReader[Picture] | None = None

    def open(self) -> None:
        """Connect and start to read. Raises `CameraFailure`."""
        self._reader = LatestFrameReader(self._connect())
        self._reader.start()

    def frame(self, frame_format: FrameFormat) -> Frame:
        """The next picture. Raises `DamagedPicture`; `CameraFailure` when the stream ended or nothing came in time."""
        if self._reader is None:
            raise CameraFailure("the camera is not open")
        picture, at_s = self._reader.next_picture(self._timeout_s)
        return Frame.of(self._encode(picture, frame_format), at_s)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.stop()
            self._reader = None
