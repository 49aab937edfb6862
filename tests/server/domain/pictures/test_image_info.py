"""The size a header states is the size that decoding gives."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from server.domain.pictures.image_info import brightness_of, size_of
from server.ensemble.decode import decode
from tests import odd_jpegs, odd_metadata

FAULTS = odd_jpegs.with_faulty_edges(odd_jpegs.jpeg())


def encoded(form: str, mode: str, size: tuple[int, int], **options: object) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, form, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("form", "mode", "options"),
    [
        ("JPEG", "RGB", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "L", {"comment": b"x" * 300}),
        ("JPEG", "CMYK", {"quality": 30, "restart_marker_blocks": 1}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {}),
    ],
)
def test_the_size_is_read_from_the_header(form: str, mode: str, options: dict[str, object]) -> None:
    assert size_of(encoded(form, mode, (123, 45), **options)) == (123, 45)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_picture_on_its_side_has_the_size_it_is_shown_in(orientation: int, order: str) -> None:
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F] = "a camera"
    exif[0x0112] = orientation
    image = encoded("JPEG", "RGB", (64, 48), exif=exif)
    assert size_of(image) == ImageOps.exif_transpose(Image.open(io.BytesIO(image))).size


@pytest.mark.parametrize(("kind", "size"), [(2, (64, 48)), (3, (48, 64)), (4, (64, 48))])
def test_an_orientation_is_read_by_its_type_as_the_ensemble_reads_it(kind: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif.endian = ">"
    exif[0x0112] = 6
    short = encoded("JPEG", "RGB", (64, 48), exif=exif)
    image = short.replace(b"\x01\x12\x00\x03", bytes((1, 0x12, 0, kind)))
    assert size_of(image) == decode(image).shape[:0:-1] == size


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", odd_metadata.PICTURES)
def test_the_size_is_that_of_the_picture_that_models_see_wherever_its_orientation_is_written(name: str) -> None:
    image = odd_metadata.PICTURES[name]
    assert size_of(image) == decode(image).shape[:0:-1]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("EXIF twice", (48, 64)),
        ("EXIF twice, the second on its side", (64, 48)),
        ("XMP as an attribute", (48, 64)),
        ("XMP before EXIF", (64, 48)),
        ("only extended XMP", (64, 48)),
        ("a PNG with EXIF", (48, 64)),
        ("a WebP with EXIF", (48, 64)),
        ("a BMP", (64, 48)),
    ],
)
def test_the_first_exif_counts_and_xmp_only_without_it(name: str, size: tuple[int, int]) -> None:
    assert size_of(odd_metadata.PICTURES[name]) == size


@pytest.mark.parametrize("fault", FAULTS)
def test_a_picture_with_a_faulty_edge_has_size_and_brightness_of_the_whole_one(fault: str) -> None:
    whole = odd_jpegs.jpeg()
    assert size_of(FAULTS[fault]) == size_of(whole) == (160, 120)
    assert brightness_of(FAULTS[fault]) == brightness_of(whole)


def test_other_bytes_have_no_size() -> None:
    whole = encoded("JPEG", "RGB", (16, 16))
    assert size_of(b"") is None
    assert size_of(b"BM nothing we know") is None
    assert size_of(whole[:40]) is None


@given(st.binary(max_size=64))
def test_no_bytes_at_all_make_it_stumble(tail: bytes) -> None:
    for head in (b"", b"\xff\xd8", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"):
        size = size_of(head + tail)
        assert size is None or min(size) > 0


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("grey", [0, 64, 255])
def test_the_brightness_of_a_plain_picture_is_its_grey(form: str, grey: int) -> None:
    out = io.BytesIO()
    Image.new("RGB", (320, 240), (grey, grey, grey)).save(out, form)
    assert brightness_of(out.getvalue()) == pytest.approx(grey / 255, abs=0.002)


def test_the_brightness_of_a_picture_is_the_mean_over_all_of_it() -> None:
    half = Image.new("L", (640, 480), 40)
    half.paste(200, (0, 0, 320, 480))
    out = io.BytesIO()
    half.save(out, "JPEG")
    assert brightness_of(out.getvalue()) == pytest.approx(120 / 255, abs=0.01)


@pytest.mark.parametrize("size", [(1, 1), (7, 480), (640, 1)])
def test_a_picture_of_less_than_a_block_has_a_brightness_too(size: tuple[int, int]) -> None:
    assert brightness_of(encoded("JPEG", "L", size)) == 0.0


@pytest.mark.parametrize("bytes_", [b"", b"no picture", encoded("JPEG", "RGB", (64, 64))[:30]])
def test_bytes_that_are_no_picture_have_no_brightness(bytes_: bytes) -> None:
    assert brightness_of(bytes_) is None


@given(st.integers(0, 700), st.integers(0, 255), st.sampled_from(["JPEG", "PNG", "WEBP", "BMP"]))
def test_damaged_pictures_have_a_brightness_or_none(place: int, value: int, form: str) -> None:
    damaged = bytearray(encoded(form, "RGB", (16, 16)))
    damaged[min(place, len(damaged) - 1)] = value
    found = brightness_of(bytes(damaged))
    assert found is None or 0 <= found <= 1
