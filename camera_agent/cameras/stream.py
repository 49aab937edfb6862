"""A camera behind OpenCV that never stops sending: a device (V4L2), RTSP, or what else FFmpeg reads from an address."""

from __future__ import annotations

import os
import time

import cv2
from cv2.typing import MatLike

from camera_agent.cameras.diagnose import why_not
from camera_agent.cameras.latest_frame import Reader
from camera_agent.imaging.failure import CameraFailure
from camera_agent.imaging.frame import Look
from camera_agent.imaging.masks import Form
from camera_agent.imaging.opencv import encode_jpeg, grey, open_capture, paint

_FFMPEG = "rtsp_transport;tcp|fpsprobesize;0"
"""TCP, since a lost packet of UDP smears the picture; and no two seconds of watching how fast the pictures come."""
_WAITED_S = 0.01
_LONGEST_BACKLOG_S = 5.0


class Stream:
    """`still()` gives the first picture that arrives after the call."""

    def __init__(self, source: int | str, *, timeout_s: float) -> None:
        self._source = source
        self._timeout_s = timeout_s
        self._reader: Reader[MatLike] | None = None

    def open(self) -> None:
        """Connect and begin to read. Raises `CameraFailure`."""
        os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", _FFMPEG)
        try:
            capture = open_capture(self._source, timeout_s=self._timeout_s)
        except CameraFailure as failure:
            raise why_not(self._source, self._timeout_s) from failure
        self._reader = Reader(_Capture(capture, self._timeout_s))
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
    """OpenCV's capture as a source: to grab takes a picture off, to retrieve makes pixels of it.

    What FFmpeg read while it opened the stream lies in a backlog, and comes at once: it is older than it seems, and
    let go by. Where it gives up waiting, OpenCV still hands out what the decoder held, as if it had just come.
    """

    def __init__(self, capture: cv2.VideoCapture, timeout_s: float) -> None:
        self._capture = capture
        self._timeout_s = timeout_s
        self._backlog_until_s = time.monotonic() + _LONGEST_BACKLOG_S

    def advance(self) -> bool:
        begun_s = time.monotonic()
        is_there = self._capture.grab()
        now_s = time.monotonic()
        if now_s - begun_s >= self._timeout_s:
            raise CameraFailure(f"no picture came within {self._timeout_s:g} s", "camera_hangs")
        if now_s - begun_s >= _WAITED_S:
            self._backlog_until_s = now_s
        return is_there

    def picture(self) -> MatLike | None:
        if time.monotonic() < self._backlog_until_s:
            return None
        is_whole, picture = self._capture.retrieve()
        return picture if is_whole else None

    def release(self) -> None:
        self._capture.release()
