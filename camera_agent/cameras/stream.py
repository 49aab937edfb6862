"""A camera that never stops sending: an OpenCV device, RTSP, MJPEG over HTTP.

Such a source must be read all the time: what is left in its buffers would be given, ever older, to whoever asks
next. A thread takes every picture off the stream and decodes to pixels only the one that was asked for.
"""

from __future__ import annotations

import threading
import time

import cv2
from cv2.typing import MatLike

from camera_agent.cameras.failure import CameraFailure
from camera_agent.cameras.opencv import encode_jpeg, grey, open_capture, paint
from camera_agent.look import Look
from camera_agent.masks import Form

_JOIN_S = 1.0


class Stream:
    """A live camera behind OpenCV. `still()` gives the first picture that arrives after the call."""

    def __init__(self, source: int | str, *, timeout_s: float) -> None:
        self._source = source
        self._timeout_s = timeout_s
        self._reader: _Reader | None = None

    def open(self) -> None:
        """Connect and begin to read. Raises `CameraFailure`."""
        capture = open_capture(self._source, timeout_s=self._timeout_s)
        self._reader = _Reader(capture)
        self._reader.start()

    def still(self, form: Form) -> Look:
        """The next picture. Raises `CameraFailure` when the stream ended or nothing came in time."""
        if self._reader is None:
            raise CameraFailure("the camera is not open")
        picture, at_s = self._reader.next_picture(self._timeout_s)
        paint(picture, form.masks)
        return Look(jpeg=encode_jpeg(picture, form), at_s=at_s, grey=grey(picture))

    def close(self) -> None:
        if self._reader is not None:
            self._reader.stop()
            self._reader = None


class _Reader(threading.Thread):
    """Owns the capture: only this thread touches it, and it releases it when it ends."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        super().__init__(name="stream-reader", daemon=True)  # a read that hangs must not keep the process alive
        self._capture = capture
        self._changed = threading.Condition()
        self._is_wanted = False
        self._is_over = False
        self._picture: tuple[MatLike, float] | None = None

    def next_picture(self, timeout_s: float) -> tuple[MatLike, float]:
        with self._changed:
            self._picture = None
            self._is_wanted = True
            self._changed.wait_for(lambda: self._picture is not None or self._is_over, timeout_s)
            if (picture := self._taken()) is not None:
                return picture
            raise CameraFailure("the stream ended" if self._is_over else f"no picture came within {timeout_s:g} s")

    def stop(self) -> None:
        with self._changed:
            self._is_over = True
        self.join(_JOIN_S)

    def run(self) -> None:
        try:
            while not self._is_over and self._capture.grab():
                at_s = time.monotonic()
                if self._is_wanted:
                    self._hand_over(at_s)
        finally:
            self._capture.release()
            with self._changed:
                self._is_over = True
                self._changed.notify_all()

    def _taken(self) -> tuple[MatLike, float] | None:
        picture, self._picture = self._picture, None
        return picture

    def _hand_over(self, at_s: float) -> None:
        is_whole, picture = self._capture.retrieve()
        if not is_whole:
            return
        with self._changed:
            self._picture = (picture, at_s)
            self._is_wanted = False
            self._changed.notify_all()
