"""The documents show four pages, in small pictures that a command makes anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from policies.events import Event
from tests.browser.browsing import Browsing
from tests.browser.pictures import FOLDER, MOST_BYTES, NAMES, take
from tests.documentation import documents


def test_the_command_takes_a_small_picture_of_each_of_four_pages(
    browsing: Browsing, events: list[Event], tmp_path: Path
) -> None:
    take(browsing, events, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(NAMES)
    for name in NAMES:
        assert (tmp_path / name).stat().st_size <= MOST_BYTES
        with Image.open(tmp_path / name) as taken, Image.open(FOLDER / name) as shown:
            assert taken.size == shown.size


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_small_and_a_document_shows_it(name: str) -> None:
    assert (FOLDER / name).stat().st_size <= MOST_BYTES
    assert any(f"deploy/pictures/{name}" in document.read_text(encoding="utf-8") for document in documents())


def test_no_other_picture_is_in_the_repository() -> None:
    assert sorted(file.name for file in FOLDER.iterdir()) == sorted(NAMES)
