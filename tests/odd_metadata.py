"""Pictures whose orientation is written in unusual ways."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image

SIZE = (64, 48)


def tiff(value: int, *, order: str = "<", kind: int = 3, count: int = 1, tag: int = 0x0112) -> bytes:
    """A TIFF structure with one entry."""
    number = struct.pack(order + {1: "B3x", 2: "B3x", 3: "H2x", 4: "I", 6: "b3x", 7: "B3x", 8: "h2x"}[kind], value)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return head + struct.pack(order + "HHHI", 1, tag, kind, count) + number + bytes(4)


def segment(body: bytes, marker: int = 0xE1) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body


def exif(value: int, **options: object) -> bytes:
    return segment(b"Exif\0\0" + tiff(value, **options))  # type: ignore[arg-type]


def xmp(value: int, *, as_element: bool = False) -> bytes:
    """The orientation in XMP, as an attribute or an element."""
    attribute = "" if as_element else f' tiff:Orientation="{value}"'
    element = f"<tiff:Orientation>{value}</tiff:Orientation>" if as_element else ""
    text = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description{attribute}>{element}</rdf:Description></x:xmpmeta>'
    return segment(b"http://ns.adobe.com/xap/1.0/\0" + text.encode())


def extended_xmp(value: int) -> bytes:
    return segment(b"http://ns.adobe.com/xmp/extension/\0" + bytes(40) + xmp(value)[33:])


def picture(kind: str = "JPEG", **options: object) -> bytes:
    image, out = Image.new("RGB", SIZE, (90, 90, 90)), io.BytesIO()
    image.paste((250, 250, 250), (32, 0, 64, 24))
    image.save(out, kind, **options)  # type: ignore[arg-type]
    return out.getvalue()


def with_segments(*segments: bytes) -> bytes:
    jpeg = picture()
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def png_with(chunk: bytes, body: bytes, *, behind_the_pixels: bool = False) -> bytes:
    png = picture("PNG")
    made = struct.pack(">I", len(body)) + chunk + body + struct.pack(">I", zlib.crc32(chunk + body))
    at = png.index(b"IEND") - 4 if behind_the_pixels else png.index(b"IDAT") - 4
    return png[:at] + made + png[at:]


PICTURES: dict[str, bytes] = {
    **{f"EXIF {value}": with_segments(exif(value)) for value in range(10)},
    **{f"EXIF {value}, big-endian": with_segments(exif(value, order=">")) for value in (0, 5, 6, 8, 9, 255)},
    **{f"EXIF of type {kind}": with_segments(exif(6, kind=kind)) for kind in (1, 2, 4, 6, 7, 8)},
    **{f"EXIF of type {kind}, big-endian": with_segments(exif(6, order=">", kind=kind)) for kind in (1, 2, 4, 6, 7, 8)},
    "EXIF of two values": with_segments(exif(6, count=2)),
    "EXIF of no value": with_segments(exif(6, count=0)),
    "EXIF of values that lie outside": with_segments(exif(6, count=9)),
    "EXIF cut off": with_segments(segment(b"Exif\0\0" + tiff(6)[:17])),
    "EXIF without TIFF": with_segments(segment(b"Exif\0\0" + b"XX*\0" + tiff(6)[4:])),
    "EXIF without anything": with_segments(segment(b"Exif\0\0")),
    "EXIF twice": with_segments(exif(6), exif(1)),
    "EXIF twice, the second on its side": with_segments(exif(1), exif(6)),
    "EXIF twice, the first without orientation": with_segments(exif(6, tag=0x0100), exif(6)),
    "EXIF behind other segments": with_segments(segment(bytes(70), 0xE4), segment(b"ICC_PROFILE\0\1\1", 0xE2), exif(6)),
    "EXIF behind the tables": picture()[:20] + exif(6) + picture()[20:],
    "XMP as an attribute": with_segments(xmp(6)),
    "XMP as an element": with_segments(xmp(8, as_element=True)),
    "XMP of 0": with_segments(xmp(0)),
    "XMP of 9": with_segments(xmp(9)),
    "XMP before EXIF": with_segments(xmp(6), exif(1)),
    "XMP behind EXIF": with_segments(exif(1), xmp(6)),
    "XMP behind EXIF without orientation": with_segments(exif(6, tag=0x0100), xmp(6)),
    "XMP and EXIF in turn": with_segments(xmp(1), exif(6), xmp(3), exif(8)),
    "XMP twice": with_segments(xmp(1), xmp(6)),
    "XMP, extended": with_segments(xmp(1), extended_xmp(6)),
    "only extended XMP": with_segments(extended_xmp(6)),
    "a PNG with EXIF": png_with(b"eXIf", tiff(6)),
    "a PNG with EXIF behind the pixels": png_with(b"eXIf", tiff(6), behind_the_pixels=True),
    "a PNG with XMP": png_with(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(6)[33:]),
    "a plain PNG": picture("PNG"),
    "a WebP with EXIF": picture("WEBP", exif=b"Exif\0\0" + tiff(6)),
    "a plain WebP": picture("WEBP"),
    "a BMP": picture("BMP"),
    "EXIF behind a stray line end": b"\r\n" + with_segments(exif(6)),
    "EXIF, and no end marker": with_segments(exif(6))[:-2],
}
