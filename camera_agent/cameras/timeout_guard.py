"""A camera whose every call ends in time, even if its driver hangs.

A hanging driver cannot be interrupted. So each camera's calls run on a thread of its own; when a call does not end in
time, thread and camera are abandoned, and the next `open` starts with new ones. The thread closes its camera if the
call ever returns.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable

from camera_agent.cameras.camera import Camera
from camera_agent.imaging.failure import CameraFailure
from camera_agent.imaging.frame import Frame, FrameFormat

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
        self._current: _CameraThread | None = None
        self._hung: list[_CameraThread] = []

    @property
    def needs_new_process(self) -> bool:
        """Whether so many calls hang that only a new process can help."""
        return len(self._hung) >= _MAX_HUNG

    def open(self) -> None:
        """Make and open a new camera. Raises `CameraFailure`."""
        self.close()
        self._hung = [thread for thread in self._hung if thread.is_alive()]
        if self.needs_new_process:
            raise CameraFailure(f"{len(self._hung)} attempts hang in the driver", "camera_hangs")
        thread = _CameraThread(self._make())
        thread.start()
        self._current = thread
        self._call(thread, thread.camera.open)

    def frame(self, frame_format: FrameFormat) -> Frame:
        thread = self._current
        if thread is None:
            raise CameraFailure("the camera is not open")
        frame = self._call(thread, lambda: thread.camera.frame(frame_format))
        if frame is None:
            raise CameraFailure("the camera gave nothing")
        return frame

    def close(self) -> None:
        thread, self._current = self._current, None
        if thread is not None:
            thread.leave(_CLOSE_S)
            if thread.is_alive():
                self._hung.append(thread)

    def _call(self, thread: _CameraThread, function: Callable[[], Frame | None]) -> Frame | None:
        try:
            return thread.call(function, self._limit_s)
        except queue.Empty:
            self._current = None
            self._hung.append(thread)
            thread.leave(0.0)
            raise CameraFailure(f"no answer from the driver in {self._limit_s:g} s", "camera_hangs") from None


class _CameraThread(threading.Thread):
    """Makes the calls of one camera, one at a time, and closes it at the end."""

    def __init__(self, camera: Camera) -> None:
        super().__init__(name="camera", daemon=True)
        self.camera = camera
        self._is_over = False
        self._calls: queue.SimpleQueue[Callable[[], Frame | None] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Frame | BaseException | None] = queue.SimpleQueue()

    def call(self, function: Callable[[], Frame | None], limit_s: float) -> Frame | None:
        """What the function returns or raises; `queue.Empty` when it does not end in time."""
        self._calls.put(function)
        if self._is_over:  # the thread takes no further call
            raise CameraFailure("the camera was closed")
        result = self._results.get(timeout=limit_s)
        if isinstance(result, BaseException):
            raise result
        return result

    def leave(self, timeout_s: float) -> None:
        """Have the camera closed when its present call ends, and wait for that up to `timeout_s`."""
        self._calls.put(None)
        self.join(timeout_s)

    def run(self) -> None:
        while (function := self._calls.get()) is not None:
            try:
                self._results.put(function())
            except BaseException as error:  # noqa: BLE001 - raised again in the calling thread
                self._results.put(error)
        self._is_over = True
        with contextlib.suppress(queue.Empty):
            while True:
                self._calls.get_nowait()
                self._results.put(CameraFailure("the camera was closed"))
        with contextlib.suppress(Exception):
            self.camera.close()
