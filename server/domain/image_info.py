"""What policies know of a picture besides its labels: its displayed size and its brightness.

The size is read from the header without decoding.

JPEG: ITU-T T.81, annex B, the frame header of any SOF marker; turned as Exif 2.3 says (tag 0x0112, Orientation: 5 to 8
exchange the sides), as the ensemble turns it. PNG: ISO/IEC 15948, the IHDR chunk.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Literal

_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_SOI = b"\xff\xd8"
_EXIF = b"Exif\x00\x00"
_APP1 = 0xE1
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Frame headers; DHT, JPG and DAC lie between them."""
_ALONE = frozenset((0x01, *range(0xD0, 0xD8)))
"""Markers without a segment: TEM and RST0 to RST7."""
_SOS = b"\xff\xda"
_WITH_LENGTH = frozenset((*range(0xC0, 0xC8), *range(0xC9, 0xD0), *range(0xDB, 0xF0), 0xFE))
"""Markers whose segments Pillow reads before the first scan. It skips all else there byte by byte."""
_MOST_STEPS = 1 << 16
_ORIENTATION = 0x0112
_BYTES_OF = {1: 1, 3: 2, 4: 4}
"""Bytes of a number by its tag's type: BYTE, SHORT, LONG. Other types are no orientation."""
_ON_ITS_SIDE = range(5, 9)
_MOST_ENTRIES = 256


def size_of(image: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels; None for bytes that are neither a JPEG's nor a PNG's, or that end too soon."""
    if image.startswith(_PNG) and len(image) >= 24:
        width, height = int.from_bytes(image[16:20], "big"), int.from_bytes(image[20:24], "big")
    elif image.startswith(_SOI):
        width, height = _jpeg_size(image)
    else:
        return None
    return (width, height) if width and height else None


def scans_of(image: bytes) -> int | None:
    """The number of scans in a JPEG, those of its previews included; 0 for another format.

    A scan of under a hundred bytes may cost a pass over all pixels (a progressive JPEG has about ten scans). None where
    Pillow would keep too many segments, or skip too many stray bytes, before the first scan.
    """
    if not image.startswith(_SOI):
        return 0
    at = len(_SOI)
    for _ in range(_MOST_STEPS):
        if image[at : at + 2] == _SOS or at + 4 > len(image):
            return image.count(_SOS, at)
        has_length = image[at] == 0xFF and image[at + 1] in _WITH_LENGTH
        at += 2 + int.from_bytes(image[at + 2 : at + 4], "big") if has_length else 1
    return None


def brightness_of(image: bytes) -> float | None:
    """Mean luma (ITU-R BT.601) in 0..1, 4 decimals; None for bytes that are no picture.

    Of a JPEG only the means of its blocks are decoded: within .002 of all pixels, at 1.7 instead of 2.5 ms for 768x576.
    """
    from PIL import Image, ImageStat  # the launcher has no pictures

    try:
        with Image.open(io.BytesIO(image)) as opened:
            opened.draft("L", (max(1, opened.width // 8), max(1, opened.height // 8)))
            return round(ImageStat.Stat(opened.convert("L")).mean[0] / 255, 4)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  as in `ensemble.decode`: readers raise anything on bytes that are not what they claim
        return None


def _jpeg_size(image: bytes) -> tuple[int, int]:
    is_turned = False
    for marker, body in _segments(image):
        if marker == _APP1 and body.startswith(_EXIF):
            is_turned = _orientation(body[len(_EXIF) :]) in _ON_ITS_SIDE
        if marker in _SOF:
            height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            return (height, width) if is_turned else (width, height)
    return 0, 0


def _segments(image: bytes) -> Iterator[tuple[int, bytes]]:
    """Markers and their segments' contents, in order, as far as they are whole."""
    at = 2
    while at + 4 <= len(image) and image[at] == 0xFF:
        marker = image[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _ALONE:
            at += 2
        else:
            end = at + 2 + int.from_bytes(image[at + 2 : at + 4], "big")
            if end > len(image):
                return
            yield marker, image[at + 4 : end]
            at = end


def _orientation(tiff: bytes) -> int:
    """The orientation that the first directory of a TIFF structure gives; 1 (upright) when it gives none."""
    if tiff[:2] not in (b"II", b"MM"):
        return 1
    order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], order)

    directory = number(4, 4)
    for entry in range(min(number(directory, 2), _MOST_ENTRIES)):
        at = directory + 2 + 12 * entry
        if number(at, 2) == _ORIENTATION:
            return number(at + 8, _BYTES_OF.get(number(at + 2, 2), 0))
    return 1
