"""nanodet-g finds what the published graph finds when another implementation runs it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from server.catalogue import card_named, locate
from server.domain.errors import ConfigurationError
from server.ensemble.nanodet import NanoDet, build
from tests.server.ensemble.opencv import recorded
from tests.server.ensemble.second_opinion import blob_of, found_by, judged, unmatched

CARD = card_named("nanodet-g")


@pytest.fixture(scope="module")
def network(cache_dir: Path) -> NanoDet:
    return build(CARD, locate(CARD, cache_dir))


def test_boxes_are_those_of_the_published_graph_on_twenty_frames(network: NanoDet, footage_frames: list[bytes]) -> None:
    count = 0
    for index, jpeg in enumerate(footage_frames):
        ours = found_by(network, blob_of(jpeg, CARD))
        theirs = [tuple(found) for found in recorded("nanodet-g")[index]]
        assert unmatched(theirs, ours, slack=0.01, overlap=0.95) == [], f"frame {index}: theirs, not ours"
        assert unmatched(ours, theirs, slack=0.01, overlap=0.95) == [], f"frame {index}: ours, not theirs"
        count += judged(theirs)
    assert count > 100


@pytest.mark.parametrize("size", [(32, 32), (224, 320)])
def test_takes_any_size_that_is_a_multiple_of_32(network: NanoDet, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        layers = network.layers(torch.rand(2, 3, *size))
    assert [tuple(layer.shape) for layer in layers] == [(2, 124, size[0] // s, size[1] // s) for s in (8, 16, 32)]


def test_refuses_other_sizes(network: NanoDet) -> None:
    with pytest.raises(ValueError, match="multiples of 32, not 416x300"):
        network(torch.rand(1, 3, 300, 416))


def test_a_row_without_anything_has_no_boxes(network: NanoDet) -> None:
    with torch.inference_mode():
        [found] = network(torch.zeros(1, 3, 64, 64))
    assert found.boxes.shape == (0, 4)


def test_refuses_a_file_of_another_length(tmp_path: Path) -> None:
    other = tmp_path / "other.weights"
    other.write_bytes(b"\0" * 1000)
    with pytest.raises(ConfigurationError, match="has 1000 bytes, the weights of nanodet-g 7574558"):
        build(CARD, other)


def test_refuses_to_be_built_without_weights() -> None:
    with pytest.raises(ConfigurationError, match="no weights"):
        build(msgspec.structs.replace(CARD), None)
