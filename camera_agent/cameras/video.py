"""A recorded video as footage: the instant of a picture is its index divided by the rate, whatever the time is
now.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2

from camera_agent.capture.recording_bursts import Picture
from camera_agent.imaging.failure import CameraFailure
from camera_agent.imaging.frame import Seen
from camera_agent.imaging.masks import Form
from camera_agent.imaging.opencv import encode_jpeg, grey, open_capture, paint


class Video:
    """A file that OpenCV's FFmpeg reads. It is always read from its beginning, picture by picture: seeking is
    not exact in every format, and the same picture must be found again after a restart.
    """

    def __init__(self, path: Path, form: Form, *, pictures_per_s: float | None = None) -> None:
        self._path = path
        self._form = form
        self._pictures_per_s = pictures_per_s
        self._capture: cv2.VideoCapture | None = None

    def open(self) -> None:
        """Raises `CameraFailure` when it is no video, or names no rate and none was set."""
        self.close()
        self._capture = open_capture(str(self._path))
        if self._pictures_per_s is None:
            self._pictures_per_s = self._capture.get(cv2.CAP_PROP_FPS)
        if not 0 < self._pictures_per_s < 1000:
            raise CameraFailure("the video names no usable rate: set `pictures_per_s`")

    def fingerprint(self) -> str:
        return f"video {self._path.stat().st_size} {self._rate():.6f}"

    def started_ms(self) -> int | None:
        """A video does not say when it was taken."""
        return None

    def duration_s(self) -> float:
        """As the file's header has it, or counted where the header has nothing."""
        count = int(self._opened().get(cv2.CAP_PROP_FRAME_COUNT))
        if count <= 0:
            count = sum(1 for _ in self.pictures())
            self.open()
        return count / self._rate()

    def pictures(self) -> Iterator[Picture]:
        """Every picture once, oldest first, from where the file stands: call it once after `open()`."""
        capture = self._opened()
        index = 0
        while capture.grab():
            yield Picture(number=index, at_s=index / self._rate(), look=self._look)
            index += 1

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _look(self) -> Seen:
        is_whole, picture = self._opened().retrieve()
        if not is_whole:
            raise CameraFailure("a picture of the video cannot be decoded")
        paint(picture, self._form.masks)
        return Seen(encode_jpeg(picture, self._form), grey(picture))

    def _rate(self) -> float:
        if self._pictures_per_s is None:
            raise CameraFailure("the video is not open")
        return self._pictures_per_s

    def _opened(self) -> cv2.VideoCapture:
        if self._capture is None:
            raise CameraFailure("the video is not open")
        return self._capture
