"""A camera whose every call ends in time, whatever its driver does.

A driver that hangs cannot be interrupted, only left: the calls are made on a thread, and one that does not answer
is abandoned with its camera, which is closed there if it ever comes back. The next `open` begins with a new one.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable

from camera_agent.capture.live import Camera
from camera_agent.imaging.failure import CameraFailure
from camera_agent.imaging.frame import Look
from camera_agent.imaging.masks import Form

_MARGIN_S = 5.0
"""The camera's own timeout comes first: it knows more to say."""
_MOST_HUNG = 8
_CLOSE_S = 2.0


class Guarded:
    """`make` builds a fresh camera; `timeout_s` is what the camera itself allows for one picture.

    One thread opens and asks; another may `close` at any moment, and whoever is asking then gets a `CameraFailure`.
    """

    def __init__(self, make: Callable[[], Camera], *, timeout_s: float, margin_s: float = _MARGIN_S) -> None:
        self._make = make
        self._limit_s = timeout_s + margin_s
        self._hand: _Hand | None = None
        self._hung: list[_Hand] = []

    @property
    def is_beyond_help(self) -> bool:
        """Whether so many calls hang that only a new process can help."""
        return len(self._hung) >= _MOST_HUNG

    def open(self) -> None:
        """A new camera, opened. Raises `CameraFailure`."""
        self.close()
        self._hung = [hand for hand in self._hung if hand.is_alive()]
        if self.is_beyond_help:
            raise CameraFailure(f"{len(self._hung)} attempts hang in the driver", "camera_hangs")
        hand = _Hand(self._make())
        hand.start()
        self._hand = hand
        self._ask(hand, hand.camera.open)

    def still(self, form: Form) -> Look:
        hand = self._hand
        if hand is None:
            raise CameraFailure("the camera is not open")
        look = self._ask(hand, lambda: hand.camera.still(form))
        if look is None:
            raise CameraFailure("the camera gave nothing")
        return look

    def close(self) -> None:
        hand, self._hand = self._hand, None
        if hand is not None:
            hand.leave(_CLOSE_S)
            if hand.is_alive():
                self._hung.append(hand)

    def _ask(self, hand: _Hand, call: Callable[[], Look | None]) -> Look | None:
        try:
            return hand.ask(call, self._limit_s)
        except queue.Empty:
            self._hand = None
            self._hung.append(hand)
            hand.leave(0.0)
            raise CameraFailure(f"no answer from the driver in {self._limit_s:g} s", "camera_hangs") from None


class _Hand(threading.Thread):
    """Makes one camera's calls, one at a time, and closes it at the end."""

    def __init__(self, camera: Camera) -> None:
        super().__init__(name="camera-hand", daemon=True)
        self.camera = camera
        self._is_over = False
        self._asked: queue.SimpleQueue[Callable[[], Look | None] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Look | BaseException | None] = queue.SimpleQueue()

    def ask(self, call: Callable[[], Look | None], limit_s: float) -> Look | None:
        """What the call gives or raises; `queue.Empty` when it does not end in time."""
        self._asked.put(call)
        if self._is_over:  # nobody takes it any more
            raise CameraFailure("the camera was closed")
        answer = self._answers.get(timeout=limit_s)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def leave(self, timeout_s: float) -> None:
        """Have the camera closed as soon as it can be, and wait a little for it."""
        self._asked.put(None)
        self.join(timeout_s)

    def run(self) -> None:
        while (call := self._asked.get()) is not None:
            try:
                self._answers.put(call())
            except BaseException as error:  # noqa: BLE001 - handed to the thread that asked
                self._answers.put(error)
        self._is_over = True
        with contextlib.suppress(queue.Empty):
            while True:
                self._asked.get_nowait()
                self._answers.put(CameraFailure("the camera was closed"))
        with contextlib.suppress(Exception):
            self.camera.close()
