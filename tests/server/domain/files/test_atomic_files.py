"""A file is replaced as a whole or not at all."""

from pathlib import Path

import pytest

from server.domain.files.atomic_files import replacing


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
