"""Without annotations, `tune` shows how often each pair of models gives the same vote."""

from __future__ import annotations

from policies.fusion.judge import judge
from policies.observation import Observation, Prediction
from server.analysis.agreement import HEADING, PairAgreement, pair_agreements, records_of
from server.commands.options import aligned
from tests.policies.stories import CLASSIFIER, DETECTOR, SECOND, observation, person_at, policy


def frame(at_s: float, eye: float | None, second: float | None) -> Observation:
    """Two detectors see somebody at the same place, with these scores; None: the model did not answer."""

    def answer(score: float | None) -> list[Prediction] | None:
        return None if score is None else [person_at(0.2, score=score)] if score else []

    answers = {"eye": answer(eye), "eye.2": answer(second), "namer": [Prediction("road", 0.9, sector="west")]}
    return observation(at_s, answers, [DETECTOR, SECOND, CLASSIFIER])


FRAMES = [frame(0, 0.9, 0.9), frame(1, 0.9, 0.1), frame(2, 0.1, 0.1), frame(3, 0.1, 0.9), frame(4, 0.9, None)]


def test_votes_of_two_models_on_the_same_candidates_are_counted() -> None:
    rows = pair_agreements(judge(policy(), seen) for seen in FRAMES)
    assert PairAgreement("person", "eye", "eye.2", both_for=1, both_against=1, only_a=1, only_b=1) in rows
    assert {row.share for row in rows if row.b == "eye.2"} == {0.5}


def test_a_model_that_did_not_answer_is_in_no_count() -> None:
    rows = pair_agreements([judge(policy(), FRAMES[4])])
    assert [(row.a, row.b, row.only_a) for row in rows] == [("eye", "namer", 1)]


def test_without_candidates_there_is_no_row() -> None:
    assert pair_agreements([judge(policy(), observation(0, {"eye": []}))]) == []


def test_the_table_has_a_heading_and_a_line_for_each_pair() -> None:
    heading, line = aligned([HEADING, PairAgreement("person", "eye", "eye.2", 6, 2, 1, 1).cells()], texts=3)
    assert heading.split() == [
        "target",
        "model",
        "A",
        "model",
        "B",
        "both",
        "voted",
        "agree",
        "both",
        "for",
        "only",
        "A",
        "only",
        "B",
    ]
    assert line.split() == ["person", "eye", "eye.2", "10", "80%", "6", "1", "1"]
    assert len(heading) == len(line)


def test_people_contradict_votes_against_true_events_and_for_false_ones() -> None:
    judged = [
        (True, {"a": "for", "b": "against", "c": "abstain"}),
        (False, {"a": "for", "b": "against", "c": "missing"}),
        (False, {"a": "for", "b": "for", "c": "against"}),
    ]
    assert [(each.model, each.voted, each.disagreed, each.silent) for each in records_of(judged)] == [
        ("a", 3, 2, 0),
        ("b", 3, 2, 0),
        ("c", 1, 0, 2),
    ]
    first = records_of(judged)[0]
    assert (first.true_for, first.true_against, first.false_for, first.false_against) == (1, 0, 2, 0)
    assert records_of([]) == []
