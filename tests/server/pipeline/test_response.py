"""The one label that stands for a model's answer: FlexServe's, and the same on every endpoint."""

from __future__ import annotations

import pytest

from policies.fusion.judgement import Candidate, Judgement
from policies.observation import Prediction
from policies.sensitivity import Ruling, Verdict, Vote
from server.pipeline.response import targets_voted_for, top_label


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


def test_only_what_a_model_voted_for_is_a_vote() -> None:
    def candidate(target: str, vote: Vote) -> Candidate:
        return Candidate(target, (), {"eye": vote}, Ruling(Verdict.ABSENT, None), False, 0.2)

    judgement = Judgement((candidate("person", Vote.AGAINST), candidate("vehicle", Vote.FOR)), ())
    assert targets_voted_for("eye", judgement) == ["vehicle"]
    assert targets_voted_for("ear", judgement) == []
