"""What policies know of a picture besides its labels: its displayed size and its brightness.

Both are read by Pillow, as the ensemble decodes the picture. `orientation_of` is the one reading of its orientation,
for the size and for the ensemble; the agent's masks use the same call of Pillow. The first EXIF segment of a JPEG
counts, or the EXIF of a PNG or WebP (Exif 2.3, tag 0x0112); where that holds no orientation, `tiff:Orientation` of XMP.

Browsers also take the first EXIF segment, but pass over XMP. XMP counts here because it has always turned the pixels
that models see: otherwise the labels of such pictures would change, and with them the name of every ensemble.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from server.domain.pictures.jpeg_edges import SOI, find_jpeg

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
"""What is decoded, by Pillow's names."""
_UPRIGHT = 1
_ORIENTATION = 0x0112
_ON_ITS_SIDE = range(5, 9)
_SOS = b"\xff\xda"
_WITH_LENGTH = frozenset((*range(0xC0, 0xC8), *range(0xC9, 0xD0), *range(0xDB, 0xF0), 0xFE))
"""Markers whose segments Pillow reads before the first scan. It skips all else there byte by byte."""
_MOST_STEPS = 1 << 16


def size_of(image: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels as the picture is shown; None for bytes whose header is not that of a picture."""
    from PIL import Image  # the launcher has no pictures

    try:
        with Image.open(io.BytesIO(_readable(image)), formats=FORMATS) as opened:
            width, height = opened.size
            return (height, width) if orientation_of(opened) in _ON_ITS_SIDE else (width, height)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  as in `ensemble.decode`: readers raise anything on bytes that are not what they claim
        return None


def orientation_of(image: Image.Image) -> int:
    """How the picture is turned, 1 to 8 as in EXIF; from 5 on its sides are exchanged. 1, upright, for other values."""
    try:
        value = image.getexif().get(_ORIENTATION)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  damaged metadata are no reason to refuse a picture
        return _UPRIGHT
    return next((orientation for orientation in range(1, 9) if orientation == value), _UPRIGHT)


def scans_of(image: bytes) -> int | None:
    """The number of scans in a JPEG, those of its previews included; 0 for another format.

    A scan of under a hundred bytes may cost a pass over all pixels (a progressive JPEG has about ten scans). None where
    Pillow would keep too many segments, or skip too many stray bytes, before the first scan.
    """
    if not image.startswith(SOI):
        return 0
    at = len(SOI)
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
        with Image.open(io.BytesIO(_readable(image))) as opened:
            opened.draft("L", (max(1, opened.width // 8), max(1, opened.height // 8)))
            return round(ImageStat.Stat(opened.convert("L")).mean[0] / 255, 4)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  as in `ensemble.decode`: readers raise anything on bytes that are not what they claim
        return None


def smaller(image: bytes, width_px: int) -> bytes | None:
    """The picture as it is shown, of this width, a JPEG without metadata; None where it is no larger, or none."""
    from PIL import Image, ImageOps  # the launcher has no pictures

    try:
        with Image.open(io.BytesIO(_readable(image)), formats=FORMATS) as opened:
            if opened.width <= width_px and opened.height <= width_px:
                return None
            opened.draft("RGB", (2 * width_px, 2 * width_px))
            upright = ImageOps.exif_transpose(opened).convert("RGB")
            size = (width_px, max(1, round(upright.height * width_px / upright.width)))
            small, out = upright.resize(size, Image.Resampling.BILINEAR), io.BytesIO()
            small.save(out, "JPEG", quality=80)
            return out.getvalue()
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  as in `ensemble.decode`: readers raise anything on bytes that are not what they claim
        return None


def _readable(image: bytes) -> bytes:
    """The picture as Pillow reads it to its end; of a JPEG with faulty edges that was decoded already."""
    found = find_jpeg(image)
    return image if found is None or found.fault is None else found.sent
