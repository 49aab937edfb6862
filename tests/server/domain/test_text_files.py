"""A text file is read as any editor saved it, and bytes that are no text are named with their line."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from server.domain.text_files import UnreadableText, read_text

TEXT = 'site = "höf"\nmodels = ["a"]\n'


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
    ],
    ids=["plain", "mark", "mark and CRLF", "CR"],
)
def test_marks_and_line_ends_are_no_part_of_the_text(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    assert read_text(tmp_path / "file") == TEXT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TEXT.encode("latin-1"), "line 1: the byte 0xf6 is not UTF-8: save the file as UTF-8"),
        (b"a\nb\n\xff", "line 3: the byte 0xff is not UTF-8"),
        (codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"), "it is UTF-16: save it as UTF-8"),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), "it is UTF-16: save it as UTF-8"),
    ],
)
def test_bytes_that_are_no_text_are_named_with_their_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UnreadableText) as refused:
        read_text(tmp_path / "file")
    assert message in str(refused.value)


def test_a_larger_file_is_read_where_it_is_expected(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a" * (1024 * 1024 + 1))
    with pytest.raises(UnreadableText, match="it is larger than 1 MiB"):
        read_text(tmp_path / "file")
    assert len(read_text(tmp_path / "file", most_bytes=2 * 1024 * 1024)) == 1024 * 1024 + 1
