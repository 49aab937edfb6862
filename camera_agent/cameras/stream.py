"""A camera that OpenCV reads: a device (V4L2), RTSP, or another address that FFmpeg reads."""

from __future__ import annotations

import os
import time

import cv2
from cv2.typing import MatLike

from camera_agent.cameras.diagnose import open_failure
from camera_agent.cameras.latest_frame import LatestFrameReader
from camera_agent.imaging.failure import CameraFailure
from camera_agent.imaging.frame import Frame, FrameFormat
from camera_agent.imaging.opencv import encode_picture, open_capture

_FFMPEG = "rtsp_transport;tcp|fpsprobesize;0"
"""TCP, since a lost UDP packet smears the picture. No probing of the picture rate, which takes two seconds."""
_WAITED_S = 0.01
_MAX_BACKLOG_S = 5.0


class Stream:
    """`frame()` gives the first picture that arrives after the call."""

    def __init__(self, source: int | str, *, timeout_s: float) -> None:
        self._source = source
        self._timeout_s = timeout_s
        self._reader: LatestFrameReader[MatLike] | None = None

    def open(self) -> None:
        """Connect and start to read. Raises `CameraFailure`."""
        os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", _FFMPEG)
        try:
            capture = open_capture(self._source, timeout_s=self._timeout_s)
        except CameraFailure as failure:
            raise open_failure(self._source, self._timeout_s) from failure
        self._reader = LatestFrameReader(_Capture(capture, self._timeout_s))
        self._reader.start()

    def frame(self, frame_format: FrameFormat) -> Frame:
        """The next picture. Raises `CameraFailure` when the stream ended or nothing came in time."""
        if self._reader is None:
            raise CameraFailure("the camera is not open")
        picture, at_s = self._reader.next_picture(self._timeout_s)
        jpeg, thumbnail = encode_picture(picture, frame_format)
        return Frame(jpeg, at_s, thumbnail)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.stop()
            self._reader = None


class _Capture:
    """OpenCV's capture as a source: `grab` takes a picture off, `retrieve` decodes it.

    What FFmpeg reads while it opens a stream forms a backlog that comes at once. These pictures are older than their
    arrival, and are skipped. When FFmpeg's timeout ends, OpenCV still hands out what the decoder held; that is an
    error here.
    """

    def __init__(self, capture: cv2.VideoCapture, timeout_s: float) -> None:
        self._capture = capture
        self._timeout_s = timeout_s
        self._backlog_until_s = time.monotonic() + _MAX_BACKLOG_S

    def advance(self) -> bool:
        began_s = time.monotonic()
        has_picture = self._capture.grab()
        now_s = time.monotonic()
        if now_s - began_s >= self._timeout_s:
            raise CameraFailure(f"no picture came within {self._timeout_s:g} s", "camera_hangs")
        if now_s - began_s >= _WAITED_S:
            self._backlog_until_s = now_s
        return has_picture

    def picture(self) -> MatLike | None:
        if time.monotonic() < self._backlog_until_s:
            return None
        is_whole, picture = self._capture.retrieve()
        return picture if is_whole else None

    def release(self) -> None:
        self._capture.release()
