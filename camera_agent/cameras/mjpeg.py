"""Motion JPEG over HTTP, without OpenCV: one request, and an endless answer of JPEGs (`multipart/x-mixed-replace`).

Every picture is read, and only those that are asked for are decoded.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from urllib3.exceptions import HTTPError

from camera_agent.cameras.http_get import CameraSession, http_get
from camera_agent.cameras.latest_frame import LatestFrameCamera
from camera_agent.cameras.picture_finder import PictureFinder
from camera_agent.imaging.frame import CameraFailure
from camera_agent.imaging.pillow import encode_bytes
from camera_agent.network.certificates import PUBLIC, Trust

_PIECE_BYTES = 64 * 1024
_MAX_BYTES = 16_000_000
_NO_STREAMS = ("text/", "image/", "application/json", "application/xml", "application/xhtml")


class MotionJpeg(LatestFrameCamera[bytes]):
    """Pictures are sent unchanged where the format allows it."""

    def __init__(
        self, url: str, *, timeout_s: float, trust: Trust = PUBLIC, redirect_hosts: Collection[str] = ()
    ) -> None:
        super().__init__(lambda: PictureStream(url, timeout_s, trust, redirect_hosts), encode_bytes, timeout_s)


class PictureStream:
    """The pictures of one answer, in order."""

    def __init__(self, url: str, timeout_s: float, trust: Trust, redirect_hosts: Collection[str] = ()) -> None:
        self._timeout_s = timeout_s
        self._session = CameraSession(trust, redirect_hosts)
        self._session.headers["Accept-Encoding"] = "identity"
        try:
            self._answer = http_get(self._session, url, timeout_s)
            _check_type(self._answer.headers.get("Content-Type", ""))
        except CameraFailure:
            self._session.close()
            raise
        self._is_compressed = self._answer.headers.get("Content-Encoding", "identity").lower() != "identity"
        self._finder = PictureFinder()
        self._is_over = False
        self._picture = b""

    def advance(self) -> bool:
        deadline_s = time.monotonic() + self._timeout_s
        while (picture := self._finder.take()) is None:
            if self._is_over:
                return False
            if self._finder.held_bytes and time.monotonic() > deadline_s:
                raise CameraFailure(f"a picture was not whole after {self._timeout_s:g} s", "camera_hangs")
            self._read()
        self._picture = picture
        return True

    def picture(self) -> bytes:
        return self._picture

    def release(self) -> None:
        self._answer.close()
        self._session.close()

    def _read(self) -> None:
        try:
            # A proxy may compress although it was asked not to.
            piece = self._answer.raw.read1(_PIECE_BYTES, decode_content=self._is_compressed)
        except (HTTPError, OSError) as error:
            raise CameraFailure(f"the stream broke off: {type(error).__name__}") from error
        if not piece:
            self._is_over = True
            self._finder.close()
            return
        self._finder.add(piece)
        if self._finder.held_bytes > _MAX_BYTES:
            raise CameraFailure(f"a part of the stream has more than {_MAX_BYTES} bytes")


def _check_type(content_type: str) -> None:
    """Cameras name any type, or none, but a page or a single picture is another address of the camera."""
    if content_type.strip().lower().startswith(_NO_STREAMS):
        advice = ": is it an address for `snapshot`?" if content_type.lower().startswith("image/") else ""
        raise CameraFailure(f"the camera answers with {content_type}, not with Motion JPEG{advice}")
