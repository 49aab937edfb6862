"""The controls of Tune: what each of them changes in the text of a policy, and what it leaves alone."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from msgspec.structs import replace

from policies.observation import ModelInfo
from policies.site.site_policy import InvalidPolicy, parse_site_policy
from server.analysis.tuning.candidates import TODAY, Place
from server.analysis.tuning.controls import Change, changed, moved, overruled_by, settings_of, with_rule
from tests.server.scenes import EYE, NAMER, YARD

WEST = Place("gate", "west")
TEXT = f"{YARD}# the end\n"
MODELS = (EYE, NAMER)


@pytest.mark.parametrize(
    ("change", "path", "value"),
    [
        (Change(rule="majority"), ("sectors", "west", "sensitivity", "rule"), "majority"),
        (Change(rule="at_least", k=2), ("sectors", "west", "sensitivity", "k"), 2),
        (Change(rule="weighted", weights={"eye": 2.0}), ("sectors", "west", "sensitivity", "weights", "eye"), 2.0),
        (Change(scores={"eye": 0.55}), ("sectors", "west", "min_score", "eye"), 0.55),
        (Change(confirm_s=2.0), ("sectors", "west", "presence", "confirm_s"), 2.0),
        (Change(clear_s=4.0), ("sectors", "west", "presence", "clear_s"), 4.0),
        (Change(dwell_s=0.5), ("sectors", "west", "movement", "dwell_s"), 0.5),
        (Change(min_hits=3), ("movement", "min_hits"), 3),
        (Change(window_frames=8), ("movement", "window_frames"), 8),
    ],
)
@pytest.mark.parametrize("target", [None, "person"])
def test_each_control_changes_one_setting_at_the_nearest_place_that_can_have_it(
    change: Change, path: tuple[str, ...], value: object, target: str | None
) -> None:
    candidate = changed(TEXT, WEST._replace(target=target), change)
    read: Any = tomllib.loads(candidate.text)["cameras"]["gate"]
    if target and {"sensitivity", "min_score"} & set(path):
        path = (*path[:2], "by_target", target, *path[2:])
    for name in path:
        read = read[name]
    assert read == value
    assert [line for line in TEXT.splitlines() if line not in candidate.text.splitlines()] == []
    assert candidate.words != TODAY
    assert candidate.policy.digest != parse_site_policy(TEXT).digest


def test_a_file_with_the_older_names_of_confirmation_gets_those_of_today() -> None:
    text = f"{YARD}[cameras.gate.movement]\nsights = 3\nof = 9\n"
    candidate = changed(text, WEST, Change(min_hits=4))
    assert tomllib.loads(candidate.text)["cameras"]["gate"]["movement"] == {"min_hits": 4, "of": 9}
    assert settings_of(candidate.policy, WEST, MODELS).min_hits == 4


def test_nothing_changed_leaves_the_text_as_it_is() -> None:
    candidate = changed(TEXT, WEST, Change())
    assert (candidate.text, candidate.words) == (TEXT, TODAY)


def test_a_score_that_was_not_moved_follows_the_rule_and_one_that_was_stays() -> None:
    models = (ModelInfo("yolov3-tiny", frozenset({"person"}), boxes=True), EYE)
    now = settings_of(parse_site_policy(TEXT), WEST, models)
    under_any = settings_of(with_rule(TEXT, WEST, "any"), WEST, models)
    assert (now.scores["yolov3-tiny"], under_any.scores["yolov3-tiny"]) == (0.2, 0.4)
    shown = {**now.scores, "eye": 0.7}
    wanted = settings_of(with_rule(TEXT, WEST, "any"), WEST, models)
    change = moved(under_any, _with_scores(wanted, shown), now)
    assert change == Change(scores={"eye": 0.7})
    assert moved(under_any, _with_scores(wanted, shown)) == Change(scores={"eye": 0.7, "yolov3-tiny": 0.2})


def _with_scores(settings: Any, scores: dict[str, float]) -> Any:
    return replace(settings, scores=scores)


def test_only_settings_of_the_rule_count_as_moved() -> None:
    now = settings_of(parse_site_policy(TEXT), WEST, MODELS)
    wanted = replace(now, k=2, threshold=2.0, right=0.95, weights={"eye": 3.0, "namer": 1.0}, clear_s=4.0)
    assert moved(now, wanted) == Change(clear_s=4.0)


def test_places_with_settings_of_their_own_are_named() -> None:
    text = (
        f"{YARD}[cameras.gate.sectors.west.movement]\ndwell_s = 2\n[cameras.gate.sectors.east.min_score]\neye = 0.3\n"
    )
    change = Change(scores={"eye": 0.6}, dwell_s=3.0, min_hits=3)
    assert overruled_by(text, Place("gate"), change) == [
        "cameras.gate.sectors.east.min_score",
        "cameras.gate.sectors.west.movement",
    ]
    assert overruled_by(text, WEST, Change(scores={"eye": 0.6})) == []
    assert overruled_by(text, Place("gate"), Change(min_hits=3)) == [], "no sector can have its own"


def test_a_value_that_no_policy_may_have_is_refused() -> None:
    with pytest.raises(InvalidPolicy, match="min_score"):
        changed(TEXT, WEST, Change(scores={"eye": 1.5}))
