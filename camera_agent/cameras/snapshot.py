"""A camera that answers an HTTP GET with a picture."""

from __future__ import annotations

import time
from collections.abc import Collection

import requests

from camera_agent.cameras.http_get import CameraSession, http_get
from camera_agent.imaging.frame import CameraFailure, DamagedPicture, Frame, FrameFormat
from camera_agent.imaging.pillow import encode_bytes
from camera_agent.network.certificates import PUBLIC, Trust

_MAX_BYTES = 32_000_000


class Snapshot:
    """Sends one request per frame and keeps the connection between them."""

    def __init__(
        self, url: str, *, timeout_s: float, trust: Trust = PUBLIC, redirect_hosts: Collection[str] = ()
    ) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._session = CameraSession(trust, redirect_hosts)

    def open(self) -> None:
        """Sends no request yet."""

    def frame(self, frame_format: FrameFormat) -> Frame:
        """The picture; its instant is the middle of the wait for the first byte.

        Raises `DamagedPicture` when it is not whole, also because the connection broke off, else `CameraFailure`.
        """
        requested_s = time.monotonic()
        try:
            with http_get(self._session, self._url, self._timeout_s) as answer:
                answered_s = time.monotonic()
                data = self._read(answer)
        except requests.RequestException as error:
            raise DamagedPicture(f"the snapshot broke off: {type(error).__name__}") from error
        return Frame.of(encode_bytes(data, frame_format), (requested_s + answered_s) / 2)

    def close(self) -> None:
        self._session.close()

    def _read(self, answer: requests.Response) -> bytes:
        data = bytearray()
        deadline_s = time.monotonic() + self._timeout_s
        for piece in answer.iter_content(64 * 1024):
            data += piece
            if len(data) > _MAX_BYTES:
                raise CameraFailure(f"the snapshot has more than {_MAX_BYTES} bytes")
            if time.monotonic() > deadline_s:
                raise CameraFailure(f"the snapshot was not whole after {self._timeout_s:g} s")
        return bytes(data)
