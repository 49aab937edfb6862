"""A camera whose every call ends in time, even if its driver hangs.

A hanging driver cannot be interrupted. So each camera's calls run on a thread of its own; when a call does not end in
time, thread and camera are abandoned, and the next `open` starts with new ones. The thread closes its camera if the
call ever returns.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from camera_agent.cameras.camera import Camera
from camera_agent.imaging.frame import CameraFailure, Frame, FrameFormat

T = TypeVar("T")
_MARGIN_S = 5.0
"""The camera's own timeout comes first: its message says more."""
_MAX_HUNG = 8
_CLOSE_S = 2.0


class TimeoutGuard:
    """`make` builds a new camera; `timeout_s` is the camera's own limit for one picture.

    One thread opens it and takes frames. Any thread may `close` it at any time; a waiting call then raises
    `CameraFailure`.
    """

    def __init__(self, make: Callable[[], Camera], *, timeout_s: float, margin_s: float = _MARGIN_S) -> None:
        self._make = make
        self._limit_s = timeout_s + margin_s
        self._current: tuple[Camera, ThreadPoolExecutor] | None = None
        self._hung: list[Future[None]] = []

    @property
    def needs_new_process(self) -> bool:
        """Whether so many calls hang that only a new process can help."""
        return len(self._hung) >= _MAX_HUNG

    def open(self) -> None:
        """Make and open a new camera. Raises `CameraFailure`."""
        self.close()
        self._hung = [closing for closing in self._hung if not closing.done()]
        if self.needs_new_process:
            raise CameraFailure(f"{len(self._hung)} attempts hang in the driver", "camera_hangs")
        self._current = current = self._make(), ThreadPoolExecutor(1, "camera")
        self._call(current, lambda camera: camera.open())

    def frame(self, frame_format: FrameFormat) -> Frame:
        if (current := self._current) is None:
            raise CameraFailure("the camera is not open")
        return self._call(current, lambda camera: camera.frame(frame_format))

    def close(self, timeout_s: float = _CLOSE_S) -> None:
        """Have the camera closed when its present call ends, and wait for that up to `timeout_s`."""
        current, self._current = self._current, None
        if current is None:
            return
        camera, thread = current
        with contextlib.suppress(RuntimeError):  # another thread closes it at the same time
            closing = thread.submit(camera.close)
            thread.shutdown(wait=False)
            self._hung += wait([closing], timeout_s).not_done

    def _call(self, current: tuple[Camera, ThreadPoolExecutor], function: Callable[[Camera], T]) -> T:
        camera, thread = current
        try:
            call = thread.submit(function, camera)
        except RuntimeError as error:  # another thread closed the camera
            raise CameraFailure("the camera was closed") from error
        if wait([call], self._limit_s).not_done:
            self.close(0.0)
            raise CameraFailure(f"no answer from the driver in {self._limit_s:g} s", "camera_hangs")
        return call.result()
