"""What the agent needs of a camera: `Camera` for a live one, `Recording` for footage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from camera_agent.imaging.frame import CameraFailure, DamagedPicture, EncodedPicture, Frame, FrameFormat


class Camera(Protocol):
    """A live camera. Every method may raise `CameraFailure`; the camera is then closed and opened again.

    `frame` may raise `DamagedPicture`: then the same camera is asked for its next picture (`whole_frame`).
    """

    def open(self) -> None: ...

    def frame(self, frame_format: FrameFormat) -> Frame:
        """A frame taken after this call. May wait for it, but not without bound."""

    def close(self) -> None:
        """Release the device. Safe to call twice, and before `open`."""


_MAX_DAMAGED = 5
"""So many damaged pictures in a row are a fault of the connection or the camera."""


def whole_frame(camera: Camera, frame_format: FrameFormat, on_damaged: Callable[[DamagedPicture], object]) -> Frame:
    """The first frame of an open camera that is whole. `on_damaged` is called with each damaged picture before it.

    Raises `CameraFailure`, also for the last one of `_MAX_DAMAGED` damaged pictures in a row.
    """
    damaged = 0
    while True:
        try:
            return camera.frame(frame_format)
        except DamagedPicture as damage:
            on_damaged(damage)
            damaged += 1
            if damaged >= _MAX_DAMAGED:
                raise CameraFailure(f"{damaged} damaged pictures in a row: {damage}") from damage


class RecordedPicture(NamedTuple):
    """Picture `number` (from 0) of a recording, taken `at_s` after the first.

    `read` may be called once, and only before the next picture is asked for. It may raise `CameraFailure`.
    """

    number: int
    at_s: float
    read: Callable[[], EncodedPicture]


class Recording(Protocol):
    """Finite footage. Every method may raise `CameraFailure`; `open` begins again at the first picture."""

    def open(self) -> None: ...

    def fingerprint(self) -> str:
        """What distinguishes this recording from another one of the same name."""

    def started_ms(self) -> int | None:
        """The first picture's instant in Unix milliseconds, where the recording knows it."""

    def duration_s(self) -> float:
        """From the first picture to the end."""

    def pictures(self) -> Iterator[RecordedPicture]:
        """All pictures in order. Call it once after each `open`."""

    def close(self) -> None: ...
