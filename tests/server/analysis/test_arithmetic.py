"""The arithmetic of a verdict in words, under every rule: what was needed, what was seen, and by how much."""

from __future__ import annotations

import pytest

from policies.fusion.judge import judge
from policies.observation import ModelInfo, Observation, Prediction
from server.analysis.explain.arithmetic import Arithmetic, arithmetic_of, nearest, score_text
from tests.policies.stories import TWO_HALVES, observation, person_at, policy

CALIBRATION = ((0.0, 0.3), (0.3, 0.75), (0.6, 0.95))
MODELS = tuple(
    ModelInfo(name, frozenset({"person"}), boxes=True, calibration=CALIBRATION) for name in ("yolo", "nano", "hog")
)
NAMER = ModelInfo("namer", frozenset({"person", "road"}), boxes=False)
LIMITS = 'min_score = { yolo = 0.4, nano = 0.35, hog = 0.9, "*" = 0.5 }\n'


def frame(models: tuple[ModelInfo, ...] = MODELS, **scores: float | None) -> Observation:
    """Somebody in the west half; each model gave this score (0: saw nothing, None: did not answer)."""
    answers: dict[str, list[Prediction] | None] = {
        model: None if score is None else [person_at(0.2, score=score)] if score else []
        for model, score in scores.items()
    }
    return observation(0, answers, models)  # type: ignore[arg-type]


def weighed(rule: str, seen: Observation, limits: str = LIMITS) -> Arithmetic:
    rules = policy(extra=f"{limits}sensitivity = {{ {rule} }}")
    found = nearest([arithmetic_of(rules, seen, each) for each in judge(rules, seen).candidates])
    assert found is not None
    return found


ONE_OF_THREE = frame(yolo=0.82, nano=0.31, hog=0.0)


@pytest.mark.parametrize(
    ("rule", "sentence", "margin"),
    [
        ('rule = "any"', "1 of 3 needed, 1 seen: yolo .82", "just enough: with one vote less it would not count"),
        (
            'rule = "majority"',
            "2 of 3 needed, 1 seen: nano .31, its limit is .35; hog saw nothing",
            "1 model short",
        ),
        ('rule = "all"', "3 of 3 needed, 1 seen: nano .31, its limit is .35; hog saw nothing", "2 models short"),
        (
            'rule = "at_least", k = 2',
            "2 of 3 needed, 1 seen: nano .31, its limit is .35; hog saw nothing",
            "1 model short",
        ),
        (
            'rule = "weighted", weights = { yolo = 1, nano = 1, hog = 0.5 }, threshold = 1.5',
            "weight 1.5 of 2.5 needed, 1 seen: nano .31, its limit is .35; hog saw nothing",
            ".5 of weight short",
        ),
        (
            'rule = "evidence", right = 0.9',
            ".9 of such sightings must be right, .961 are (log-odds of +2.20 needed, +3.20 seen): "
            "yolo .82 (+2.94); nano .31 (+1.10); hog saw nothing (-0.85)",
            "1.00 more than needed, in log-odds",
        ),
        (
            'rule = "agreement", alone = { "*" = 0.9 }, sure = { "*" = 1 }',
            "2 of 3 needed, 1 seen: yolo .82, which does not suffice alone; nano .31, its limit is .35; "
            "hog saw nothing",
            "1 model short",
        ),
        (
            'rule = "agreement", sure = { yolo = 0.8, "*" = 1 }',
            "2 of 3 needed, 1 seen: yolo .82, which suffices alone from .8 on",
            "just enough: with one vote less it would not count",
        ),
    ],
)
def test_every_rule_says_what_it_needed_and_what_was_seen(rule: str, sentence: str, margin: str) -> None:
    found = weighed(rule, ONE_OF_THREE)
    assert (found.sentence, found.margin_in_words) == (sentence, margin)


@pytest.mark.parametrize("missing", ["abstain", "fail_open", "fail_closed"])
@pytest.mark.parametrize(
    "rule",
    ['"any"', '"all"', '"majority"', '"at_least", k = 2', '"weighted", threshold = 1', '"evidence"', '"agreement"'],
)
def test_the_parts_of_the_models_add_up_to_the_sum_that_the_policy_fused(rule: str, missing: str) -> None:
    for seen in (ONE_OF_THREE, frame(yolo=0.82, nano=None, hog=0.95), frame(yolo=None, nano=0.3, hog=0.0)):
        found = weighed(f'rule = {rule}, missing = "{missing}"', seen)
        assert found.seen is not None
        assert found.needed is not None
        assert sum(line.counts or 0.0 for line in found.lines) == pytest.approx(found.seen, abs=1e-3)
        assert found.seen - found.needed == pytest.approx(found.margin, abs=1e-3)


def test_a_model_that_did_not_answer_is_named_with_what_that_means() -> None:
    found = weighed('rule = "all", missing = "fail_closed"', frame(yolo=0.82, nano=0.5, hog=None))
    assert found.sentence == "3 of 3 needed, 2 seen: hog did not answer and counts against"
    found = weighed('rule = "all", missing = "abstain"', frame(yolo=0.82, nano=0.5, hog=None))
    assert found.sentence == "2 of 2 needed, 2 seen: yolo .82; nano .50"


def test_a_score_below_its_limit_never_reads_as_one_that_reaches_it() -> None:
    assert score_text(0.3499, 0.35) == ".3499"
    assert score_text(0.346, 0.35) == ".346"
    assert score_text(0.31, 0.35) == ".31"
    assert score_text(1.0) == "1.00"


def test_a_known_nuisance_is_named() -> None:
    nuisance = "[[cameras.gate.suppress]]\nname = 'flag'\nbox = [0.17, 0.6, 0.23, 0.8]\nmax_score = 0.95\n"
    rules = policy(TWO_HALVES + nuisance, 'sensitivity = { rule = "any" }\nmin_score = { "*" = 0.4 }')
    seen = frame(yolo=0.82, nano=0.0, hog=0.0)
    [found] = [arithmetic_of(rules, seen, each) for each in judge(rules, seen).candidates]
    assert found.suppressed == "flag"
    assert found.sentence == "1 of 3 needed, 1 seen: yolo .82; taken for the known nuisance `flag`"


def test_labels_alone_are_weighed_as_well() -> None:
    answers = {"namer": [Prediction("person", 0.7, sector="west"), Prediction("road", 0.3, sector="west")]}
    rules = policy(extra='sensitivity = { rule = "any" }')
    seen = observation(0, answers, (NAMER,))
    [found] = [arithmetic_of(rules, seen, each) for each in judge(rules, seen).candidates]
    assert (found.box, found.sentence) == (None, "1 of 1 needed, 1 seen: namer .70")


def test_a_model_that_suffices_alone_counts_as_two_and_is_one_that_saw_it() -> None:
    found = weighed('rule = "agreement", sure = { yolo = 0.8, "*" = 1 }', frame(yolo=0.82, nano=0.5, hog=0.0))
    assert (found.verdict, [line.counts for line in found.lines]) == ("present", [2.0, 1.0, 0.0])
    assert found.sentence.startswith("2 of 3 needed, 2 seen: ")
    assert found.margin_in_words == "1 more than needed, where a model that suffices alone counts as two"
