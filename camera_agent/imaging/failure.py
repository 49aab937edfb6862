"""The error that every camera raises."""

from __future__ import annotations


class CameraFailure(Exception):
    """A camera gave no usable picture. The message says why; a later try may succeed.

    `cause` is the word that heartbeats carry, such as `camera_hangs`.
    """

    def __init__(self, message: str, cause: str = "camera_failed") -> None:
        super().__init__(message)
        self.cause = cause
