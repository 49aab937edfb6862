"""Motion JPEG over HTTP, without OpenCV: one request, and an endless answer of JPEGs (`multipart/x-mixed-replace`).

Every picture is read, and only those that are asked for are decoded. Cameras spell the boundary in different ways (with
or without its dashes, quoted or not), so a part's `Content-Length` is used where it has one, else the boundary.
"""

from __future__ import annotations

import re
import time

from urllib3.exceptions import HTTPError

from camera_agent.cameras.http_get import CameraSession, http_get
from camera_agent.cameras.latest_frame import LatestFrameCamera
from camera_agent.imaging.frame import CameraFailure
from camera_agent.imaging.pillow import encode_bytes
from camera_agent.network.certificates import PUBLIC, Trust

_PIECE_BYTES = 64 * 1024
_MAX_BYTES = 16_000_000
_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"^content-length:\s*(\d+)\s*?$", re.IGNORECASE | re.MULTILINE)


class MotionJpeg(LatestFrameCamera[bytes]):
    """Pictures are sent unchanged where the format allows it."""

    def __init__(self, url: str, *, timeout_s: float, trust: Trust = PUBLIC) -> None:
        super().__init__(lambda: _Parts(url, timeout_s, trust), encode_bytes, timeout_s)


class _Parts:
    """The parts of one answer, in order. One part, and the beginning of the next, is in memory."""

    def __init__(self, url: str, timeout_s: float, trust: Trust) -> None:
        self._timeout_s = timeout_s
        self._session = CameraSession(trust)
        try:
            self._answer = http_get(self._session, url, timeout_s)
            self._boundary = _boundary(self._answer.headers.get("Content-Type", ""))
        except CameraFailure:
            self._session.close()
            raise
        self._buffer = bytearray()
        self._part = b""

    def advance(self) -> bool:
        deadline_s = time.monotonic() + self._timeout_s
        while (span := self._span()) is None:
            if self._buffer and time.monotonic() > deadline_s:
                raise CameraFailure(f"a picture was not whole after {self._timeout_s:g} s", "camera_hangs")
            try:
                piece = self._answer.raw.read1(_PIECE_BYTES)
            except (HTTPError, OSError) as error:
                raise CameraFailure(f"the stream broke off: {type(error).__name__}") from error
            if not piece:
                return False
            self._buffer += piece
            if len(self._buffer) > _MAX_BYTES:
                raise CameraFailure(f"a part of the stream has more than {_MAX_BYTES} bytes")
        begin, end = span
        self._part = bytes(self._buffer[begin:end])
        del self._buffer[:end]
        return True

    def picture(self) -> bytes:
        return self._part

    def release(self) -> None:
        self._answer.close()
        self._session.close()

    def _span(self) -> tuple[int, int] | None:
        """Where in the buffer the next picture begins and ends; None while it is not complete."""
        head = self._buffer.find(self._boundary)
        begin = self._buffer.find(_HEAD_END, max(0, head)) + len(_HEAD_END)
        if head < 0 or begin < len(_HEAD_END):
            return None
        length = _LENGTH.search(self._buffer, head, begin)
        if length is None:
            end = self._buffer.find(self._boundary, begin)
            return None if end < 0 else (begin, begin + len(self._buffer[begin:end].rstrip(b"\r\n")))
        end = begin + int(length[1])
        return (begin, end) if end <= len(self._buffer) else None


def _boundary(content_type: str) -> bytes:
    """Two dashes and the boundary of the header, without quotes and dashes of its own."""
    kind, _, boundary = content_type.partition("boundary=")
    if not kind.lower().startswith("multipart/"):
        raise CameraFailure(f"the camera answers with {content_type or 'no content type'}, not with Motion JPEG")
    return b"--" + boundary.split(";")[0].strip().strip('"').lstrip("-").encode("latin-1", "replace")
