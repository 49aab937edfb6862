"""Reading the text files that people write: settings, site policies, cards."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

LARGEST_BYTES = 1024 * 1024
"""A larger file is none that a person wrote by hand."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class UnreadableText(Exception):
    """A file that cannot be read as text. The message says why and what to do, and does not name the file."""


def read_text(path: Path) -> str:
    """The text of a regular file in UTF-8, without byte order mark and with `\\n` at the ends of its lines.

    It waits for no pipe and no device. Raises UnreadableText.
    """
    try:
        content = _content(path)
    except OSError as error:
        raise UnreadableText(error.strerror or str(error)) from None
    if len(content) > LARGEST_BYTES:
        raise UnreadableText(f"it is larger than {LARGEST_BYTES >> 20} MiB, so it is not a file of settings")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableText(_not_utf8(content, error.start)) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def shown(name: object) -> str:
    """A file's name as one line of text: control characters, and bytes that are no text, are escaped."""
    text = str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _content(path: Path) -> bytes:
    """At most one byte more than LARGEST_BYTES of the file. Raises OSError, also where it is not a regular file."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(0, "it is not a file")
        with open(handle, "rb", closefd=False) as file:
            return file.read(LARGEST_BYTES + 1)
    finally:
        os.close(handle)


def _not_utf8(content: bytes, at: int) -> str:
    if content.startswith(_UTF16):
        return "it is UTF-16: save it as UTF-8"
    line = content.count(b"\n", 0, at) + 1
    return f"line {line}: the byte 0x{content[at]:02x} is not UTF-8: save the file as UTF-8"
