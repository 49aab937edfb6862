"""A video file as bytes: what identifies it, and how long its container says that it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

_HEAD_BYTES = 16 * 1024
"""Recorders write into the head again when they finish a file: counts, lengths."""
_TAIL_BYTES = 64 * 1024
_PIECE_BYTES = 4096
_PIECES = 16
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """A part of a file and its digest; the digest is empty where all bytes are equal, which distinguishes nothing."""

    offset: int
    size_bytes: int
    digest: str


class VideoContent(msgspec.Struct, frozen=True):
    """A video's size and digests of its head, its tail and parts between."""

    size_bytes: int
    pieces: tuple[Piece, ...]

    @classmethod
    def of(cls, path: Path) -> VideoContent:
        """Raises `OSError`."""
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            pieces = tuple(Piece(*place, _digest(file, *place)) for place in _places(size_bytes))
        return cls(size_bytes, pieces)


def is_known(path: Path, saved: VideoContent) -> bool:
    """Whether the file is the saved one, perhaps longer or shorter now. Raises `OSError`.

    Where parts after the head are the same, the head may differ: a recorder completes it at the end.
    """
    size_bytes = path.stat().st_size
    shared = [piece for piece in saved.pieces if piece.offset + piece.size_bytes <= size_bytes]
    with path.open("rb") as file:
        equal = [_digest(file, piece.offset, piece.size_bytes) == piece.digest for piece in shared]
    is_telling = any(piece.digest for piece in shared[1:])
    return bool(shared) and all(equal[1:]) and (equal[0] or is_telling)


def promised_bytes(path: Path) -> int:
    """The size that the container's own lengths give (RIFF, ISO 14496-12, Matroska); 0 where they do not say.

    Raises `OSError`.
    """
    with path.open("rb") as file:
        head = file.read(64)
        if head[:4] == b"RIFF":
            size_bytes = int.from_bytes(head[4:8], "little")
            return 8 + size_bytes if 0 < size_bytes < (1 << 32) - 1 else 0
        if head[4:8] == b"ftyp":
            return _end_of_boxes(file)
        if head[:4] == _EBML:
            return _end_of_segment(head)
    return 0


def _places(size_bytes: int) -> Iterator[tuple[int, int]]:
    """Offset and size of the parts that are compared: the head first, the tail last."""
    yield 0, min(size_bytes, _HEAD_BYTES)
    body_bytes = size_bytes - _HEAD_BYTES
    for number in range(_PIECES if body_bytes > _PIECES * _PIECE_BYTES else 0):
        yield _HEAD_BYTES + (body_bytes - _PIECE_BYTES) * number // _PIECES, _PIECE_BYTES
    if body_bytes > 0:
        tail_bytes = min(body_bytes, _TAIL_BYTES)
        yield size_bytes - tail_bytes, tail_bytes


def _digest(file: BinaryIO, offset: int, size_bytes: int) -> str:
    file.seek(offset)
    data = file.read(size_bytes)
    return "" if not data.strip(data[:1]) else hashlib.blake2b(data, digest_size=8).hexdigest()


def _end_of_boxes(file: BinaryIO) -> int:
    """Where the last top-level box of an MP4 or QuickTime file ends; 0 if it is open."""
    end = 0
    while True:
        file.seek(end)
        head = file.read(16)
        size_bytes = int.from_bytes(head[:4], "big")
        if size_bytes == 1:
            size_bytes = int.from_bytes(head[8:16], "big")
        if size_bytes < 8:  # a box is at least its header; 0 means up to the end of the file
            return end if not head else 0
        end += size_bytes


def _end_of_segment(head: bytes) -> int:
    """Where the Matroska segment ends (RFC 8794: identifier, length, content); 0 if it is open."""
    at = 4
    length, at = _variable_length(head, at)
    at += length
    if head[at : at + 4] != _SEGMENT:
        return 0
    length, at = _variable_length(head, at + 4)
    return 0 if length == 0 else at + length


def _variable_length(head: bytes, at: int) -> tuple[int, int]:
    """An EBML length and where it ends; 0 for the unknown length."""
    if at >= len(head) or head[at] == 0:
        return 0, at
    width = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + width], "big") & ((1 << 7 * width) - 1)
    return (0 if value == (1 << 7 * width) - 1 else value), at + width
