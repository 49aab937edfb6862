"""The one door to OpenCV: opening a source, and a raw picture to JPEG. Importing this module loads OpenCV."""

from __future__ import annotations

import cv2
from cv2.typing import MatLike

from camera_agent.cameras.failure import CameraFailure


def open_capture(source: int | str, *, timeout_s: float | None = None) -> cv2.VideoCapture:
    """A device by number, a file or an address, decoded on one thread. Raises `CameraFailure`.

    `timeout_s` bounds opening and each read, where FFmpeg does the reading.
    """
    cv2.setNumThreads(1)
    capture = cv2.VideoCapture()
    if isinstance(source, int):
        is_open = capture.open(source, cv2.CAP_V4L2)
    else:
        wishes = [cv2.CAP_PROP_N_THREADS, 1]
        if timeout_s is not None:
            timeout_ms = round(timeout_s * 1000)
            wishes += [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
        is_open = capture.open(source, cv2.CAP_FFMPEG, wishes)
    if not is_open:
        capture.release()
        raise CameraFailure("cannot be opened (is it there, in a form OpenCV reads, and not in use elsewhere?)")
    return capture


def encode_jpeg(picture: MatLike, *, quality: int, max_width: int) -> bytes:
    """The picture as JPEG, made smaller when it is wider than `max_width` (0: never). Same picture, same bytes."""
    height, width = picture.shape[:2]
    if 0 < max_width < width:
        size = (max_width, max(1, round(height * max_width / width)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    is_done, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not is_done:
        raise CameraFailure("the picture cannot be written as JPEG")
    return encoded.tobytes()
