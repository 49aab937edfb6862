"""A camera behind OpenCV that never stops sending: a device (V4L2), RTSP, or what else FFmpeg reads from an address."""

from __future__ import annotations

import cv2
from cv2.typing import MatLike

from camera_agent.cameras.failure import CameraFailure
from camera_agent.cameras.newest import Reader
from camera_agent.cameras.opencv import encode_jpeg, grey, open_capture, paint
from camera_agent.look import Look
from camera_agent.masks import Form


class Stream:
    """`still()` gives the first picture that arrives after the call."""

    def __init__(self, source: int | str, *, timeout_s: float) -> None:
        self._source = source
        self._timeout_s = timeout_s
        self._reader: Reader[MatLike] | None = None

    def open(self) -> None:
        """Connect and begin to read. Raises `CameraFailure`."""
        self._reader = Reader(_Capture(open_capture(self._source, timeout_s=self._timeout_s)))
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


class _Capture:
    """OpenCV's capture as a source: to grab takes a picture off, to retrieve makes pixels of it."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture

    def advance(self) -> bool:
        return self._capture.grab()

    def picture(self) -> MatLike | None:
        is_whole, picture = self._capture.retrieve()
        return picture if is_whole else None

    def release(self) -> None:
        self._capture.release()
