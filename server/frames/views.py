"""A kept picture as somebody sees it: its media type, and its small view, which is made once."""

from __future__ import annotations

from contextlib import suppress
from typing import Literal, Protocol

from server.domain.pictures.image_info import smaller
from server.domain.pictures.jpeg_edges import SOI

SMALL_PX = 320
"""The width of a small view; a picture that is no wider is its own."""
_TYPES = {SOI: "image/jpeg", b"\x89PNG": "image/png", b"RIFF": "image/webp", b"BM": "image/bmp"}

Size = Literal["full", "small"]


class Shelf(Protocol):
    def get(self, sha256: str) -> bytes | None: ...
    def get_small(self, sha256: str) -> bytes | None: ...
    def put_small(self, sha256: str, image: bytes) -> None: ...


def media_type(image: bytes) -> str:
    """The media type of a picture, by its first bytes."""
    return next((type_ for start, type_ in _TYPES.items() if image.startswith(start)), "application/octet-stream")


def view(shelf: Shelf, sha256: str, size: Size) -> bytes | None:
    """The picture, or its small view (JPEG); the picture itself where it cannot be made smaller; None where it is lost.

    A small view is made once; after that the picture is not read for it. Raises OSError.
    """
    made = shelf.get_small(sha256) if size == "small" else None
    image = made or shelf.get(sha256)
    if made is not None or image is None or size == "full":
        return image
    small = smaller(image, SMALL_PX)
    if small is None:
        return image
    with suppress(OSError):  # a full disk: it is made again the next time
        shelf.put_small(sha256, small)
    return small
