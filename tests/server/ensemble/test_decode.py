"""Every picture a camera may send becomes RGB, and nothing else becomes anything."""

from __future__ import annotations

import struct
import time
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from server.domain.errors import TooLarge, Unprocessable
from server.ensemble.decode import decode
from tests import odd_jpegs
from tests.server.ensemble.pictures import encoded, in_all_forms, png_header, scene

PICTURE = scene(64, 48)
FORMS = in_all_forms(PICTURE)
COLOURFUL = ["jpeg", "progressive jpeg", "cmyk jpeg", "png", "png with alpha", "png with a palette", "bmp", "webp"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_becomes_rgb_of_its_size(form: str) -> None:
    frame = decode(FORMS[form])
    assert frame.shape == (3, 48, 64)
    assert frame.dtype == torch.uint8


@pytest.mark.parametrize("form", COLOURFUL)
def test_colours_are_those_of_the_picture(form: str) -> None:
    difference = decode(FORMS[form]).permute(1, 2, 0).numpy().astype(int) - np.asarray(PICTURE).astype(int)
    assert np.abs(difference).mean() < 12


@pytest.mark.parametrize("form", ["grey jpeg", "png with 16 bits"])
def test_greys_are_those_of_the_picture(form: str) -> None:
    red, green, blue = decode(FORMS[form]).numpy().astype(int)
    assert (red == green).all()
    assert (red == blue).all()
    assert np.abs(red - np.asarray(PICTURE.convert("L")).astype(int)).mean() < 3


def test_alpha_is_dropped_not_blended() -> None:
    clear = Image.merge("RGBA", (*PICTURE.split(), Image.new("L", PICTURE.size, 0)))
    assert torch.equal(decode(encoded(clear)), decode(encoded(PICTURE)))


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif.endian = ">"
    exif[0x010F] = "cam"
    exif[0x0112] = orientation
    return exif


def test_exif_orientation_is_applied() -> None:
    turned = decode(encoded(PICTURE, "PNG", exif=exif_of(6)))  # the camera was held upright: a quarter to the right
    upright = decode(encoded(PICTURE.transpose(Image.Transpose.ROTATE_270)))
    assert torch.equal(turned, upright)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_a_viewer_turns_it(orientation: int) -> None:
    sent = encoded(PICTURE, "JPEG", exif=exif_of(orientation))
    shown = ImageOps.exif_transpose(Image.open(BytesIO(sent)))
    assert np.array_equal(decode(sent).permute(1, 2, 0).numpy(), np.asarray(shown))


def test_a_faulty_tag_beside_the_orientation_is_no_reason_to_refuse_a_picture() -> None:
    sent = encoded(PICTURE, "JPEG", exif=exif_of(6))
    faulty = sent.replace(b"\x01\x0f\x00\x02", b"\x01\x02\x00\x02")
    assert faulty != sent
    with pytest.raises((struct.error, TypeError)):  # what Pillow's own turning comes to: it writes the EXIF anew
        ImageOps.exif_transpose(Image.open(BytesIO(faulty)))
    assert torch.equal(decode(faulty), decode(sent))


@given(st.integers(0, 400), st.integers(0, 255))
def test_damaged_exif_is_no_unforeseen_error(place: int, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "a maker", 72.0
    damaged = bytearray(encoded(PICTURE, "JPEG", exif=exif))
    damaged[place] = value
    with suppress(Unprocessable, TooLarge):
        assert decode(bytes(damaged)).shape[0] == 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.95])
def test_a_cut_off_picture_is_refused_with_its_index(kind: str, share: float) -> None:
    whole = encoded(scene(200, 150), kind)
    with pytest.raises(Unprocessable) as refused:
        decode(whole[: int(len(whole) * share)], frame=3)
    assert refused.value.frame == 3


@pytest.mark.parametrize("fault", odd_jpegs.with_faulty_edges(b""))
@pytest.mark.parametrize("encoder", odd_jpegs.ENCODERS)
def test_a_jpeg_with_a_faulty_edge_has_the_pixels_of_the_whole_one(fault: str, encoder: str) -> None:
    whole = odd_jpegs.jpeg(**odd_jpegs.ENCODERS[encoder])
    assert torch.equal(decode(odd_jpegs.with_faulty_edges(whole)[fault]), decode(whole))


@pytest.mark.parametrize("end", [b"", b"\xff" * 600, bytes(50_000)], ids=["bare", "FF", "zeros"])
@pytest.mark.parametrize("encoder", odd_jpegs.ENCODERS)
def test_half_a_jpeg_without_end_marker_is_refused_wherever_it_is_cut(encoder: str, end: bytes) -> None:
    for part in odd_jpegs.cut(odd_jpegs.jpeg(**odd_jpegs.ENCODERS[encoder])):
        with pytest.raises(Unprocessable) as refused:
            decode(part + end, frame=2)
        assert refused.value.frame == 2


@pytest.mark.parametrize("tail", odd_jpegs.with_odd_tails(b""))
def test_what_stands_behind_the_end_marker_changes_no_pixel(tail: str) -> None:
    whole = odd_jpegs.jpeg()
    assert torch.equal(decode(odd_jpegs.with_odd_tails(whole)[tail]), decode(whole))


def test_nobody_makes_the_search_for_the_edges_slow() -> None:
    whole = odd_jpegs.jpeg(progressive=True)
    scan = b"\xff\xda\0\x08\1\1\0\1\x3f\0"
    began_s = time.process_time()
    for filling in (b"\xff" * 10_000_000, b"\xff\xfe\0\2" * 2_500_000):
        with pytest.raises((Unprocessable, TooLarge)):
            decode(b"\r\n" + whole[:2] + filling)
    with pytest.raises((Unprocessable, TooLarge)):
        decode(whole[:-2] + scan * 1_000_000)
    assert time.process_time() - began_s < 3.0


@given(st.binary(max_size=300))
def test_bytes_that_are_no_picture_are_refused_in_words_about_them(noise: bytes) -> None:
    with pytest.raises(Unprocessable) as refused:
        decode(noise)
    assert "BytesIO" not in refused.value.detail


def test_what_is_another_thing_than_a_picture_is_shown_by_its_beginning() -> None:
    with pytest.raises(Unprocessable, match=r"not a whole JPEG.* picture: it begins with b'<html>'$"):
        decode(b"<html>")


@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_damaged_picture_is_decoded_or_refused_but_nothing_else_happens(place: int, value: int) -> None:
    damaged = bytearray(FORMS["png"])
    damaged[place % len(damaged)] = value
    with suppress(Unprocessable, TooLarge):
        assert decode(bytes(damaged)).shape[0] == 3


@pytest.mark.parametrize(("width", "height"), [(20_000, 10_000), (10_000, 5_001), (60_000, 60_000)])
def test_too_many_pixels_are_refused_by_the_header_alone(width: int, height: int) -> None:
    with pytest.raises(TooLarge) as refused:
        decode(png_header(width, height), frame=1)
    assert refused.value.frame == 1


def test_the_bound_on_pixels_is_inclusive() -> None:
    assert decode(FORMS["png"], max_pixels=64 * 48).shape == (3, 48, 64)
    with pytest.raises(TooLarge, match="64x48 is more than 3071 pixels"):
        decode(FORMS["png"], max_pixels=64 * 48 - 1)


def test_formats_nobody_sends_are_not_even_tried() -> None:
    with pytest.raises(Unprocessable, match="JPEG, PNG"):
        decode(encoded(PICTURE, "TIFF"))


def with_scans(size: tuple[int, int], more: int) -> bytes:
    """A grey progressive JPEG whose last scan, which holds nothing, comes so many times more."""
    image = encoded(Image.new("L", size, 128), "JPEG", progressive=True)
    return image[:-2] + image[image.rindex(b"\xff\xda") : -2] * more + image[-2:]


def test_a_small_file_that_takes_minutes_to_decode_is_refused_before_it_is() -> None:
    assert decode(with_scans((1000, 1000), 20)).shape == (3, 1000, 1000)
    with pytest.raises(TooLarge, match="scans of 1000x1000 pixels") as refused:
        decode(with_scans((1000, 1000), 1600), frame=2)
    assert refused.value.frame == 2


@pytest.mark.parametrize(
    "filling",
    [b"\xff", b"\x00", b"\xff\x00", b"\xff\xd8", b"\xff\xf0", b"\xff\xe5\x00\x02", b"\xff\xfe\x00\x02"],
)
def test_what_is_stuffed_before_the_picture_to_be_kept_or_searched_is_refused(filling: bytes) -> None:
    whole = encoded(PICTURE, "JPEG")
    with pytest.raises(TooLarge, match="more segments"):
        decode(whole[:2] + filling * 70_000 + whole[2:])


@pytest.mark.parametrize("filling", [b"\xff", b"\xff\xe5\x00\x02", b"\xff\xfe\x00\x02"])
def test_what_a_camera_writes_before_the_picture_is_passed_over(filling: bytes) -> None:
    whole = encoded(PICTURE, "JPEG")
    assert torch.equal(decode(whole[:2] + filling * 300 + whole[2:]), decode(whole))


def test_one_picture_of_too_many_bytes_is_refused_whoever_sends_it() -> None:
    with pytest.raises(TooLarge, match="bytes in one picture"):
        decode(encoded(PICTURE, "JPEG") + bytes(16 * 1024 * 1024))
