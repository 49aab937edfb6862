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


class Recognised(NamedTuple):
    """What of the footage was played before, compared with what was saved of it.

    `continues`: what was played is the unchanged beginning of this footage, at the same instants. `played`: the numbers
    of pictures that are left out, since an earlier session played them. `content`: what to save now.
    """

    continues: bool
    content: bytes
    played: frozenset[int] = frozenset()


class Recording(Protocol):
    """Finite footage. Every method may raise `CameraFailure`; `open` begins again at the first picture."""

    def open(self) -> None: ...

    def fingerprint(self) -> str:
        """What version 0.2.0 saved of the footage, to find a position that it left."""

    def content(self) -> bytes:
        """What identifies the footage, as JSON. It is saved when playing begins, and given to `recognise` later."""

    def recognise(self, saved: bytes, played_ms: int) -> Recognised:
        """Compare with the saved content, of which everything up to `played_ms` after the first picture was played.

        Raises `msgspec.DecodeError` for what `content` did not give.
        """

    def started_ms(self) -> int | None:
        """The first picture's instant in Unix milliseconds, where the recording knows it."""

    def duration_s(self) -> float:
        """From the first picture to the end."""

    def pictures(self) -> Iterator[RecordedPicture]:
        """All pictures in order, at rising instants. Call it once after each `open`."""

    def shortfall(self) -> str:
        """After the last picture: what the footage promises and does not have, or the empty string."""

    def close(self) -> None: ...
