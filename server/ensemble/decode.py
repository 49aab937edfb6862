"""Decodes an image to one tensor, for all models.

These rules change labels:

- Colours become 8-bit RGB as `Image.convert("RGB")` of Pillow converts them. CMYK is converted without a profile, alpha
  is dropped and not blended, a palette is looked up. 16-bit grey keeps its upper 8 bits.
- The orientation is applied as `server.domain.pictures.image_info` reads it, so boxes and sectors are in the image as
  its size for policies has it.
- A truncated image is an error. A JPEG without its end marker, or with stray bytes before its start, is none if all its
  rows came, as `server.domain.pictures.jpeg_edges` tests. With an end marker, a JPEG is what libjpeg makes of it.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from server.domain.errors import TooLarge, Unprocessable
from server.domain.pictures.image_info import FORMATS, orientation_of, scans_of
from server.domain.pictures.jpeg_edges import find_jpeg

VERSION = 1
"""The version of these rules. Raise it when any image gives other pixels."""

MAX_PIXELS = 16_000_000
MAX_BYTES = 16 * 1024 * 1024

_MOST_PASSES = 32
"""Of a progressive JPEG over the largest image there may be: a second. A file of a megabyte could take ten minutes."""

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation (Exif 2.3, tag 0x0112) -> the transposition that makes the image upright."""


def decode(picture: bytes, *, max_pixels: int = MAX_PIXELS, frame: int | None = None) -> Tensor:
    """The image as uint8 [3, H, W], RGB, in memory row by row with the channels of a pixel together.

    Width and height in the header are checked before any pixel is decoded. Raises TooLarge for more than `max_pixels`
    or MAX_BYTES, and for a JPEG with too many scans or segments. Raises Unprocessable for an image that cannot be
    decoded. Both carry `frame`.
    """
    if len(picture) > MAX_BYTES:
        raise TooLarge(f"{len(picture)} bytes in one picture, at most {MAX_BYTES} are taken", frame=frame)
    found = find_jpeg(picture)
    if found is None or found.fault is None:
        return torch.from_numpy(_pixels(picture, max_pixels, frame)).permute(2, 0, 1)
    pixels = _pixels(found.tested, max_pixels, frame)
    if found.other is not None and not np.array_equal(pixels, _pixels(found.other, max_pixels, frame)):
        raise Unprocessable("not a whole JPEG picture: it ends before its last scan does", frame=frame)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def decoder_identity() -> dict[str, str]:
    """What decides the pixels: the version of the library, and of these rules."""
    return {"pillow": PIL.__version__, "rules": str(VERSION)}


def _pixels(picture: bytes, max_pixels: int, frame: int | None) -> NDArray[np.uint8]:
    """[H, W, 3]. Raises as `decode`."""
    scans = scans_of(picture)
    if scans is None:
        raise TooLarge("more segments than any camera writes come before the picture", frame=frame)
    try:
        with Image.open(BytesIO(picture), formats=FORMATS) as opened:
            width, height = opened.size
            if width * height > max_pixels:
                raise TooLarge(f"{width}x{height} is more than {max_pixels} pixels", frame=frame)
            if scans * width * height > _MOST_PASSES * max_pixels:
                raise TooLarge(f"{scans} scans of {width}x{height} pixels are more than this server reads", frame=frame)
            # The only copy: copying a megapixel takes as long as decoding it.
            return np.array(_as_rgb(_upright(opened)))
    except (TooLarge, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise TooLarge(f"{error}; at most {max_pixels} pixels are taken", frame=frame) from error
    except Exception as error:  # readers raise anything on bytes that are not what they claim
        is_unknown = isinstance(error, UnidentifiedImageError)
        why = f"it begins with {picture[:8]!r}" if is_unknown else error or type(error).__name__
        raise Unprocessable(f"not a whole {', '.join(FORMATS)} picture: {why}", frame=frame) from error


def _upright(image: Image.Image) -> Image.Image:
    """The image as viewers show it. `ImageOps.exif_transpose` also rewrites the EXIF, which fails for the faulty tags
    of many cameras.
    """
    turn = _TURNS.get(orientation_of(image))
    return image if turn is None else image.transpose(turn)


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT:
        return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")
