"""Frames whose pictures are kept, as the store, the keeper and the answers know them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FrameFate = Literal["kept", "no_longer_kept", "unknown"]
"""Of a picture: it is there; it was there, and its time is over; or it was never kept (or that was too long ago)."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame of a stored burst, to be kept; `brightness` in 0..1."""

    site: str
    camera: str
    at_us: int
    sha256: str
    image: bytes
    brightness: float | None


@dataclass(frozen=True, slots=True)
class Kept:
    """How many frames are kept now that were not; how many were not taken, and why (None: all were)."""

    frames: int
    refused: int
    fault: str | None


@dataclass(frozen=True, slots=True)
class KeptFrame:
    """A frame whose picture is kept: its instant (us), and the SHA-256 (hex) and size of the picture."""

    site: str
    camera: str
    at_us: int
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class FrameTotals:
    """How much of a camera is kept, from which instant to which (us)."""

    site: str
    camera: str
    frames: int
    bytes: int
    first_at_us: int
    last_at_us: int
