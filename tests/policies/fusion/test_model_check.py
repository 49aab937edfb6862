"""What a site policy asks of models that cannot give it is reported, with its place."""

from __future__ import annotations

from msgspec.structs import replace

from policies.fusion.model_check import misfits
from policies.observation import EnsembleInfo
from policies.site.site_policy import parse_site_policy
from tests.policies.stories import CHANGE, CLASSIFIER, DETECTOR, TWO_HALVES

EYES = EnsembleInfo("eyes", (DETECTOR, CLASSIFIER, CHANGE))


def reported(text: str, ensemble_info: EnsembleInfo = EYES) -> list[str]:
    return list(misfits(parse_site_policy(text), ensemble_info))


def test_a_policy_that_the_models_can_follow_has_no_misfits():
    assert reported('site = "yard"\nsensitivity = { rule = "weighted", weights = { eye = 2, "*" = 1 } }') == []
    assert reported(TWO_HALVES) == []


def test_a_quorum_that_is_more_than_all_models_is_told_once_with_all_its_places():
    assert reported(TWO_HALVES.replace('"yard"', '"yard"\nsensitivity = { rule = "at_least", k = 9 }')) == [
        "gate/west, gate/east: `person` is never decided: rule at_least 9, and eye, namer can give 2 at most"
    ]


def test_a_weight_that_nobody_reaches_for_one_target_or_at_night_is_told():
    text = """site = "yard"
    targets = ["person", "vehicle"]
    [by_target.vehicle]
    sensitivity = { rule = "weighted", threshold = 2.5 }
    [[schedule]]
    name = "night"
    between = ["22:00", "06:00"]
    targets = ["person"]
    sensitivity = { rule = "weighted", threshold = 7 }
    """
    assert reported(text) == [
        "every camera/view: `vehicle` is never decided: rule weighted 2.5, and eye can give 1 at most",
        "every camera (night)/view: `person` is never decided: rule weighted 7, and eye, namer can give 2 at most",
    ]


def test_a_target_that_no_model_knows_is_told():
    assert reported('site = "yard"\ntargets = ["animal"]', EnsembleInfo("blind", (DETECTOR, CHANGE))) == [
        "every camera/view: `animal` is never decided: no model that votes can see it"
    ]


def test_a_name_that_is_no_voting_models_is_told_with_the_one_that_was_meant():
    text = """site = "yard"
    min_score = { eyee = 0.9, frame-change = 0.1, hog-people = 0.7 }
    [cameras.gate.by_target.person]
    sensitivity = { rule = "weighted", weights = { namr = 2.0 } }
    """
    assert reported(text) == [
        "gate: no model that votes is called `eyee`; did you mean `eye`?",
        "gate: no model that votes is called `frame-change`; known here: eye, namer",
        "gate: no model that votes is called `namr`; did you mean `namer`?",
    ]


def test_what_has_no_calibration_or_cannot_reach_the_share_is_told_under_evidence():
    text = TWO_HALVES.replace('"yard"', '"yard"\nsensitivity = { rule = "evidence", right = 0.99 }')
    known = replace(DETECTOR, calibration=((0.0, 0.5), (0.4, 0.97)))
    assert reported(text) == [
        "gate/west, gate/east: `person` is never decided: rule evidence 0.99, and eye, namer can give 0.5 at most",
        "gate/west, gate/east: `person` is decided without eye, namer: rule evidence, and no `calibration` on the card",
    ]
    assert reported(text, EnsembleInfo("known", (known, CLASSIFIER))) == [
        "gate/west, gate/east: `person` is never decided: rule evidence 0.99, and eye, namer can give 0.97 at most",
        "gate/west, gate/east: `person` is decided without namer: rule evidence, and no `calibration` on the card",
    ]
    assert reported(text.replace("0.99", "0.9"), EnsembleInfo("known", (known,))) == []
