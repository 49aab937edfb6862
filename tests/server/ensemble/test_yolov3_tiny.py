"""yolov3-tiny finds what `cv2.dnn` finds with the same weights."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from server.catalogue import card_named
from server.domain.errors import ConfigurationError
from server.ensemble.yolov3_tiny import YoloV3Tiny, build
from tests.server.ensemble.opencv import IS_OPENCV_4, OpenCvYolo, recorded
from tests.server.ensemble.second_opinion import blob_of, found_by, judged, unmatched

CARD = card_named("yolov3-tiny")
REFERENCES = ["recorded", "live"] if IS_OPENCV_4 else ["recorded"]


@pytest.fixture(scope="module")
def network(weights: Path) -> YoloV3Tiny:
    return build(CARD, weights)


@pytest.mark.parametrize("reference", REFERENCES)
def test_boxes_are_those_of_opencv_on_twenty_frames(
    network: YoloV3Tiny, weights: Path, footage_frames: list[bytes], reference: str
) -> None:
    count = 0
    for index, jpeg in enumerate(footage_frames):
        blob = blob_of(jpeg, CARD)
        ours = found_by(network, blob)
        if reference == "live":
            theirs = OpenCvYolo(weights, blob.shape[3], blob.shape[2]).detect(blob.numpy())
        else:
            theirs = [tuple(found) for found in recorded("yolov3-tiny")[index]]
        assert unmatched(theirs, ours, slack=0.02, overlap=0.9) == [], f"frame {index}: OpenCV's, not ours"
        assert unmatched(ours, theirs, slack=0.02, overlap=0.9) == [], f"frame {index}: ours, not OpenCV's"
        count += judged(theirs)
    assert count > 100


@pytest.mark.parametrize("size", [(32, 32), (320, 224), (608, 608)])
def test_takes_any_size_that_is_a_multiple_of_32(network: YoloV3Tiny, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        coarse, fine = network.layers(torch.rand(2, 3, *size))
    assert coarse.shape == (2, 255, size[0] // 32, size[1] // 32)
    assert fine.shape == (2, 255, size[0] // 16, size[1] // 16)


def test_refuses_other_sizes(network: YoloV3Tiny) -> None:
    with pytest.raises(ValueError, match="multiples of 32, not 416x300"):
        network(torch.rand(1, 3, 300, 416))


def test_what_a_row_gives_does_not_depend_on_its_batch(network: YoloV3Tiny, footage_frames: list[bytes]) -> None:
    rows = torch.cat([blob_of(jpeg, CARD) for jpeg in footage_frames[:3]])
    with torch.inference_mode():
        together = network(rows)
        for index, found in enumerate(together):
            alone = network(rows[index : index + 1])[0]
            assert torch.equal(alone.classes, found.classes)
            torch.testing.assert_close(alone.boxes, found.boxes, atol=1e-5, rtol=0)


@pytest.mark.parametrize("change", [-4, 4])
def test_refuses_a_file_of_another_length(tmp_path: Path, weights: Path, change: int) -> None:
    content = weights.read_bytes()
    other = tmp_path / "other.weights"
    other.write_bytes(content[:change] if change < 0 else content + b"\0" * change)
    with pytest.raises(ConfigurationError, match="too early" if change < 0 else "too many"):
        build(CARD, other)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\0" * 21])
def test_refuses_what_is_no_darknet_file(tmp_path: Path, content: bytes) -> None:
    other = tmp_path / "other.weights"
    other.write_bytes(content)
    with pytest.raises(ConfigurationError, match="not a Darknet weights file"):
        build(CARD, other)


def test_refuses_to_be_built_without_weights() -> None:
    with pytest.raises(ConfigurationError, match="no weights"):
        build(msgspec.structs.replace(CARD), None)
