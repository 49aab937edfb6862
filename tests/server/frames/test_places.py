"""A folder and an object store keep pictures alike: whole, once, checked by their SHA-256, and gone when deleted."""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from pathlib import Path

import pytest
from PIL import Image

from server.domain.errors import ConfigurationError
from server.frames import media_type, open_place, place_fault, view
from server.frames.folder import Folder
from server.frames.place import Shelf
from tests.server.web_client import encoded


@pytest.fixture(params=["folder", "file", "memory", "object-folder"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    url = {
        "folder": f"{tmp_path}/frames",
        "file": f"file://{tmp_path}/frames",
        "memory": f"memory://{uuid.uuid4().hex}",
        "object-folder": f"local://{tmp_path}/frames",
    }[request.param]
    return open_place(url)("db")


def digest(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()


def test_what_is_put_is_given_back_until_it_is_removed(shelf: Shelf) -> None:
    some = [b"one", b"two"]
    for image in some:
        shelf.put(digest(image), image)
        shelf.put(digest(image), image)
        shelf.put_small(digest(image), b"small " + image)
    assert [shelf.get(digest(image)) for image in some] == some
    assert shelf.get_small(digest(b"one")) == b"small one"
    shelf.remove([digest(b"one"), digest(b"never")])
    assert (shelf.get(digest(b"one")), shelf.get_small(digest(b"one"))) == (None, None)
    assert (shelf.has(digest(b"one")), shelf.has(digest(b"two"))) == (False, True)


def test_bytes_that_do_not_have_the_sha256_are_never_given(shelf: Shelf) -> None:
    shelf.put(digest(b"true"), b"forged")
    assert shelf.get(digest(b"true")) is None


def test_a_small_view_of_a_picture_that_is_gone_is_not_left_behind(shelf: Shelf) -> None:
    shelf.put_small(digest(b"gone"), b"small")
    assert shelf.get_small(digest(b"gone")) is None


def test_a_place_that_works_has_no_fault_and_is_left_as_it_was(shelf: Shelf) -> None:
    assert place_fault(shelf) is None
    assert not shelf.has("0" * 64)


def test_who_tries_a_folder_out_leaves_nothing_there(tmp_path: Path) -> None:
    assert place_fault(open_place(f"{tmp_path}/frames")("db")) is None
    assert list(tmp_path.iterdir()) == []


def test_pictures_of_a_folder_that_is_away_do_not_count_as_deleted(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="mounted"):
        open_place(f"{tmp_path}/frames")("db").remove([digest(b"one")])


def test_a_place_holds_the_mark_of_its_database_and_names_those_beside_it(shelf: Shelf) -> None:
    assert shelf.owner() is None
    assert shelf.beside() == []
    shelf.set_owner(b"me")
    assert shelf.owner() == b"me"
    assert [found for found in shelf.left() if found] == []


def test_the_folders_beside_a_place_are_named_with_their_marks(tmp_path: Path) -> None:
    place = open_place(f"local://{tmp_path}/frames")
    for url in (f"{tmp_path}/frames", f"local://{tmp_path}/frames"):
        place = open_place(url)
        place("one").set_owner(b"me")
        place("two").put(digest(b"two"), b"two")
        assert place("two").beside() == [(f"{tmp_path}/frames/one", b"me")]
        assert place("one").beside() == [(f"{tmp_path}/frames/two", None)]


def test_old_files_are_listed_with_what_they_are_of_and_can_be_discarded(tmp_path: Path) -> None:
    shelf = Folder(tmp_path / "db")
    shelf.put(digest(b"one"), b"one")
    shelf.put_small(digest(b"one"), b"small")
    assert [found for found in shelf.left() if found] == []
    for file in tmp_path.rglob("*"):
        os.utime(file, (0, 0))
    [portion] = [found for found in shelf.left() if found]
    assert {of for of, _ in portion} == {digest(b"one")}
    shelf.discard([name for _, name in portion])
    assert not shelf.has(digest(b"one"))


def test_objects_are_listed_as_files_are(tmp_path: Path) -> None:
    shelf = open_place(f"memory://{uuid.uuid4().hex}")("db")
    shelf.put(digest(b"one"), b"one")
    assert [found for found in shelf.left() if found] == [], "it is young"


def test_a_place_that_cannot_be_written_has_its_fault(tmp_path: Path) -> None:
    (tmp_path / "frames").write_text("a file")
    assert place_fault(open_place(f"{tmp_path}/frames")("db"))


def test_a_protocol_that_nothing_here_speaks_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"frames_url.*nothing-speaks-it"):
        open_place("nothing-speaks-it://bucket")("db").has("0" * 64)


def test_an_address_with_a_password_is_shown_without_it() -> None:
    assert "secret" not in open_place("ftp://me:secret@host/frames")("db").name


def picture(width: int, height: int, form: str = "JPEG") -> bytes:
    return encoded(Image.effect_noise((width, height), 80).convert("RGB"), form)


def test_a_small_view_is_320_pixels_wide_and_made_once(shelf: Shelf) -> None:
    image = picture(1280, 720)
    shelf.put(digest(image), image)
    small = view(shelf, digest(image), "small")
    assert small is not None
    with Image.open(io.BytesIO(small)) as opened:
        assert (opened.size, opened.format) == ((320, 180), "JPEG")
    shelf.put_small(digest(image), b"made before")
    assert view(shelf, digest(image), "small") == b"made before"
    assert view(shelf, digest(image), "full") == image


@pytest.mark.parametrize("image", [picture(320, 200), b"no picture"], ids=["no wider", "no picture"])
def test_what_cannot_be_made_smaller_is_shown_as_it_is(shelf: Shelf, image: bytes) -> None:
    shelf.put(digest(image), image)
    assert view(shelf, digest(image), "small") == image


def test_the_media_type_is_that_of_the_bytes() -> None:
    types = [media_type(picture(8, 8, form)) for form in ("JPEG", "PNG", "WEBP", "BMP")]
    assert types == ["image/jpeg", "image/png", "image/webp", "image/bmp"]
    assert media_type(b"<html>") == "application/octet-stream"
