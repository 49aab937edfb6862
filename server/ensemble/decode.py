"""Bytes of a picture to one tensor: the single decoder all models share.

Decisions, since they change labels:

- colours: everything becomes 8-bit RGB as Pillow converts it. CMYK is converted without a profile; alpha is
  dropped, not blended (what `Image.convert("RGB")` does, so what the models' own tools did); a palette is
  looked up; 16-bit grey keeps its upper 8 bits.
- EXIF orientation is applied, so that boxes and sectors are in the picture as every viewer shows it.
- a truncated picture is an error, never half a frame.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
import PIL
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from server.domain.errors import TooLarge, Unprocessable
from server.domain.image_info import scans_of

VERSION = 1
"""Of the rules above; raise it when any picture gives other pixels."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
MAX_PIXELS = 50_000_000
MAX_BYTES = 16 * 1024 * 1024

_MOST_PASSES = 32
"""Over a picture of MAX_PIXELS: some seconds. Without a bound a file of a megabyte takes ten minutes."""

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
"""What makes a picture of that EXIF orientation upright (Exif 2.3, tag 0x0112)."""


def decode(picture: bytes, *, max_pixels: int = MAX_PIXELS, frame: int | None = None) -> Tensor:
    """The picture as uint8 [3, H, W], RGB, in memory row by row with the channels of a pixel together.

    The header's width and height are judged before any pixel is decoded. Raises TooLarge for more than
    `max_pixels` or MAX_BYTES, and for a JPEG that takes longer to read than any camera's; Unprocessable for what cannot
    be decoded; both carry `frame`.
    """
    if len(picture) > MAX_BYTES:
        raise TooLarge(f"{len(picture)} bytes in one picture, at most {MAX_BYTES} are taken", frame=frame)
    scans = scans_of(picture)
    if scans is None:
        raise TooLarge("more segments than any camera writes come before the picture", frame=frame)
    try:
        with Image.open(BytesIO(picture), formats=FORMATS) as opened:
            width, height = opened.size
            if width * height > max_pixels:
                raise TooLarge(f"{width}x{height} is more than {max_pixels} pixels", frame=frame)
            if scans * width * height > _MOST_PASSES * MAX_PIXELS:
                raise TooLarge(f"{scans} scans of {width}x{height} pixels are more than this server reads", frame=frame)
            # Copied once, here: a frame of a megapixel costs as much to copy as to decode.
            pixels = np.array(_as_rgb(_upright(opened)))
    except (TooLarge, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise TooLarge(f"{error}; at most {max_pixels} pixels are taken", frame=frame) from error
    except Exception as error:  # readers raise anything on bytes that are not what they claim
        kinds = ", ".join(FORMATS)
        is_unknown = isinstance(error, UnidentifiedImageError)
        why = f"it begins with {picture[:8]!r}" if is_unknown else error or type(error).__name__
        raise Unprocessable(f"not a whole {kinds} picture: {why}", frame=frame) from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def decoder_identity() -> dict[str, str]:
    """What decided how bytes became pixels: the library with its version, and these rules."""
    return {"pillow": PIL.__version__, "rules": str(VERSION)}


def _upright(image: Image.Image) -> Image.Image:
    """The picture as a viewer shows it. `ImageOps.exif_transpose` would write the EXIF anew as well, which a
    camera's faulty tag (there are many) makes impossible.
    """
    turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT:
        values = np.asarray(image)
        return Image.fromarray((values.astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")
