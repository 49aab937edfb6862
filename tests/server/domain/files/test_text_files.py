"""A text file is read as any editor saved it, and bytes that are no text are named with their line."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest

from server.domain.files.text_files import UnreadableText, read_text

TEXT = 'site = "höf"\nmodels = ["a"]\n'


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.replace("\n", "\r\n").encode(),
        codecs.BOM_UTF16_LE + TEXT.replace("\n", "\r\n").encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.replace("\n", "\r").encode(),
    ],
    ids=["plain", "mark", "mark and CRLF", "PowerShell", "big end first", "CR"],
)
def test_marks_and_line_ends_are_no_part_of_the_text(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    assert read_text(tmp_path / "file") == TEXT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TEXT.encode("latin-1"), "line 1 has the byte 0xf6, which is wrong in UTF-8; save the file as UTF-8"),
        (codecs.BOM_UTF8 + b"a\nb\n\xff", "line 3 has the byte 0xff, which is wrong in UTF-8"),
        (
            "a\nb".encode("utf-16-le"),
            "line 1 has a NUL character, as UTF-16 without a mark has; save the file as UTF-8",
        ),
        (codecs.BOM_UTF16_LE + b"a\0\n\0\0\xd8", "which is wrong in UTF-16-LE"),
        (codecs.BOM_UTF16_LE + b"a", "which is wrong in UTF-16-LE"),
    ],
)
def test_bytes_that_are_no_text_are_named_with_their_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UnreadableText) as refused:
        read_text(tmp_path / "file")
    assert message in str(refused.value)


def test_only_what_has_a_bound_must_be_a_regular_file(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, TEXT.encode())
    os.close(write_end)
    pipe = Path(f"/dev/fd/{read_end}")
    with pytest.raises(UnreadableText, match="it is not a file"):
        read_text(pipe, 1000)
    assert read_text(pipe) == TEXT
    os.close(read_end)
