"""The one door to OpenCV: opening a source, and a raw picture to JPEG. Importing this module loads OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
from cv2.typing import MatLike

from camera_agent.imaging.failure import CameraFailure
from camera_agent.imaging.frame import WIDTH, Grey, height_for
from camera_agent.imaging.masks import Form, Polygons, in_pixels


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
        raise CameraFailure("cannot be opened: OpenCV reads no picture there")
    return capture


def paint(picture: MatLike, masks: Polygons) -> None:
    """Black out the masked parts, in place, and every pixel that their borders touch."""
    height, width = picture.shape[:2]
    for polygon in masks:
        corners = np.array(in_pixels(polygon, width, height), np.int32)
        cv2.fillPoly(picture, [corners], (0, 0, 0))
        cv2.polylines(picture, [corners], isClosed=True, color=(0, 0, 0), thickness=2)


def grey(picture: MatLike) -> Grey:
    """The small grey picture, each pixel the mean of those it stands for."""
    height, width = picture.shape[:2]
    size = (WIDTH, height_for(width, height))
    small = cv2.cvtColor(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    return Grey(*size, small.tobytes())


def encode_jpeg(picture: MatLike, form: Form) -> bytes:
    """The picture, painted before, as JPEG of that form. Same picture, same bytes."""
    height, width = picture.shape[:2]
    if 0 < form.max_width < width:
        size = (form.max_width, max(1, round(height * form.max_width / width)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    is_done, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, form.quality])
    if not is_done:
        raise CameraFailure("the picture cannot be written as JPEG")
    return encoded.tobytes()
