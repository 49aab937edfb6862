"""The one thing that every camera raises."""

from __future__ import annotations


class CameraFailure(Exception):
    """A camera gave no picture that can be used; the message says what was asked of which source, `cause` is the
    word for it that the server is told. Worth another try later.
    """

    def __init__(self, message: str, cause: str = "camera_failed") -> None:
        super().__init__(message)
        self.cause = cause
