"""Small pictures in every form a sender may use."""

from __future__ import annotations

import zlib
from io import BytesIO
from struct import pack

import numpy as np
from PIL import Image


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture with gradients and a few blocks, no two seeds alike."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    picture = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], 2).astype(np.uint8)
    for _ in range(4):
        left, top = int(random.integers(width)), int(random.integers(height))
        picture[top : top + height // 4, left : left + width // 4] = random.integers(0, 255, 3)
    return Image.fromarray(picture)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def in_all_forms(image: Image.Image) -> dict[str, bytes]:
    """The same picture as colour and grey JPEG, CMYK JPEG, PNG with alpha, with a palette, with 16 bits, ..."""
    grey = image.convert("L")
    sixteen = Image.fromarray((np.asarray(grey).astype(np.uint16) << 8) | 77)
    palette = image.quantize(64)
    return {
        "jpeg": encoded(image, "JPEG", quality=85),
        "progressive jpeg": encoded(image, "JPEG", quality=85, progressive=True),
        "grey jpeg": encoded(grey, "JPEG"),
        "cmyk jpeg": encoded(image.convert("CMYK"), "JPEG"),
        "png": encoded(image),
        "png with alpha": encoded(Image.merge("RGBA", (*image.split(), grey))),
        "grey png with alpha": encoded(Image.merge("LA", (grey, grey))),
        "png with a palette": encoded(palette),
        "png with a transparent palette": encoded(palette, transparency=3),
        "png with 16 bits": encoded(sixteen),
        "png with 1 bit": encoded(image.convert("1")),
        "bmp": encoded(image, "BMP"),
        "webp": encoded(image, "WEBP", lossless=True),
    }


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return pack(">I", len(content)) + kind + content + pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
