"""Text files that a person wrote, as editors on any system save them."""

from __future__ import annotations

import codecs
import os
import re
import stat
from pathlib import Path

SETTINGS_BYTES = 1024 * 1024
"""A larger file of settings is none that a person wrote by hand."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UTF16_MARKS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


class UnreadableText(Exception):
    """A file that cannot be read as text. The message says why and what to do, and does not name the file."""


def read_text(path: Path, most_bytes: int | None = None) -> str:
    r"""The text of a file, its lines ended by `\n`.

    The text is UTF-8, or UTF-16 with a byte order mark, as Windows' PowerShell writes it. A byte order mark and the
    line ends of Windows are no part of the text. With `most_bytes`, it reads nothing but a regular file up to that
    size, so it waits for no pipe and no device. Raises UnreadableText.
    """
    return decoded(read_content(path, most_bytes))


def read_content(path: Path, most_bytes: int | None = None) -> bytes:
    """The bytes of a file, as `read_text` reads it. Raises UnreadableText."""
    try:
        return _content(path, most_bytes)
    except OSError as error:
        raise UnreadableText(error.strerror or str(error)) from None


def decoded(content: bytes) -> str:
    """As `read_text`, from the bytes of a file."""
    encoding = _UTF16_MARKS.get(content[:2], "utf-8")
    body = content.removeprefix(codecs.BOM_UTF8) if encoding == "utf-8" else content[2:]
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        at = error.start + len(content) - len(body)
        what = f"the byte 0x{content[at]:02x}, which is wrong in {encoding.upper()}"
        raise UnreadableText(_faulty(content, at, what)) from None
    if "\0" in text[:2]:  # further on, the reader of the text refuses it
        raise UnreadableText(_faulty(content, content.index(b"\0"), "a NUL character, as UTF-16 without a mark has"))
    return text.replace("\r\n", "\n").replace("\r", "\n")


def encoded(text: str, like: bytes) -> bytes:
    """The bytes of a text, with the encoding, byte order mark and line ends of a file whose bytes are `like`."""
    marks = (codecs.BOM_UTF8, *_UTF16_MARKS)
    mark = next((mark for mark in marks if like.startswith(mark)), b"")
    encoding = _UTF16_MARKS.get(mark, "utf-8")
    before = like.removeprefix(mark).decode(encoding, "replace")
    windows = before.count("\r\n")
    if 2 * windows > before.count("\n"):
        text = text.replace("\n", "\r\n")
    elif "\n" not in before and "\r" in before:
        text = text.replace("\n", "\r")
    return mark + text.encode(encoding)


def _faulty(content: bytes, at: int, what: str) -> str:
    line = content.count(b"\n", 0, at) + 1
    return f"line {line} has {what}; save the file as UTF-8"


def shown(name: object) -> str:
    """A file's name as one line of text: control characters, and bytes that are no text, are escaped."""
    text = str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def _content(path: Path, most_bytes: int | None) -> bytes:
    if most_bytes is None:
        return path.read_bytes()
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with open(handle, "rb") as file:  # noqa: PTH123 - a handle is no path
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(0, "it is not a file")
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(0, f"it is larger than {most_bytes >> 20} MiB, so it is not a file of settings")
    return content
