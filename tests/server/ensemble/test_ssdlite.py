"""ssdlite-people finds what TensorFlow finds with the published graph."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from server.catalogue import card_named, locate
from server.domain.errors import ConfigurationError
from server.ensemble.ssdlite import SsdLite, build
from tests.server.ensemble.opencv import recorded
from tests.server.ensemble.second_opinion import blob_of, found_by, judged, unmatched

CARD = card_named("ssdlite-people")


@pytest.fixture(scope="module")
def network(cache_dir: Path) -> SsdLite:
    return build(CARD, locate(CARD, cache_dir))


def test_boxes_are_those_of_tensorflow_on_twenty_frames(network: SsdLite, footage_frames: list[bytes]) -> None:
    count = 0
    for index, jpeg in enumerate(footage_frames):
        ours = [
            (label, score, tuple(min(max(edge, 0.0), 1.0) for edge in box))  # TensorFlow clips boxes to the frame
            for label, score, box in found_by(network, blob_of(jpeg, CARD))
        ]
        theirs = [tuple(found) for found in recorded("ssdlite-people")[index]]
        assert unmatched(theirs, ours, slack=0.01, overlap=0.95) == [], f"frame {index}: TensorFlow's, not ours"
        assert unmatched(ours, theirs, slack=0.01, overlap=0.95) == [], f"frame {index}: ours, not TensorFlow's"
        count += judged(theirs)
    assert count > 50


def test_refuses_other_sizes(network: SsdLite) -> None:
    with pytest.raises(ValueError, match="wants 300x300, not 416x300"):
        network(torch.rand(1, 3, 300, 416))


def test_a_row_without_anything_has_no_boxes(network: SsdLite) -> None:
    with torch.inference_mode():
        [found] = network(torch.zeros(1, 3, 300, 300))
    assert found.boxes.shape == (0, 4)


def test_refuses_a_graph_of_another_network(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not a frozen TensorFlow graph"):
        build(CARD, weights)


def test_refuses_to_be_built_without_weights() -> None:
    with pytest.raises(ConfigurationError, match="no weights"):
        build(msgspec.structs.replace(CARD), None)
