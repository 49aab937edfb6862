"""JPEGs whose edges are not as they should be: no end marker, padding instead of it, stray bytes before the start.

Cheap cameras send such pictures and every viewer shows them. What matters is whether all rows are there. libjpeg fills
missing rows with grey and only counts a warning, so an end marker that is put behind half a picture makes it look
whole. `find_jpeg` therefore gives two versions: `sent`, with both markers, and `tested`, which has at most 64 bits
behind the picture's data instead of an end marker. When libjpeg wants more data than that, it waits for more, and
Pillow raises. All 64 bits are ones, which is no Huffman code (ITU-T T.81, annex C): libjpeg takes 17 of them for a
symbol, so they stand for less than two blocks of 8x8 pixels. A whole picture has the same pixels in both versions.

A picture in several scans (progressive, or one scan per component) is read to its end marker, so this test does not
apply. It is whole when its scans cover every coefficient to the last bit, and when what follows the last scan does not
change a pixel: `other` is the picture with other bytes behind the scan.

`camera_agent/imaging/jpeg_edges.py` has the same code, since the two share no package. A test keeps them equal.
"""

from __future__ import annotations

import re
from typing import NamedTuple

SOI, SOS, EOI = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
START = SOI + b"\xff"
"""The start marker and the first byte of the next marker."""
_MAX_STRAY_BYTES = 1024
_OTHER_FORMATS = (b"\x89PNG", b"RIFF", b"GIF8", b"BM")
_ONES = b"\xff\x00" * 8
_NOISE = bytes((37 * index * index + 11 * index + 83) % 251 for index in range(64))
_FILLER = _NOISE + b"".join(bytes((0xFF, 0xD0 + number)) + _NOISE for number in range(8))
"""Data for a scan that is not complete, and for one that waits for its next restart marker, whichever that is."""
_ZEROS = bytes(16)
"""So many zero bytes at the end are padding."""
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = frozenset((0xC0, 0xC1))
_NEXT_SCAN = re.compile(rb"\xff[\xc4\xda\xd9]")
_COEFFICIENTS = 64
_MOST_SEGMENTS = 1 << 16
_MOST_SCANS = 200
"""Segments and scans that are read, so that nobody can make this slow."""


class FoundJpeg(NamedTuple):
    """`sent` is a JPEG from marker to marker. It is whole if `tested` can be decoded, and `other`, where it is not
    None, has the same pixels.
    """

    sent: bytes
    tested: bytes
    other: bytes | None
    fault: str | None
    """What was mended, for people; None for a picture that came as it is sent."""


class _Head(NamedTuple):
    """Where the first scan's marker is, whether it is the only scan, and how many components there are."""

    scan: int
    is_one_scan: bool
    components: int


def find_jpeg(data: bytes) -> FoundJpeg | None:
    """The JPEG in `data`; None where there is none or its header is damaged: then `data` is to be read as it is."""
    start = 0 if data.startswith(SOI) else data.find(START, 0, _MAX_STRAY_BYTES + len(START))
    if start < 0 or data.startswith(_OTHER_FORMATS):
        return None
    picture = data[start:] if start else data
    head = _head(picture)
    if head is None:
        return None
    faults = ["stray bytes before the start"] if start else []
    end = len(picture) - len(EOI) if picture.endswith(EOI) else picture.find(EOI, head.scan)
    body = picture[:end] if end >= 0 else _without_padding(picture)
    if end < 0:
        faults.append("no end marker")
        picture = body + EOI
    fault = " and ".join(faults) or None
    if head.is_one_scan:
        return FoundJpeg(picture, body + _ONES, None, fault)
    if end >= 0:
        return FoundJpeg(picture, picture, None, fault)
    if not _is_covered(body, head):
        return FoundJpeg(picture, body, None, fault)
    return FoundJpeg(picture, picture, body + _FILLER + EOI, fault)


def segment_end(data: bytes | bytearray, at: int) -> int:
    """Where the segment whose marker is at `at` ends; -1 where no marker is there, or its length is not there yet."""
    if data[at : at + 1] != b"\xff" or at + 4 > len(data):
        return -1
    marker = data[at + 1]
    if marker == 0xFF:  # a fill byte
        return at + 1
    if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # no contents
        return at + 2
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def _head(picture: bytes) -> _Head | None:
    """None for a picture whose segments do not lead to a scan."""
    at, sof, components = len(SOI), 0, 0
    for _ in range(_MOST_SEGMENTS):
        end = segment_end(picture, at)
        if end < 0:
            break
        marker = picture[at + 1]
        if marker in _SOF:
            sof, components = marker, picture[at + 9] if at + 9 < len(picture) else 0
        if marker == SOS[1]:
            return _Head(at, sof in _SEQUENTIAL and picture[at + 4 : at + 5] == bytes([components]), components)
        at = end
    return None


def _without_padding(picture: bytes) -> bytes:
    """The picture without what cameras put in the place of an end marker: 0xFF, or many zeros."""
    body = picture.rstrip(b"\xff")
    if body.endswith(_ZEROS):
        body = body.rstrip(b"\0")
    return body + b"\0" if body.endswith(b"\xff") else body  # FF 00 is a byte of data


def _is_covered(picture: bytes, head: _Head) -> bool:
    """Whether the scans give every coefficient of every component to its last bit (T.81, annex G.1.1.1)."""
    left: dict[tuple[int, int], int] = {}
    at: int | None = head.scan
    for _ in range(_MOST_SCANS):
        if at is None:
            break
        if picture[at + 1] == SOS[1]:
            count = picture[at + 4] if at + 4 < len(picture) else 0
            ids, last = picture[at + 5 : at + 5 + 2 * count : 2], picture[at + 5 + 2 * count : at + 8 + 2 * count]
            if len(last) < 3:
                return False
            left |= {(each, k): last[2] & 15 for each in ids for k in range(last[0], last[1] + 1)}
        match = _NEXT_SCAN.search(picture, max(at + 2, segment_end(picture, at)))
        at = match and match.start()
    return len(left) == _COEFFICIENTS * head.components and not any(left.values())
