"""From labels to candidates and votes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from policies.fusion.judge import judge, relevant_judgement
from policies.observation import Prediction
from policies.sensitivity import Verdict, Vote
from policies.site.site_policy import parse_site_policy
from tests.policies.stories import CHANGE, CLASSIFIER, DETECTOR, SECOND, TWO_HALVES, observation, person_at, policy


def test_one_thing_seen_by_two_detectors_is_one_candidate_with_two_votes():
    seen = observation(0, {"eye": [person_at(0.2)], "eye.2": [person_at(0.205)]}, [DETECTOR, SECOND])
    (candidate,) = judge(policy(), seen).candidates
    assert candidate.votes == {"eye": Vote.FOR, "eye.2": Vote.FOR}
    assert candidate.sectors == ("west",)
    assert candidate.box == person_at(0.2).box


def test_two_people_side_by_side_are_two_candidates():
    seen = observation(0, {"eye": [person_at(0.2), person_at(0.3)]})
    assert len(judge(policy(), seen).candidates) == 2


def test_all_needs_the_detectors_to_agree_on_the_same_thing():
    seen = observation(0, {"eye": [person_at(0.2)], "eye.2": [person_at(0.4)]}, [DETECTOR, SECOND])
    assert [c.present for c in judge(policy(extra='sensitivity = {rule = "all"}'), seen).candidates] == [False] * 2
    assert [c.present for c in judge(policy(extra='sensitivity = {rule = "any"}'), seen).candidates] == [True] * 2


def test_one_target_may_be_judged_more_strictly_than_another_in_the_same_sector():
    rules = """targets = ["person", "vehicle"]
    sensitivity = {rule = "any"}
    by_target.vehicle = {sensitivity = {rule = "all"}, min_score = {eye = 0.8}}"""
    boxes = {"person": (0.1, 0.6, 0.15, 0.8), "car": (0.3, 0.6, 0.4, 0.8)}

    def present(score: float, *models: str) -> set[str]:
        answers = {model: [Prediction(label, score, box) for label, box in boxes.items()] for model in models}
        models = [DETECTOR, replace(SECOND, classes=DETECTOR.classes)]
        judgements = [
            judge(policy(extra=rules), observation(0, answers, models)),
            relevant_judgement(policy(extra=rules), observation(0, answers, models)),
        ]
        assert len({tuple(c.target for c in judged.candidates if c.present) for judged in judgements}) == 1
        return {c.target for c in judgements[0].candidates if c.present}

    assert present(0.9, "eye") == {"person"}
    assert present(0.9, "eye", "eye.2") == {"person", "vehicle"}
    assert present(0.7, "eye", "eye.2") == {"person"}


def test_a_score_below_the_minimum_is_no_vote_but_may_keep_a_track():
    weak = judge(policy(extra='min_score = {"*" = 0.5}'), observation(0, {"eye": [person_at(0.2, score=0.3)]}))
    assert [(c.present, c.kept) for c in weak.candidates] == [(False, True)]


def test_a_model_that_gives_evidence_only_never_votes():
    seen = observation(0, {"frame-change": [Prediction("moving", 1.0)], "eye": [person_at(0.2)]}, [DETECTOR, CHANGE])
    assert judge(policy(), seen).candidates[0].votes == {"eye": Vote.FOR}


def test_a_classifier_votes_by_the_crop_of_the_sector():
    labels = [Prediction("person", 0.8, sector="west"), Prediction("road", 0.9, sector="east")]
    (candidate,) = judge(policy(), observation(0, {"namer": labels}, [CLASSIFIER])).candidates
    assert (candidate.sectors, candidate.box, candidate.votes) == (("west",), None, {"namer": Vote.FOR})


def test_a_classifier_judges_a_box_by_the_sector_it_stands_in():
    labels = [Prediction("road", 0.9, sector="west"), Prediction("road", 0.9, sector="east")]
    seen = observation(0, {"eye": [person_at(0.2)], "namer": labels}, [DETECTOR, CLASSIFIER])
    (candidate,) = judge(policy(extra='sensitivity = {rule = "all"}'), seen).candidates
    assert candidate.votes == {"eye": Vote.FOR, "namer": Vote.AGAINST}
    assert not candidate.present


def test_a_classifier_that_was_shown_only_the_whole_view_speaks_for_every_sector():
    candidates = judge(policy(), observation(0, {"namer": [Prediction("person", 0.7)]}, [CLASSIFIER])).candidates
    assert [c.sectors for c in candidates] == [("west",), ("east",)]


WEST_AND_VIEW = TWO_HALVES.replace("east]", "view]").replace(
    "[[0.5, 0], [1, 0], [1, 1], [0.5, 1]]", "[[0, 0], [1, 0], [1, 1], [0, 1]]"
)


@pytest.mark.parametrize(
    ("of_frame", "of_view", "present"),
    [("road", "person", True), ("person", "road", False), ("person", None, True), ("road", None, False)],
)
def test_a_whole_view_sector_is_judged_by_its_own_label_and_by_the_frames_only_without_one(of_frame, of_view, present):
    rules = parse_site_policy('site = "yard"').camera("gate")
    own = [] if of_view is None else [Prediction(of_view, 0.9, sector="view")]
    seen = observation(0, {"namer": [Prediction(of_frame, 0.9), *own]}, [CLASSIFIER])
    assert [c.sectors for c in judge(rules, seen).candidates] == ([("view",)] if present else [])


@pytest.mark.parametrize("whole", ["view", None])
def test_a_box_in_part_of_the_view_is_judged_by_that_part_and_not_by_the_whole_view(whole):
    labels = [Prediction("road", 0.9, sector="west"), Prediction("person", 0.9, sector=whole)]
    seen = observation(0, {"eye": [person_at(0.2)], "namer": labels}, [DETECTOR, CLASSIFIER])
    judged = judge(policy(WEST_AND_VIEW, extra='sensitivity = {rule = "all"}'), seen)
    (boxed,) = [c for c in judged.candidates if c.box is not None]
    assert (boxed.sectors, boxed.votes) == (("west", "view"), {"eye": Vote.FOR, "namer": Vote.AGAINST})


def test_a_silent_ensemble_leaves_every_sector_undecided():
    judged = judge(policy(), observation(0, {"eye": None}))
    assert judged.candidates == ()
    assert judged.undecided == (("person", "west"), ("person", "east"))


def test_failing_open_makes_a_silent_detector_a_presence():
    judged = judge(policy(extra='sensitivity = {missing = "fail_open"}'), observation(0, {"eye": None}))
    assert [(c.sectors, c.votes) for c in judged.candidates] == [
        (("west",), {"eye": Vote.MISSING}),
        (("east",), {"eye": Vote.MISSING}),
    ]


def test_other_classes_are_not_the_target():
    seen = observation(0, {"eye": [Prediction("car", 0.9, (0.1, 0.1, 0.3, 0.3))]})
    assert judge(policy(), seen).candidates == ()


@pytest.mark.parametrize(
    "sensitivity",
    [
        'rule = "any"',
        'rule = "majority"',
        'rule = "all"',
        'rule = "at_least", k = 3',
        'rule = "weighted", threshold = 9',
        'rule = "weighted", missing = "fail_open"',
    ],
)
def test_a_frame_that_shows_nothing_is_judged_as_votes_against_would_be(sensitivity):
    rules = policy(extra=f"sensitivity = {{{sensitivity}}}")
    judged = judge(rules, observation(0, {}, [DETECTOR, SECOND]))
    ruling = rules.rules.sensitivity.fuse({"eye": Vote.AGAINST, "eye.2": Vote.AGAINST})
    undecided = (("person", "west"), ("person", "east")) if ruling.verdict is Verdict.UNDECIDED else ()
    assert (judged.candidates, judged.undecided) == ((), undecided)


def test_a_box_that_lies_inside_a_much_larger_one_is_a_thing_of_its_own():
    small, large = person_at(0.3, height=0.1), person_at(0.3, height=0.4)
    candidates = judge(policy(), observation(0, {"eye": [large], "eye.2": [small]}, [DETECTOR, SECOND])).candidates
    assert [c.box for c in candidates] == [large.box, small.box]


def test_a_box_that_lies_inside_a_somewhat_larger_one_is_the_same_thing():
    tight, loose = person_at(0.3, height=0.1), person_at(0.3, 0.81, height=0.19)
    (candidate,) = judge(policy(), observation(0, {"eye": [loose], "eye.2": [tight]}, [DETECTOR, SECOND])).candidates
    assert candidate.votes == {"eye": Vote.FOR, "eye.2": Vote.FOR}


def test_sectors_that_want_other_targets_are_not_asked():
    text = TWO_HALVES.replace("[0, 1]]\n", '[0, 1]]\ntargets = ["vehicle"]\n', 1)
    assert text.count("vehicle") == 1
    judged = judge(policy(text), observation(0, {"eye": None}))
    assert judged.undecided == (("person", "east"), ("vehicle", "west"))


def test_a_sector_in_which_a_box_lies_is_not_judged_again_as_a_whole():
    labels = [Prediction("person", 0.8, sector="west"), Prediction("road", 0.9, sector="east")]
    seen = observation(0, {"eye": [person_at(0.2)], "namer": labels}, [DETECTOR, CLASSIFIER])
    assert [c.box for c in judge(policy(), seen).candidates] == [person_at(0.2).box]


def test_frames_of_one_panel_are_judged_as_if_each_came_alone():
    first = observation(0, {"eye": [person_at(0.2)]})
    second = replace(observation(1, {"eye": []}), ensemble_info=first.ensemble_info)
    rules = policy()
    assert [judge(rules, seen) for seen in (first, second)] == [judge(policy(), seen) for seen in (first, second)]


def test_the_relevant_judgement_of_a_frame_leaves_out_what_is_too_weak_to_keep_a_track():
    seen = observation(0, {"eye": [person_at(0.2), person_at(0.7, score=0.05)]})
    assert [c.present for c in judge(policy(), seen).candidates] == [True, False]
    assert [c.present for c in relevant_judgement(policy(), seen).candidates] == [True]


def test_the_relevant_judgement_of_a_frame_leaves_out_what_one_model_saw_and_two_would_have_to():
    rules = policy(extra='sensitivity = {rule = "all"}')
    apart = observation(0, {"eye": [person_at(0.2)], "eye.2": [person_at(0.7)]}, [DETECTOR, SECOND])
    alone = observation(0, {"eye": [person_at(0.2)]}, [DETECTOR, SECOND])
    assert [len(judge(rules, seen).candidates) for seen in (apart, alone)] == [2, 1]
    assert [relevant_judgement(rules, seen).candidates for seen in (apart, alone)] == [(), ()]


def test_the_relevant_judgement_of_a_frame_that_leaves_something_undecided_is_all_of_it():
    weak = {"eye": [person_at(0.2, score=0.05)], "eye.2": None}
    for rules in (policy(), policy(extra='sensitivity = {rule = "at_least", k = 3}')):
        seen = observation(0, weak, [DETECTOR, SECOND])
        assert relevant_judgement(rules, seen) == judge(rules, seen)
    labels = observation(0, {"namer": [Prediction("person", 0.05, sector="west")]}, [CLASSIFIER])
    assert relevant_judgement(policy(), labels) == judge(policy(), labels)


@pytest.mark.parametrize("judged", [judge, relevant_judgement])
def test_a_frame_is_judged_by_the_rules_that_are_in_force_then(judged):
    scheduled = policy(TWO_HALVES + '[[schedule]]\nname = "dark"\ndarker_than = 0.2\nmin_score = {"*" = 0.95}\n')
    seen = observation(0, {"eye": [person_at(0.2)]})
    dark, light = replace(seen, brightness=0.1), replace(seen, brightness=0.9)
    assert [[c.present for c in judged(scheduled, seen).candidates] for seen in (dark, light)] == [[False], [True]]


ROWS = ((0.0, 0.25), (0.2, 0.6), (0.5, 0.95))
BY_EVIDENCE = 'sensitivity = {rule = "evidence"}'
KNOWN, SECOND_KNOWN, CLASSIFIER_KNOWN = (replace(info, calibration=ROWS) for info in (DETECTOR, SECOND, CLASSIFIER))


def test_under_evidence_a_candidate_has_each_models_part_and_a_vote_by_its_sign():
    seen = observation(0, {"eye": [person_at(0.2)], "namer": [Prediction("road", 0.9)]}, [KNOWN, CLASSIFIER_KNOWN])
    (candidate,) = judge(policy(extra=BY_EVIDENCE), seen).candidates
    assert candidate.parts == {"eye": 2.944, "namer": -1.099}
    assert candidate.votes == {"eye": Vote.FOR, "namer": Vote.AGAINST}
    assert candidate.ruling.margin == -0.352
    assert not candidate.present


def test_under_other_rules_a_candidate_has_no_parts():
    assert judge(policy(), observation(0, {"eye": [person_at(0.2)]}, [KNOWN])).candidates[0].parts == {}


@pytest.mark.parametrize(("score", "fate"), [(0.9, (True, True)), (0.3, (False, True)), (0.1, (False, False))])
def test_under_evidence_what_is_rather_right_than_wrong_may_keep_a_track(score, fate):
    seen = observation(0, {"eye": [person_at(0.2, score=score)]}, [KNOWN])
    assert [(c.present, c.kept) for c in judge(policy(extra=BY_EVIDENCE), seen).candidates] == [fate]


def test_under_evidence_minimum_scores_mean_nothing():
    rules = policy(extra=f'{BY_EVIDENCE}\nmin_score = {{"*" = 0.95}}')
    assert [c.present for c in judge(rules, observation(0, {"eye": [person_at(0.2)]}, [KNOWN])).candidates] == [True]


def test_under_evidence_a_model_without_a_calibration_abstains_and_alone_leaves_everything_undecided():
    seen = observation(0, {"eye": [person_at(0.2)], "eye.2": [person_at(0.2)]}, [KNOWN, SECOND])
    (candidate,) = judge(policy(extra=BY_EVIDENCE), seen).candidates
    assert candidate.votes == {"eye": Vote.FOR, "eye.2": Vote.ABSTAIN}
    assert candidate.present
    alone = judge(policy(extra=BY_EVIDENCE), observation(0, {"eye": []}))
    assert alone.undecided == (("person", "west"), ("person", "east"))


@pytest.mark.parametrize(("missing", "present"), [("abstain", True), ("fail_open", True), ("fail_closed", False)])
def test_under_evidence_a_silent_model_counts_as_the_policy_says(missing, present):
    rules = policy(extra=f'sensitivity = {{rule = "evidence", missing = "{missing}"}}')
    seen = observation(0, {"eye": [person_at(0.2)], "eye.2": None}, [KNOWN, SECOND_KNOWN])
    assert [c.present for c in judge(rules, seen).candidates if c.box] == [present]


def test_under_evidence_a_classifier_that_was_not_asked_about_a_place_abstains():
    seen = observation(
        0, {"eye": [person_at(0.2)], "namer": [Prediction("road", 0.9, sector="east")]}, [KNOWN, CLASSIFIER_KNOWN]
    )
    (candidate,) = judge(policy(extra=BY_EVIDENCE), seen).candidates
    assert (candidate.votes["namer"], candidate.parts) == (Vote.ABSTAIN, {"eye": 2.944})


def test_sectors_of_one_camera_may_go_by_evidence_and_by_votes():
    rules = policy(TWO_HALVES.replace("[0, 1]]\n", f"[0, 1]]\n{BY_EVIDENCE}\n", 1), 'sensitivity = {rule = "all"}')
    seen = observation(
        0, {"eye": [person_at(0.2), person_at(0.7)], "eye.2": []}, [KNOWN, replace(SECOND_KNOWN, calibration=())]
    )
    for judged in (judge(rules, seen), relevant_judgement(rules, seen)):
        assert [c.sectors for c in judged.candidates if c.present] == [("west",)]
