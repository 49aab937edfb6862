"""What the agent needs of a camera: `Camera` for a live one, `Recording` for footage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from camera_agent.imaging.frame import EncodedPicture, Frame, FrameFormat


class Camera(Protocol):
    """A live camera. Every method may raise `CameraFailure`; the camera is then closed and opened again."""

    def open(self) -> None: ...

    def frame(self, frame_format: FrameFormat) -> Frame:
        """A frame taken after this call. May wait for it, but not without bound."""

    def close(self) -> None:
        """Release the device. Safe to call twice, and before `open`."""


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
