"""A file is replaced as a whole or not at all."""

from pathlib import Path

import pytest

from server.domain.files.atomic_files import filling, replacing


def test_the_old_content_stays_until_the_block_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "choice.json"
    for content in ("first", "second"):
        with replacing(path, 0o600) as aside:
            aside.write_text(content)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == content
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "choice.json"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), replacing(path) as aside:
        aside.write_text("\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "new/package"

    def fill(content: bytes, file: str) -> None:
        with filling(folder) as aside:
            (aside / "begun").write_bytes(content)
            (aside / file).write_bytes(content)

    with pytest.raises(OSError, match="No space"):
        fill(b"half", "/dev/full")
    assert list(folder.parent.iterdir()) == []
    with filling(folder) as aside:
        (aside / "whole").write_bytes(b"whole")
    assert [each.name for each in folder.parent.iterdir()] == ["package"]
    assert (folder / "whole").read_bytes() == b"whole"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_an_empty_folder_is_filled_and_another_is_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    with filling(folder) as aside:
        (aside / "first").touch()
    with pytest.raises(OSError, match="not empty"), filling(folder):
        raise AssertionError("nothing is written")
    assert [each.name for each in folder.iterdir()] == ["first"]
