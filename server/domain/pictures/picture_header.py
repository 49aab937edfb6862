"""What the first bytes of a picture say of the work that it makes, read without decoding anything.

A picture of a few bytes can hold millions of pixels, and some readers reserve memory for them when they open it. So
sizes of PNG, WebP and BMP are read here by their specifications: PNG (W3C, section 11.2.1), WebP container (RFC 9649,
sections 2.5 to 2.7) and BMP's information header. Pillow reads the size of a JPEG, for which it opens nothing else.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from server.domain.pictures.image_info import scans_of, size_of
from server.domain.pictures.jpeg_edges import SOI, find_jpeg

Format = Literal["jpeg", "png", "webp", "bmp"]

FORMATS: tuple[Format, ...] = ("jpeg", "png", "webp", "bmp")
"""What is decoded, as settings name it."""

PIXELS_OF_ONE = 1 << 21
"""A JPEG up to this size costs one image: Full HD, rounded up to a power of two."""

_TIMES: dict[Format, float] = {"jpeg": 1.0, "png": 3.0, "webp": 3.0, "bmp": 1.0}
"""Time to decode a pixel, of a JPEG's: measured on pictures of 16 megapixels, rounded up (14 to 17 ms a megapixel)."""

_SCANS_OF_ONE = 8
"""A progressive JPEG has about ten scans and takes 1.3 to 1.5 times as long as one in a single scan."""

_FOREIGN = {
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\1\0": "ICO",
    b"qoif": "QOI",
    b"8BPS": "PSD",
    b"%PDF": "PDF",
}
"""The first bytes of pictures that nothing here decodes."""


class PictureHeader(NamedTuple):
    """`width` and `height` in pixels, as stored; `scans` of a JPEG, else 0."""

    format: Format
    width: int
    height: int
    scans: int = 0

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def cost(self) -> float:
        """The work to decode it, in images of usual size; at least 1."""
        times = _TIMES[self.format] * max(1.0, self.scans / _SCANS_OF_ONE)
        return max(1.0, times * self.pixels / PIXELS_OF_ONE)


def format_of(image: bytes) -> Format | None:
    """The format whose decoder will read these bytes; None where there is none."""
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if image.startswith(b"RIFF") and image[8:12] == b"WEBP":
        return "webp"
    if image.startswith(SOI) or find_jpeg(image) is not None:
        return "jpeg"
    return "bmp" if image.startswith(b"BM") else None


def foreign_format_of(image: bytes) -> str | None:
    """The name of a picture format that nothing here decodes, where the bytes begin like one."""
    if image[4:8] == b"ftyp":
        return "HEIF or AVIF"
    return next((name for start, name in _FOREIGN.items() if image.startswith(start)), None)


def header_of(image: bytes) -> PictureHeader | None:
    """What the header says; None for bytes that no decoder takes, or whose header is cut off."""
    found = format_of(image)
    if found == "jpeg":
        return _jpeg(image)
    size = {"png": _png_size, "webp": _webp_size, "bmp": _bmp_size}[found](image) if found else None
    return PictureHeader(found, *size) if found and size and all(size) else None


def _jpeg(image: bytes) -> PictureHeader | None:
    found = find_jpeg(image)
    scans = scans_of(image if found is None else found.sent)
    size = None if scans is None else size_of(image)
    return None if size is None else PictureHeader("jpeg", *size, scans or 0)


def _png_size(image: bytes) -> tuple[int, int] | None:
    is_whole = image[12:16] == b"IHDR" and len(image) >= 24
    return (_big(image, 16, 4), _big(image, 20, 4)) if is_whole else None


def _webp_size(image: bytes) -> tuple[int, int] | None:
    if len(image) < 30 and not (image[12:16] == b"VP8L" and len(image) >= 25):
        return None
    if image[12:16] == b"VP8X":
        return 1 + _little(image, 24, 3), 1 + _little(image, 27, 3)
    if image[12:16] == b"VP8L":
        bits = _little(image, 21, 4)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return _little(image, 26, 2) & 0x3FFF, _little(image, 28, 2) & 0x3FFF


def _bmp_size(image: bytes) -> tuple[int, int] | None:
    if len(image) < 26:
        return None
    if _little(image, 14, 4) == 12:  # OS/2 1.x
        return _little(image, 18, 2), _little(image, 20, 2)
    height = int.from_bytes(image[22:26], "little", signed=True)  # below 0: from the top
    return _little(image, 18, 4), abs(height)


def _big(image: bytes, at: int, size: int) -> int:
    return int.from_bytes(image[at : at + size], "big")


def _little(image: bytes, at: int, size: int) -> int:
    return int.from_bytes(image[at : at + size], "little")
