"""A candidate in the shadow is compared with what is served, and nobody waits for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from policies.observation import Box, EnsembleInfo, ModelInfo, Prediction
from server.domain.errors import RetryLater
from server.serving.swap import Answers, Changed, Comparison, Shadow

EYE, NEW = ModelInfo("eye", frozenset({"person"}), boxes=True), ModelInfo("new", frozenset({"cat"}), boxes=False)
PATIENCE_S = 30.0


def said(*labels: str | None) -> list[Mapping[str, tuple[Prediction, ...] | None]]:
    """What `eye` says of each frame: a label, nothing at all (""), or no answer (None)."""
    return [{"eye": None if label is None else (Prediction(label, 0.9),) if label else ()} for label in labels]


class Scripted:
    """Answers from a list, one request after the other; an error in it is raised."""

    def __init__(self, *answers: Answers | Exception) -> None:
        self.ensemble_info = EnsembleInfo("next", (EYE, NEW))
        self.asked: list[tuple[Sequence[bytes], Mapping[str, Box] | None, Sequence[Box]]] = []
        self._answers = list(answers)

    def answer_spare(
        self, images: Sequence[bytes], crops: Mapping[str, Box] | None, enlarged: Sequence[Box], *, within_s: float
    ) -> Answers:
        self.asked.append((images, crops, enlarged))
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_labels_that_differ_are_counted_by_model_and_pair() -> None:
    candidate = Scripted(said("person", "cat", "cat", None, "person"))
    shadow = Shadow(candidate, seconds=PATIENCE_S, frames=5)
    shadow.offer([b"1", b"2", b"3", b"4", b"5"], None, said("person", "person", "person", "person", ""))
    assert shadow.run() == Comparison(
        1,
        5,
        (
            Changed("eye", "person", "cat", 2),
            Changed("eye", "person", "", 1),
            Changed("eye", "nothing", "person", 1),
        ),
    )


def test_the_candidate_is_asked_about_the_same_frames_and_sectors() -> None:
    candidate = Scripted(said("person"))
    shadow = Shadow(candidate, seconds=PATIENCE_S, frames=1)
    shadow.offer([b"1"], {"yard": (0, 0, 1, 1)}, said("person"), [(0, 0, 0.5, 0.5)])
    assert shadow.run().changed == ()
    assert candidate.asked == [([b"1"], {"yard": (0, 0, 1, 1)}, [(0, 0, 0.5, 0.5)])]


def test_while_one_request_waits_to_be_compared_others_pass_by() -> None:
    candidate = Scripted(said("person"))
    shadow = Shadow(candidate, seconds=PATIENCE_S, frames=1)
    for number in range(3):
        shadow.offer([bytes([number])], None, said("person"))
    shadow.run()
    assert [images for images, *_ in candidate.asked] == [[b"\0"]]


def test_a_request_for_which_there_was_nothing_to_spare_is_not_compared() -> None:
    shadow = Shadow(Scripted(RetryLater("nothing to spare")), seconds=0.05)
    shadow.offer([b"1"], None, said("person"))
    assert shadow.run() == Comparison(0, 0, ())


def test_without_requests_it_ends_when_its_time_is_up() -> None:
    assert Shadow(Scripted(), seconds=0.01).run() == Comparison(0, 0, ())


def test_a_candidate_that_falls_over_ends_it() -> None:
    shadow = Shadow(Scripted(RuntimeError("fell over")), seconds=PATIENCE_S)
    shadow.offer([b"1"], None, said("person"))
    with pytest.raises(RuntimeError, match="fell over"):
        shadow.run()
