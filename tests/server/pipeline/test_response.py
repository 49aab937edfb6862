"""The one label that stands for a model's answer: FlexServe's, and the same on every endpoint."""

from __future__ import annotations

import pytest

from policies.observation import Prediction
from server.pipeline.response import top_label


@pytest.mark.parametrize(
    ("predictions", "label"),
    [
        (None, ""),
        ((), "nothing"),
        ((Prediction("car", 0.4, (0, 0, 1, 1)), Prediction("person", 0.6, (0, 0, 1, 1))), "person"),
        ((Prediction("cab", 0.9, sector="yard"), Prediction("tree", 0.3)), "tree"),
        ((Prediction("moving", 0.9, (0, 0, 1, 1)), Prediction("still", 0.6)), "still"),
    ],
)
def test_the_top_label_is_the_best_of_the_whole_view(predictions: tuple[Prediction, ...] | None, label: str) -> None:
    assert top_label(predictions) == label
