"""The default rule: two models that agree, or one that suffices by its score."""

from __future__ import annotations

from itertools import product

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.fusion.judge import judge, relevant_judgement
from policies.fusion.model_check import misfits
from policies.observation import EnsembleInfo, ModelInfo, Prediction
from policies.sensitivity import NEVER, Sensitivity
from policies.site.rules import SHIPPED_ALONE
from policies.site.site_policy import InvalidPolicy, SitePolicy, digest_of_stored, parse_site_policy
from tests.policies.stories import CHANGE, CLASSIFIER, observation, person_at, policy

CLASSES = frozenset({"person", "car"})
TINY, NANO = ModelInfo("yolov3-tiny", CLASSES, boxes=True), ModelInfo("nanodet-g", CLASSES, boxes=True)
HOG, SMALL_HOG = (ModelInfo(name, frozenset({"person"}), boxes=True) for name in ("hog-people", "hog-people-small"))
LARGE = ModelInfo("yolov3-tiny-608", CLASSES, boxes=True)
OWN = ModelInfo("mine", CLASSES, boxes=True)

Scores = dict[ModelInfo, float | None]


def is_present(scores: Scores, extra: str = "", target: str = "person") -> bool:
    """Whether a thing is there that these models see with these scores (0: not at all, None: no answer)."""
    rules = policy(extra=f'targets = ["{target}"]\n{extra}')
    label = "car" if target == "vehicle" else "person"
    boxes = {m.model: None if s is None else _boxes(label, s) for m, s in scores.items()}
    seen = observation(0, boxes, list(scores))
    whole, short = (
        [c for c in judged.candidates if c.present] for judged in (judge(rules, seen), relevant_judgement(rules, seen))
    )
    assert whole == short
    return bool(whole)


def _boxes(label: str, score: float) -> list[Prediction]:
    return [Prediction(label, score, person_at(0.2).box)] if score else []


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({TINY: 0.2, NANO: 0.2}, True),
        ({LARGE: 0.2, NANO: 0.2}, True),
        ({TINY: 0.9, NANO: 0.1}, False),
        ({LARGE: 0.9, NANO: 0.1}, False),
        ({TINY: 0.0, NANO: 0.9}, False),
        ({TINY: 0.2, HOG: 0.9}, True),
        ({TINY: 0.4, HOG: 0.0, SMALL_HOG: 0.0}, True),
        ({HOG: 0.9, SMALL_HOG: 0.9}, True),
        ({HOG: 0.99}, False),
        ({OWN: 0.4, NANO: 0.0}, True),
    ],
)
def test_a_person_is_there_if_two_models_agree_or_one_suffices(scores, expected):
    assert is_present(scores) is expected


@pytest.mark.parametrize("scores", [{TINY: 0.4, NANO: 0.0}, {TINY: 0.0, NANO: 0.4}])
def test_one_model_is_enough_for_a_vehicle(scores):
    assert is_present(scores, target="vehicle")


@pytest.mark.parametrize("model", [TINY, NANO, OWN])
@pytest.mark.parametrize(("score", "expected"), [(0.39, False), (0.4, True)])
def test_the_only_model_of_a_site_decides_from_its_own_score_on(model, score, expected):
    assert is_present({model: score}) is expected


def test_a_model_that_did_not_answer_leaves_the_decision_to_the_other():
    assert is_present({TINY: 0.4, NANO: None})
    assert not is_present({TINY: 0.39, NANO: None})
    assert not is_present({TINY: 0.9, NANO: None}, 'sensitivity = { missing = "fail_closed" }')


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({TINY: 0.0, NANO: None}, True),
        ({OWN: None, TINY: 0.0, NANO: 0.0}, True),
        ({TINY: 0.0, HOG: None}, False),
        ({TINY: 0.2, HOG: None}, True),
        ({TINY: 0.0, HOG: None, SMALL_HOG: None}, True),
    ],
)
def test_a_model_that_fails_open_suffices_whatever_the_others_see_and_a_hog_counts_for_one(scores, expected):
    assert is_present(scores, 'sensitivity = { missing = "fail_open" }') is expected


@pytest.mark.parametrize("place", ["site", "camera"])
def test_outside_all_sectors_a_person_is_judged_as_inside_although_the_place_asks_for_vehicles_alone(place):
    head = {"site": 'targets = ["vehicle"]', "camera": '[cameras.gate]\ntargets = ["vehicle"]'}[place]
    west = '[cameras.gate.sectors.west]\ntargets = ["person"]\npolygon = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]'
    rules = parse_site_policy(f'site = "yard"\n{head}\n{west}').camera("gate")
    for x in (0.2, 0.8):
        seen = observation(0, {"yolov3-tiny": [person_at(x)], "nanodet-g": []}, [TINY, NANO])
        assert [c.present for c in judge(rules, seen).candidates] == [False]


def test_a_model_that_knows_no_people_has_no_say_about_them():
    cars = ModelInfo("cars", frozenset({"car"}), boxes=True)
    assert is_present({TINY: 0.4, cars: 0.0})


@pytest.mark.parametrize(("rule", "expected"), [("agreement", False), ("weighted", True)])
def test_a_classifier_that_says_otherwise_and_a_silent_own_detector_stand_against_a_network(rule, expected):
    extra = f'sensitivity = {{ rule = "{rule}" }}'
    assert is_present({TINY: 0.9, OWN: 0.0}, extra) is expected
    answers = {"yolov3-tiny": [person_at(0.2)], "namer": [Prediction("road", 0.9, sector="west")]}
    judged = judge(policy(extra=extra), observation(0, answers, [TINY, CLASSIFIER]))
    assert any(c.present for c in judged.candidates) is expected


def test_a_higher_score_or_one_more_answer_never_removes_presence():
    steps = (0.0, 0.1, 0.3, 0.5, 0.9)
    for extra in (
        "",
        'sensitivity = { alone = { "nanodet-g" = 0.1 } }',
        'sensitivity = { sure = { "nanodet-g" = 0.6 } }',
    ):
        there = {pair: is_present(dict(zip((TINY, NANO), pair, strict=True)), extra) for pair in product(steps, steps)}
        assert len(set(there.values())) == 2
        for (tiny, nano), is_there in there.items():
            assert not is_there or all(there[a, b] for a, b in there if a >= tiny and b >= nano)


def test_a_score_of_the_policy_s_own_counts_for_agreeing_and_for_sufficing():
    assert not is_present({TINY: 0.25, NANO: 0.25}, 'min_score = { "yolov3-tiny" = 0.3 }')
    assert is_present({OWN: 0.3, NANO: 0.0}, "min_score = { mine = 0.3 }")
    assert not is_present({OWN: 0.5, NANO: 0.0}, "min_score = { mine = 0.6 }")
    assert is_present({TINY: 0.7, NANO: 0.0}, 'sensitivity = { sure = { "yolov3-tiny" = 0.7 } }')
    assert not is_present(
        {TINY: 0.5}, 'min_score = { "yolov3-tiny" = 0.6 }\nsensitivity = { alone = { "yolov3-tiny" = 0.3 } }'
    )


@pytest.mark.parametrize("extra", ["", "min_score = { 'yolov3-tiny' = 0.2 }", "min_score = { 'yolov3-tiny' = 0.3 }"])
def test_a_min_score_of_a_shipped_model_is_not_the_score_from_which_it_suffices(extra):
    assert not is_present({TINY: 0.39, NANO: 0.0}, extra, target="vehicle")
    assert not is_present({TINY: 0.39, NANO: None}, extra)
    assert is_present({TINY: 0.4, NANO: 0.0}, extra, target="vehicle")
    assert is_present({TINY: 0.4, NANO: None}, extra)


def test_the_shipped_scores_written_out_change_nothing():
    shipped = parse_site_policy('site = "yard"\ntargets = ["person", "vehicle"]')
    least = ", ".join(f'"{model}" = {score}' for model, score in shipped.rules.min_score.items())
    for place in ("", "[by_target.person]\n"):
        text = f'site = "yard"\ntargets = ["person", "vehicle"]\n{place}min_score = {{ {least} }}'
        assert parse_site_policy(text).digest == shipped.digest


LEAST = (None, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.95, 1.0)


@settings(max_examples=80)
@given(
    st.dictionaries(st.sampled_from([TINY, NANO, OWN, HOG]), st.sampled_from([None, 0.0, 0.15, 0.35, 0.45, 0.9, 1.0])),
    st.sampled_from(["*", "yolov3-tiny", "nanodet-g", "mine", "hog-people"]),
    st.sampled_from(["person", "vehicle"]),
    st.sampled_from(["abstain", "fail_open", "fail_closed"]),
)
def test_a_higher_min_score_never_gives_more_presence_nor_does_one_above_the_shipped(scores, name, target, missing):
    shipped = parse_site_policy('site = "yard"').rules.min_score.get(name, 0.4)
    least = [s for s in LEAST if s is not None or name != "*"]
    extra = f"sensitivity = {{ missing = '{missing}' }}\n"
    there = [
        is_present(scores, extra + (f"min_score = {{ '{name}' = {least} }}" if least is not None else ""), target)
        for least in sorted(least, key=lambda score: shipped if score is None else score)
    ]
    assert there == sorted(there, reverse=True)


def test_a_least_score_of_0_counts_every_box_that_has_a_score():
    assert is_present({OWN: 0.01, NANO: 0.01}, 'min_score = { "*" = 0 }')


def test_a_policy_with_another_rule_has_the_scores_of_that_rule():
    assert not is_present({TINY: 0.3, NANO: 0.3}, 'sensitivity = { rule = "any" }')
    assert is_present({TINY: 0.4, NANO: 0.0}, 'sensitivity = { rule = "any" }')
    assert not is_present({TINY: 0.3, NANO: 0.3}, '[by_target.person]\nsensitivity = { rule = "all" }')


def test_weights_or_a_threshold_without_a_rule_mean_the_rule_that_was_the_default():
    for text in ("sensitivity = { threshold = 1.5 }", "sensitivity = { weights = { mine = 2 } }"):
        assert policy(extra=text).rules.sensitivity.rule == "weighted"
        assert policy(extra=f"[by_target.person]\n{text}").rules.of("person").sensitivity.rule == "weighted"


@pytest.mark.parametrize("version", [7, 8])
@pytest.mark.parametrize(
    ("rule", "expected"),
    [("weighted", ("weighted", 0.6, 1.5)), ("agreement", ("agreement", 1.0, 1.0)), ("any", ("any", 1.0, 1.0))],
)
def test_a_place_that_names_a_rule_has_the_weights_above_it_only_if_it_is_their_rule(rule, expected, version):
    above = "sensitivity = { weights = { mine = 0.6 }, threshold = 1.5 }"
    for place in ("", "by_target.person."):
        text = f'site = "yard"\n{place}{above}\n[cameras.gate]\n{place}sensitivity = {{ rule = "{rule}" }}'
        given = parse_site_policy(text, version).camera("gate").rules.of("person").sensitivity
        assert (given.rule, given.weight("mine"), given.threshold) == expected


def test_scores_of_agreement_are_refused_under_another_rule():
    with pytest.raises(InvalidPolicy, match='sure only means something with rule = "agreement"'):
        policy(extra='sensitivity = { rule = "any", sure = { mine = 0.3 } }')


def test_a_misspelt_model_among_the_scores_is_named_and_a_lone_hog_is_said_to_decide_nothing():
    read = parse_site_policy('site = "yard"\nsensitivity = { sure = { "nanodet_g" = 0.3 } }')
    assert misfits(read, EnsembleInfo("two", (TINY, NANO))) == (
        "every camera: no model that votes is called `nanodet_g`; did you mean `nanodet-g`?",
    )
    [what] = misfits(parse_site_policy('site = "yard"'), EnsembleInfo("one", (HOG,)))
    assert "`person` is never decided: rule agreement, and hog-people can give 1 at most" in what


def test_the_shipped_numbers_stand_in_the_policy_so_that_it_keeps_its_meaning():
    rules = parse_site_policy('site = "yard"').rules
    person = rules.of("person")
    lower = {"yolov3-tiny": 0.2, "yolov3-tiny-608": 0.2, "nanodet-g": 0.2, "ssdlite-people": 0.5}
    assert person.min_score == {"*": 0.4, "frame-change": 0.65, "hog-people": 0.9, "hog-people-small": 0.9} | lower
    assert isinstance(person.sensitivity.sure, dict)
    assert person.sensitivity.sure["yolov3-tiny"] == NEVER
    assert rules.of("vehicle").sensitivity.sure == SHIPPED_ALONE


def test_a_policy_that_was_stored_under_version_7_keeps_its_rule_its_numbers_and_its_digest():
    text = 'site = "yard"\nmin_score = { "yolov3-tiny" = 0.3 }'
    old = parse_site_policy(text, version=7)
    assert old.rules.sensitivity == Sensitivity(
        "weighted", weights={"*": 1.0, "hog-people": 0.5, "hog-people-small": 0.5}
    )
    hogs = {"hog-people": 0.9, "hog-people-small": 0.9}
    assert old.rules.min_score == {"*": 0.4, "frame-change": 0.65, "yolov3-tiny": 0.3} | hogs
    body = msgspec.json.encode(old, order="deterministic").decode()
    assert "sure" not in body
    assert "alone" not in body
    again = msgspec.json.decode(body, type=SitePolicy)
    assert again.rules == old.rules
    assert digest_of_stored(body) == digest_of_stored(msgspec.json.encode(again, order="deterministic").decode())
    assert parse_site_policy(text).digest != old.digest


@pytest.mark.parametrize(("score", "expected"), [(0.64, False), (0.65, True)])
@pytest.mark.parametrize("detector_sees", [None, 0.0, 0.9])
def test_frame_change_alone_suffices_for_what_moves_whatever_the_detectors_see(score, expected, detector_sees):
    rules = policy(extra='targets = ["moving"]')
    region = Prediction("moving", score, (0.2, 0.6, 0.3, 0.7))
    seen_by = None if detector_sees is None else _boxes("person", detector_sees)
    models = [TINY, NANO, CHANGE]
    seen = observation(0, {"frame-change": [region], "yolov3-tiny": seen_by, "nanodet-g": seen_by}, models)
    for judged in (judge(rules, seen), relevant_judgement(rules, seen)):
        present = [c for c in judged.candidates if c.present]
        assert [c.votes for c in present] == ([{"frame-change": "for"}] if expected else [])
    given = rules.rules.of("moving").sensitivity
    assert given.by_agreement
    assert given.suffices_from("frame-change", 0.65, is_unopposed=False) == 0.65
    assert (
        misfits(parse_site_policy('site = "yard"\ntargets = ["moving"]'), EnsembleInfo("default", tuple(models))) == ()
    )
