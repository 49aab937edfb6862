"""A camera that OpenCV reads: a device (V4L2), RTSP, or another address that FFmpeg reads."""

from __future__ import annotations

import os
import time

import cv2
from cv2.typing import MatLike

from camera_agent.cameras.diagnose import open_failure
from camera_agent.cameras.latest_frame import LatestFrameCamera
from camera_agent.cameras.tls_relay import TlsRelay, needs_relay
from camera_agent.imaging.frame import CameraFailure, DamagedPicture
from camera_agent.imaging.opencv import encode_picture, open_capture
from camera_agent.network.addresses import credentials, with_credentials
from camera_agent.network.certificates import PUBLIC, Trust
from camera_agent.network.connection_errors import host_and_port
from camera_agent.network.proxies import exempt_from_proxies

_FFMPEG = "rtsp_transport;tcp|fpsprobesize;0"
"""TCP, since a lost UDP packet smears the picture. No probing of the picture rate, which takes two seconds."""
_NO_TLS = "protocol_whitelist;file,crypto,data,http,httpproxy,tcp,udp,rtp,srtp,rtsp"
"""FFmpeg itself opens no TLS, also where a camera redirects to it: it would accept any certificate."""
_WAITED_S = 0.01
_MAX_BACKLOG_S = 5.0


class Stream(LatestFrameCamera[MatLike]):
    """A device by number, or a stream by address."""

    def __init__(self, source: int | str, *, timeout_s: float, trust: Trust = PUBLIC) -> None:
        super().__init__(lambda: _connect(source, timeout_s, trust), encode_picture, timeout_s)


def _connect(source: int | str, timeout_s: float, trust: Trust) -> _Capture:
    options = os.environ.get("OPENCV_FFMPEG_CAPTURE_OPTIONS", _FFMPEG)
    if "protocol_whitelist" not in options:
        options = f"{options}|{_NO_TLS}"
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = options
    relay = None
    if isinstance(source, str):
        source = with_credentials(source, credentials(source))
        exempt_from_proxies(host_and_port(source)[0])
        relay = TlsRelay(source, trust, timeout_s) if needs_relay(source) else None
    address = source if relay is None else relay.address
    try:
        return _Capture(open_capture(address, timeout_s=timeout_s), timeout_s, relay)
    except CameraFailure as failure:
        reason = open_failure(address, timeout_s)
        if relay is not None:
            relay.close()
        raise reason from failure


class _Capture:
    """OpenCV's capture as a source: `grab` takes a picture off, `retrieve` decodes it.

    What FFmpeg reads while it opens a stream forms a backlog that comes at once. These pictures are older than their
    arrival, and are skipped. When FFmpeg's timeout ends, OpenCV still hands out what the decoder held; that is an
    error here.
    """

    def __init__(self, capture: cv2.VideoCapture, timeout_s: float, relay: TlsRelay | None) -> None:
        self._capture = capture
        self._timeout_s = timeout_s
        self._relay = relay
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
        if not is_whole:
            raise DamagedPicture("the picture cannot be decoded")
        return picture

    def release(self) -> None:
        if self._relay is not None:
            self._relay.close()
        self._capture.release()
