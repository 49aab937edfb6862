"""Sources and pictures through OpenCV. Importing this module loads OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
from cv2.typing import MatLike

from camera_agent.imaging.frame import CameraFailure, EncodedPicture, FrameFormat, Thumbnail, thumbnail_size
from camera_agent.imaging.masks import Polygons, in_pixels


def open_capture(source: int | str, *, timeout_s: float | None = None) -> cv2.VideoCapture:
    """A device by number, a file or an address, decoded on one thread. Raises `CameraFailure`.

    `timeout_s` bounds opening and each read, where FFmpeg does the reading.
    """
    cv2.setNumThreads(1)
    capture = cv2.VideoCapture()
    if isinstance(source, int):
        is_open = capture.open(source, cv2.CAP_V4L2)
    else:
        options = [cv2.CAP_PROP_N_THREADS, 1]
        if timeout_s is not None:
            timeout_ms = round(timeout_s * 1000)
            options += [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
        is_open = capture.open(source, cv2.CAP_FFMPEG, options)
    if not is_open:
        capture.release()
        raise CameraFailure("cannot be opened: OpenCV reads no picture there")
    return capture


def encode_picture(picture: MatLike, frame_format: FrameFormat) -> EncodedPicture:
    """The picture as JPEG, with its thumbnail. The masks are painted into `picture` itself.

    The same picture gives the same bytes. Raises `CameraFailure`.
    """
    _paint(picture, frame_format.masks)
    thumbnail = _thumbnail(picture)
    height, width = picture.shape[:2]
    size = frame_format.size(width, height)
    if size != (width, height):
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    is_done, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, frame_format.quality])
    if not is_done:
        raise CameraFailure("the picture cannot be written as JPEG")
    return EncodedPicture(encoded.tobytes(), thumbnail)


def _paint(picture: MatLike, masks: Polygons) -> None:
    """Black out the masked parts, in place, and every pixel that their borders touch."""
    height, width = picture.shape[:2]
    for polygon in masks:
        corners = np.array(in_pixels(polygon, width, height), np.int32)
        cv2.fillPoly(picture, [corners], (0, 0, 0))
        cv2.polylines(picture, [corners], isClosed=True, color=(0, 0, 0), thickness=2)


def _thumbnail(picture: MatLike) -> Thumbnail:
    """Each pixel is the mean of those that it stands for."""
    height, width = picture.shape[:2]
    size = thumbnail_size(width, height)
    small = cv2.cvtColor(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    return Thumbnail(*size, small.tobytes())
