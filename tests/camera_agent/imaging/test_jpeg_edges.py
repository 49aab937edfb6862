"""JPEGs with faulty edges are taken as every viewer shows them, and half a picture never is."""

from __future__ import annotations

import ast
import inspect
import io

import numpy as np
import pytest
from PIL import Image

from camera_agent.imaging import jpeg_edges as agent_edges
from camera_agent.imaging.frame import DamagedPicture, FrameFormat
from camera_agent.imaging.pillow import encode_bytes
from server.domain.pictures import jpeg_edges as server_edges
from server.domain.pictures.image_info import size_of
from tests import odd_jpegs, odd_metadata

FAULTS = odd_jpegs.with_faulty_edges(odd_jpegs.jpeg())
WINDOW = ((0.0, 0.0), (0.2, 0.0), (0.2, 0.2), (0.0, 0.2))
FORMATS = [FrameFormat(), FrameFormat(max_width=80), FrameFormat(masks=(WINDOW,)), FrameFormat(always_encode=True)]


def pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_picture_with_a_faulty_edge_is_sent_as_a_well_formed_jpeg_with_the_same_pixels(fault: str) -> None:
    taken = encode_bytes(FAULTS[fault], FrameFormat())
    assert taken.is_mended
    assert taken.jpeg.startswith(b"\xff\xd8\xff")
    assert taken.jpeg.endswith(odd_jpegs.EOI)
    assert np.array_equal(pixels(taken.jpeg), pixels(odd_jpegs.jpeg()))


@pytest.mark.parametrize("encoder", odd_jpegs.ENCODERS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", odd_jpegs.SIZES)
def test_every_coding_may_lack_its_end_marker(encoder: str, mode: str, size: tuple[int, int]) -> None:
    whole = odd_jpegs.jpeg(size, mode, **odd_jpegs.ENCODERS[encoder])
    taken = encode_bytes(whole.removesuffix(odd_jpegs.EOI), FrameFormat())
    assert (taken.jpeg, taken.is_mended) == (whole, True)
    assert taken.thumbnail == encode_bytes(whole, FrameFormat()).thumbnail


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("frame_format", FORMATS[1:], ids=["smaller", "masked", "thrifty"])
def test_a_mended_picture_that_is_encoded_anew_is_that_of_the_whole_one(fault: str, frame_format: FrameFormat) -> None:
    taken, whole = encode_bytes(FAULTS[fault], frame_format), encode_bytes(odd_jpegs.jpeg(), frame_format)
    assert taken == whole._replace(is_mended=True)


@pytest.mark.parametrize("end", [b"", odd_jpegs.EOI, bytes(50_000), b"\xff" * 600], ids=["bare", "end", "zeros", "FF"])
@pytest.mark.parametrize("encoder", ["baseline", "optimised tables", "not subsampled", "restart markers"])
def test_a_picture_cut_off_anywhere_is_damaged_whatever_is_put_in_the_place_of_the_rest(
    encoder: str, end: bytes
) -> None:
    for part in odd_jpegs.cut(odd_jpegs.jpeg(**odd_jpegs.ENCODERS[encoder])):
        with pytest.raises(DamagedPicture):
            encode_bytes(part + end, FrameFormat())


@pytest.mark.parametrize("encoder", ["progressive", "progressive with restart markers"])
def test_a_progressive_picture_without_its_last_scans_is_damaged(encoder: str) -> None:
    for part in odd_jpegs.cut(odd_jpegs.jpeg(**odd_jpegs.ENCODERS[encoder])):
        with pytest.raises(DamagedPicture):
            encode_bytes(part, FrameFormat())


@pytest.mark.parametrize("tail", odd_jpegs.with_odd_tails(b""))
def test_what_stands_behind_the_end_marker_is_sent_as_it_came(tail: str) -> None:
    data = odd_jpegs.with_odd_tails(odd_jpegs.jpeg())[tail]
    taken = encode_bytes(data, FrameFormat())
    assert (taken.jpeg, taken.is_mended) == (data, False)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_strict_camera_has_no_picture_with_a_faulty_edge(fault: str) -> None:
    with pytest.raises(DamagedPicture, match="`strict_jpeg` is set"):
        encode_bytes(FAULTS[fault], FrameFormat(is_strict=True))


def test_a_strict_camera_sends_a_well_formed_picture_unchanged() -> None:
    taken = encode_bytes(odd_jpegs.jpeg(), FrameFormat(is_strict=True))
    assert (taken.jpeg, taken.is_mended) == (odd_jpegs.jpeg(), False)


@pytest.mark.parametrize("encoder", odd_jpegs.ENCODERS)
def test_a_well_formed_picture_is_sent_unchanged(encoder: str) -> None:
    whole = odd_jpegs.jpeg(**odd_jpegs.ENCODERS[encoder])
    taken = encode_bytes(whole, FrameFormat())
    assert (taken.jpeg, taken.is_mended) == (whole, False)


def test_a_preview_in_the_header_is_not_taken_for_the_picture() -> None:
    preview = odd_jpegs.jpeg((40, 30))
    exif = b"Exif\0\0" + preview
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    whole = odd_jpegs.jpeg()
    data = whole[:2] + segment + whole[2:]
    taken = encode_bytes(data.removesuffix(odd_jpegs.EOI), FrameFormat())
    assert (taken.jpeg, taken.is_mended) == (data, True)
    with pytest.raises(DamagedPicture):
        encode_bytes(data[: len(data) // 2], FrameFormat())


@pytest.mark.parametrize(
    "data", [b"", b"<html>\xff\xd8\xff</html>", b"\xff\xd8\xff", b"\r\n" * 600 + FAULTS["FF padding"]]
)
def test_bytes_without_a_picture_near_their_beginning_are_damaged(data: bytes) -> None:
    with pytest.raises(DamagedPicture, match="not a whole image"):
        encode_bytes(data, FrameFormat())


def test_the_agent_and_the_server_find_edges_by_the_same_code() -> None:
    trees = [ast.parse(inspect.getsource(module)) for module in (agent_edges, server_edges)]
    assert len({ast.unparse(ast.Module(tree.body[1:], [])) for tree in trees}) == 1


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", odd_metadata.PICTURES)
def test_the_agent_turns_a_picture_as_the_server_does_wherever_its_orientation_is_written(name: str) -> None:
    picture = odd_metadata.PICTURES[name]
    width, height = size_of(picture) or (0, 0)
    thumbnail = encode_bytes(picture, FrameFormat()).thumbnail
    assert (thumbnail.width, thumbnail.height) == (128, round(128 * height / width))
    assert size_of(encode_bytes(picture, FrameFormat(masks=(WINDOW,))).jpeg) == (width, height)
