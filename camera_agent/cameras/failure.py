"""The one thing that every camera raises."""

from __future__ import annotations


class CameraFailure(Exception):
    """A camera gave no picture; the message says what was asked of which source. Worth another try later."""
