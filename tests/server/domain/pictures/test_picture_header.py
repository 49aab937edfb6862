"""Format, size and cost of a picture are known from its first bytes, before any reader opens it."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from server.domain.pictures.picture_header import PIXELS_OF_ONE, PictureHeader, foreign_format_of, format_of, header_of
from tests.server.web_client import encoded, jpeg, lossless_webp, with_size

PHOTO = Image.new("RGB", (70, 30), (10, 200, 30))


def saved(form: str, **options: object) -> bytes:
    out = io.BytesIO()
    PHOTO.save(out, form, **options)
    return out.getvalue()


FORMS = {
    "jpeg": saved("JPEG"),
    "png": saved("PNG"),
    "webp": saved("WEBP"),
    "webp lossless": saved("WEBP", lossless=True),
    "webp extended": saved("WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"),
    "webp animated": saved("WEBP", save_all=True, append_images=[Image.new("RGB", (70, 30), (9, 9, 9))]),
    "bmp": saved("BMP"),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_format_s_size_is_read_from_its_header(name: str) -> None:
    header = header_of(FORMS[name])
    assert header is not None
    assert (header.format, header.width, header.height) == (name.split()[0], 70, 30)


def test_a_bmp_that_is_stored_from_the_top_and_one_of_os_2_have_their_size() -> None:
    whole = FORMS["bmp"]
    upside_down = whole[:22] + (-30).to_bytes(4, "little", signed=True) + whole[26:]
    os_2 = whole[:14] + (12).to_bytes(4, "little") + (70).to_bytes(2, "little") + (30).to_bytes(2, "little") + bytes(99)
    assert [header_of(each) for each in (upside_down, os_2)] == [PictureHeader("bmp", 70, 30)] * 2


@pytest.mark.parametrize("name", FORMS)
def test_a_header_that_is_cut_off_has_no_size_and_raises_nothing(name: str) -> None:
    for length in range(24):
        header = header_of(FORMS[name][:length])
        assert header is None or header.pixels > 0


def test_38_bytes_of_lossless_webp_are_seen_to_hold_48_megapixels() -> None:
    bomb = lossless_webp(8000, 6000)
    assert len(bomb) == 38
    assert header_of(bomb) == PictureHeader("webp", 8000, 6000)


def test_a_picture_of_full_hd_costs_one_image_and_larger_ones_by_their_pixels() -> None:
    assert PictureHeader("jpeg", 1920, 1080, 1).cost == 1
    assert PictureHeader("jpeg", 64, 48, 1).cost == 1
    assert PictureHeader("jpeg", 2048, 4 * 1024, 1).cost == 4 * 2048 * 1024 / PIXELS_OF_ONE


def test_slow_formats_and_many_scans_cost_more() -> None:
    plain = PictureHeader("jpeg", 4000, 4000, 1).cost
    assert PictureHeader("png", 4000, 4000).cost == PictureHeader("webp", 4000, 4000).cost == 3 * plain
    assert PictureHeader("jpeg", 4000, 4000, 80).cost == 10 * plain


def test_the_scans_of_a_progressive_jpeg_are_counted() -> None:
    header = header_of(saved("JPEG", progressive=True))
    assert header is not None
    assert header.scans >= 8


def test_a_jpeg_behind_stray_bytes_is_one_and_has_the_size_that_its_header_claims() -> None:
    huge = b"\r\n" + with_size(jpeg(9), 10_000, 9_000)
    assert format_of(huge) == "jpeg"
    assert header_of(huge) == PictureHeader("jpeg", 10_000, 9_000, 1)


@pytest.mark.parametrize(("form", "name"), [("GIF", "GIF"), ("TIFF", "TIFF"), ("AVIF", "HEIF or AVIF"), ("ICO", "ICO")])
def test_formats_that_nothing_here_decodes_are_known_by_name(form: str, name: str) -> None:
    picture = encoded(PHOTO, form)
    assert format_of(picture) is None
    assert foreign_format_of(picture) == name


@pytest.mark.parametrize("noise", [b"", b"\xff", b"no picture at all", bytes(100)])
def test_other_bytes_are_no_picture(noise: bytes) -> None:
    assert (format_of(noise), foreign_format_of(noise), header_of(noise)) == (None, None, None)
