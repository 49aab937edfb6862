"""The one label that stands for a model's answer: FlexServe's, and the same on every endpoint."""

from __future__ import annotations

import pytest

from policies.observation import Sighting
from server.pipeline.response import top_label


@pytest.mark.parametrize(
    ("sightings", "label"),
    [
        (None, ""),
        ((), "nothing"),
        ((Sighting("car", 0.4, (0, 0, 1, 1)), Sighting("person", 0.6, (0, 0, 1, 1))), "person"),
        ((Sighting("cab", 0.9, sector="yard"), Sighting("tree", 0.3)), "tree"),
        ((Sighting("moving", 0.9, (0, 0, 1, 1)), Sighting("still", 0.6)), "still"),
    ],
)
def test_the_top_label_is_the_best_of_the_whole_view(sightings: tuple[Sighting, ...] | None, label: str) -> None:
    assert top_label(sightings) == label
