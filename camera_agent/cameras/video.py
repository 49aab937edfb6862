"""A video file as a recording: the instant of a picture is its index divided by the picture rate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2

from camera_agent.cameras.camera import RecordedPicture
from camera_agent.imaging.frame import CameraFailure, EncodedPicture, FrameFormat
from camera_agent.imaging.opencv import encode_picture, open_capture


class Video:
    """A file that OpenCV's FFmpeg reads.

    It is always read from its beginning: seeking is not exact in every format, and the same picture must be found
    again after a restart.
    """

    def __init__(self, path: Path, frame_format: FrameFormat, *, pictures_per_s: float | None = None) -> None:
        self._path = path
        self._frame_format = frame_format
        self._pictures_per_s = pictures_per_s
        self._rate = 0.0
        self._capture = cv2.VideoCapture()

    def open(self) -> None:
        """Raises `CameraFailure` when it is no video, or has no rate and none was set."""
        self.close()
        self._capture = open_capture(str(self._path))
        self._rate = self._pictures_per_s or self._capture.get(cv2.CAP_PROP_FPS)
        if not 0 < self._rate < 1000:
            raise CameraFailure("the video names no usable rate: set `pictures_per_s`")

    def fingerprint(self) -> str:
        return f"video {self._path.stat().st_size} {self._rate:.6f}"

    def started_ms(self) -> int | None:
        """None: a video does not say when it was taken."""
        return None

    def duration_s(self) -> float:
        """From the file's header, or counted where the header does not say."""
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if count <= 0:
            count = sum(1 for _ in self.pictures())
            self.open()
        return count / self._rate

    def pictures(self) -> Iterator[RecordedPicture]:
        index = 0
        while self._capture.grab():
            yield RecordedPicture(index, index / self._rate, self._read)
            index += 1

    def close(self) -> None:
        self._capture.release()

    def _read(self) -> EncodedPicture:
        is_whole, picture = self._capture.retrieve()
        if not is_whole:
            raise CameraFailure("a picture of the video cannot be decoded")
        return encode_picture(picture, self._frame_format)
