"""A video file as a recording. A picture's instant is the file's own time stamp for it, also where the rate varies."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import msgspec

from camera_agent.cameras.camera import Recognised, RecordedPicture
from camera_agent.cameras.video_file import VideoContent, is_known, promised_bytes
from camera_agent.imaging.frame import CameraFailure, EncodedPicture, FrameFormat
from camera_agent.imaging.opencv import encode_picture, open_capture

_log = logging.getLogger(__name__)
_MAX_RATE = 1000
_PROBED_PICTURES = 50
_ROUNDING_S = 0.001
"""Many files keep stamps in whole milliseconds. A stamp as near as that to an even rate stands for the even rate."""
_MAX_GAP_S = 86_400.0
_NEW_CLIP_S = 1.0
"""Stamps that go back further than this begin anew, as where recordings were joined."""
_content = msgspec.json.Decoder(VideoContent)

_MISSING_S, _MISSING_PART = 1.0, 0.02
"""What a header may promise too much: sound that is longer than the pictures, or pictures cut away by an edit."""


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
        self._header_count, self._header_s = 0, 0.0
        self._seen, self._end_s = 0, 0.0
        self._capture = cv2.VideoCapture()

    def open(self) -> None:
        """Raises `CameraFailure` when it is no video, or has neither a rate nor time stamps and no rate was set."""
        self.close()
        try:
            self._capture = open_capture(str(self._path))
        except CameraFailure as failure:
            raise CameraFailure(f"{failure}; is the file whole?") from failure
        header_rate = self._capture.get(cv2.CAP_PROP_FPS)
        self._header_count = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self._rate = self._pictures_per_s or header_rate
        if not 0 < self._rate < _MAX_RATE:
            self._rate = self._rate_of_stamps()
        self._header_s = self._header_count / (self._pictures_per_s or (header_rate if header_rate > 0 else self._rate))
        self._seen, self._end_s = 0, 0.0

    def fingerprint(self) -> str:
        return f"video {self._path.stat().st_size} {self._rate:.6f}"

    def content(self) -> bytes:
        return msgspec.json.encode(VideoContent.of(self._path))

    def recognise(self, saved: bytes, played_ms: int) -> Recognised:
        """A file that has grown since is the same recording; path and modification time do not matter."""
        del played_ms
        return Recognised(is_known(self._path, _content.decode(saved)), self.content())

    def started_ms(self) -> int | None:
        """None: a video does not say when it was taken."""
        return None

    def duration_s(self) -> float:
        """From the file's header, or counted where the header does not say."""
        if self._header_count:
            return self._header_s
        for _ in self.pictures():
            pass
        counted_s = self._end_s
        self.open()
        return counted_s

    def pictures(self) -> Iterator[RecordedPicture]:
        timeline = _Timeline(self._rate)
        while self._capture.grab():
            number = self._seen
            if self._pictures_per_s is not None:
                at_s = number / self._pictures_per_s
            else:
                at_s = timeline.at_s(number, self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
                self._warn_of_stamps(timeline, number)
            self._seen, self._end_s = number + 1, at_s + 1 / self._rate
            yield RecordedPicture(number, at_s, self._read)
        if timeline.replaced > 1:
            _log.warning("video_stamps_replaced", extra={"video": self._path, "pictures": timeline.replaced})

    def shortfall(self) -> str:
        """A file whose header promises more pictures than it holds: cut off, or copied in part."""
        missing = self._header_count - self._seen
        missing_s = self._header_s - self._end_s
        promised, size = promised_bytes(self._path), self._path.stat().st_size
        is_cut = promised > size and missing > 0
        if not is_cut and (missing <= 1 or missing_s < max(_MISSING_S, _MISSING_PART * self._header_s)):
            return ""
        of_bytes = f"; it has {size:,} of {promised:,} bytes" if promised > size else ""
        return (
            f"the video ends after {self._end_s:.1f} s and {self._seen} pictures; its header promises "
            f"{self._header_s:.1f} s and {self._header_count} pictures{of_bytes}"
        )

    def close(self) -> None:
        self._capture.release()

    def _rate_of_stamps(self) -> float:
        """The mean rate of the first pictures, for a file whose header has none. Raises `CameraFailure`."""
        stamps_s = [
            self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 for _ in range(_PROBED_PICTURES) if self._capture.grab()
        ]
        self._capture = open_capture(str(self._path))
        span_s = stamps_s[-1] - stamps_s[0] if stamps_s else 0.0
        if not 0 < span_s < math.inf or not (rate := (len(stamps_s) - 1) / span_s) < _MAX_RATE:
            raise CameraFailure("the video names no usable rate and no time stamps: set `pictures_per_s`")
        return rate

    def _warn_of_stamps(self, timeline: _Timeline, number: int) -> None:
        if timeline.replaced == 1 and timeline.is_replaced:
            fields = {"video": self._path, "picture": number, "timed_by_rate": self._rate}
            _log.warning("video_stamps_unusable", extra={**fields, "cause": "the time stamps do not increase"})

    def _read(self) -> EncodedPicture:
        is_whole, picture = self._capture.retrieve()
        if not is_whole:
            raise CameraFailure("a picture of the video cannot be decoded")
        return encode_picture(picture, self._frame_format)


class _Timeline:
    """Turns a video's stamps into rising instants, in seconds after the first picture.

    A stamp that repeats, goes back or is no number is replaced by the instant that the rate gives.
    """

    def __init__(self, rate: float) -> None:
        self._step_s = 1 / rate
        self._rate = rate
        self._first_s = 0.0
        self._last_s = 0.0
        self._has_stamps = False
        self.replaced = 0
        self.is_replaced = False

    def at_s(self, number: int, stamp_s: float) -> float:
        """The instant of picture `number`; call it for each in order."""
        if number == 0:
            self._first_s = stamp_s if math.isfinite(stamp_s) else 0.0
            return 0.0
        at_s = stamp_s - self._first_s
        even_s = number / self._rate
        if abs(at_s - even_s) <= _ROUNDING_S:
            at_s = even_s
        self.is_replaced = not self._last_s < at_s <= self._last_s + _MAX_GAP_S
        if self.is_replaced:
            at_s = self._replacement_s(at_s, even_s)
        else:
            self._has_stamps = True
        self._last_s = at_s
        return at_s

    def _replacement_s(self, at_s: float, even_s: float) -> float:
        self.replaced += 1
        next_s = self._last_s + self._step_s
        if not self._has_stamps:
            return max(even_s, next_s)
        is_new_clip = math.isfinite(at_s) and not -_NEW_CLIP_S <= at_s - self._last_s <= _MAX_GAP_S
        if is_new_clip:
            self._first_s -= next_s - at_s
        return next_s
