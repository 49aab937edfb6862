"""What a file is that should hold a network: web pages, pointers and downloads that are cut short are common.

A file is known by its first bytes, and nothing in it is run.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

_HEAD_BYTES = 4096
_LFS = b"version https://git-lfs.github.com/spec/"
_ANNEX = b"/annex/objects/"
_OTHERS = (
    (b"\x1f\x8b", "is a gzip archive: unpack it, and name the file in it"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive: unpack it, and name the file in it"),
    (b"Rar!", "is a RAR archive: unpack it, and name the file in it"),
    (b"\xfd7zXZ\x00", "is an xz archive: unpack it, and name the file in it"),
    (b"BZh", "is a bzip2 archive: unpack it, and name the file in it"),
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file (Keras): Sectorwatch reads networks of PyTorch"),
    (b"GGUF", "is a GGUF file: Sectorwatch reads networks of PyTorch"),
    (b"\xff\xd8\xff", "is a JPEG picture"),
    (b"\x89PNG", "is a PNG picture"),
    (b"%PDF", "is a PDF document"),
    (b"\x7fELF", "is a program"),
    (b"MZ", "is a program of Windows"),
)
_AT = ((4, b"TFL3", "is a TensorFlow Lite network"), (257, b"ustar", "is a tar archive: unpack it"))
_ZIP = b"PK\x03\x04"
_SAFETENSORS_HEADER_BYTES = 8
_LONGEST_HEADER_BYTES = 100_000_000


def misfit(path: Path) -> str | None:
    """Why this file cannot be a network or its weights, and what to do, as `is ...`; None for one that may be.

    Raises OSError.
    """
    with path.open("rb") as opened:
        head = opened.read(_HEAD_BYTES)
    if not head:
        return "is empty: get it again"
    if head.startswith(_ZIP):
        return _zip_misfit(path)
    named = next((what for magic, what in _OTHERS if head.startswith(magic)), None)
    named = named or next((what for at, magic, what in _AT if head[at : at + len(magic)] == magic), None)
    return named or text_misfit(head) or _safetensors_misfit(path, head)


def text_misfit(head: bytes) -> str | None:
    """What a text is that should be something else: a pointer, a page, JSON; None for bytes that are no text."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(_LFS):
        return "is a Git LFS pointer and not the file itself: run `git lfs pull` where it comes from"
    if _ANNEX in text[:300]:
        return "is a git-annex pointer and not the file itself: run `git annex get` where it comes from"
    if text[:200].lower().startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<!-- ")):
        return "is an HTML page, as a browser shows it: download the file itself"
    if text.startswith(b"<"):
        return "is an XML or HTML text: download the file itself"
    if not _is_text(head):
        return None
    if text.startswith((b"{", b"[")):
        return "is a JSON text: download the file itself"
    return "is a text: download the file itself"


def _is_text(head: bytes) -> bool:
    """Whether the bytes are printable. A multi-byte character may be cut at the end."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end < len(head) or len(head) < _HEAD_BYTES:
            return False
        text = head[: error.start].decode("utf-8")
    return all(sign.isprintable() or sign in "\t\r\n\f\ufeff" for sign in text)


def _zip_misfit(path: Path) -> str | None:
    short = "is cut short: it begins as an archive of PyTorch and has no end; get it again"
    if not zipfile.is_zipfile(path):
        return short
    try:
        with zipfile.ZipFile(path) as archive:
            members, names = archive.infolist(), archive.namelist()
    except (zipfile.BadZipFile, ValueError) as error:
        return f"is a damaged archive ({error}): get it again"
    if members and min(member.header_offset for member in members) > 0:
        return short  # what looks like its end is that of an archive inside
    if {name.rpartition("/")[2] for name in names} & {
        "data.pkl",
        "constants.pkl",
        "archive_format",
        "serialized_exported_program.json",
    }:
        return None
    if any(name.endswith((".json", ".pkl", ".pt")) and "/" in name for name in names):
        return None  # an exported program of some version
    inner = next((name for name in names if name.endswith((".pt", ".pth", ".pt2", ".safetensors"))), None)
    return f"is a zip archive without a network{f': unpack it, and name {inner}' if inner else ' of PyTorch'}"


def _safetensors_misfit(path: Path, head: bytes) -> str | None:
    """A safetensors file states its length: an 8-byte number, then a JSON header of that length, then the tensors."""
    length = int.from_bytes(head[:_SAFETENSORS_HEADER_BYTES], "little")
    if head[_SAFETENSORS_HEADER_BYTES : _SAFETENSORS_HEADER_BYTES + 2] != b'{"' or length > _LONGEST_HEADER_BYTES:
        return None
    short = "is cut short: it has fewer bytes than its header states; get it again"
    start = _SAFETENSORS_HEADER_BYTES + length
    with path.open("rb") as opened:
        header = opened.read(start)[_SAFETENSORS_HEADER_BYTES:]
    if len(header) < length:
        return short
    try:
        ends = [each["data_offsets"][1] for name, each in json.loads(header).items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None
    return short if path.stat().st_size < start + max(ends, default=0) else None
