"""What a proposal changes in the text of a policy, and what is tried at all."""

from __future__ import annotations

import tomllib

import pytest

from policies.site.site_policy import parse_site_policy
from server.analysis.policy_diff import applied, difference, overruled
from server.analysis.tuning.candidates import (
    TODAY,
    Option,
    Place,
    by_evidence,
    candidate,
    refinements,
    rules_and_scores,
)
from tests.server.scenes import YARD

COMMENTED = f"# our yard\n{YARD.strip()} # the end\n"


def test_a_proposal_keeps_the_authors_text_and_comments() -> None:
    changes = {("sensitivity", "rule"): "at_least", ("sensitivity", "k"): 2, ("movement", "sights"): 3}
    text = applied(COMMENTED, changes)
    kept = [line for line in text.splitlines() if line in COMMENTED.splitlines()]
    assert kept == COMMENTED.splitlines()
    read = tomllib.loads(text)
    assert (read["sensitivity"], read["movement"]) == ({"rule": "at_least", "k": 2}, {"sights": 3})
    added = [line for line in difference(COMMENTED, text, "a", "b") if line.startswith("+") and "=" in line]
    assert len(added) == 2


def test_a_setting_that_does_not_go_with_the_new_rule_is_taken_out() -> None:
    text = 'site = "yard"\nsensitivity = { rule = "at_least", k = 2, missing = "fail_open" } # why\n'
    changed = applied(text, {("sensitivity", "rule"): "all", ("sensitivity", "k"): None})
    assert tomllib.loads(changed)["sensitivity"] == {"rule": "all", "missing": "fail_open"}
    assert changed.rstrip().endswith("# why")
    assert applied('site = "yard"\n', {("sensitivity", "k"): None}) == 'site = "yard"\n'


def test_settings_nearer_to_a_camera_are_named_since_a_change_does_not_reach_them() -> None:
    text = YARD + "[cameras.gate.sectors.west.sensitivity]\nrule = 'any'\n[cameras.gate.min_score]\neye = 0.3\n"
    paths = overruled(text, {("sensitivity", "rule"): "all", ("min_score", "eye"): 0.5, ("presence", "clear_s"): 1})
    assert paths == ["cameras.gate.min_score", "cameras.gate.sectors.west.sensitivity"]
    text = f'{YARD}[[schedule]]\nname = "night"\nbetween = ["22:00", "06:00"]\nmin_score = {{ "*" = 0.2 }}\n'
    assert overruled(text, {("min_score", "eye"): 0.5}) == ["schedule.night.min_score"]


def test_every_policy_that_is_tried_can_be_read_and_todays_comes_first() -> None:
    today, voters = parse_site_policy(YARD), ("a", "b", "c", "d")
    tried = [candidate(YARD, *options) for options in rules_and_scores(today, voters)]
    assert (tried[0].policy.digest, tried[0].words, tried[0].text) == (today.digest, TODAY, YARD)
    assert {"any", "all", "majority", "at_least 2", "a alone", "all, scores +0.1"} <= {c.words for c in tried}
    finer = [candidate(YARD, option) for option in refinements(today, voters)]
    assert {"sights 3", "3 of 4 frames", "clear 8 s", "b from 0.6"} <= {c.words for c in finer}
    assert (
        candidate(YARD, Option("x", {("movement", "sights"): 1}), Option("y", {("movement", "sights"): 3})).words
        == "x, y"
    )


def test_a_policy_of_higher_scores_that_is_tried_never_lets_one_model_suffice_from_a_lower_score() -> None:
    text, voters = 'site = "yard"\ntargets = ["vehicle"]\n', ("yolov3-tiny", "nanodet-g", "mine")
    tried = [candidate(text, *options) for options in rules_and_scores(parse_site_policy(text), voters)]
    raised = {c.words: c for c in tried if "scores +" in c.words or c.words in (TODAY, "agreement")}
    judged = {words: c.policy.rules.of("vehicle") for words, c in raised.items()}
    enough = {
        words: [rules.sensitivity.suffices_from(m, rules.least(m), is_unopposed=False) for m in voters]
        for words, rules in judged.items()
        if rules.sensitivity.by_agreement
    }
    assert enough[TODAY] == enough["agreement"] == [0.4, 0.4, 0.4]
    assert enough["scores +0.1"] == enough["agreement, scores +0.1"] == [0.4, 0.4, 0.5]


def test_evidence_is_tried_at_several_shares_where_a_model_has_a_calibration_and_never_with_other_scores() -> None:
    today, voters = parse_site_policy(YARD), ("a", "b")
    tried = [candidate(YARD, *o) for o in rules_and_scores(today, voters, calibrated=True)]
    assert [c.words for c in tried if "evidence" in c.words] == [
        f"evidence {right}" for right in ("0.6", "0.7", "0.8", "0.9", "0.95", "0.98", "0.99")
    ]
    assert not any("evidence" in c.words for c in (candidate(YARD, *o) for o in rules_and_scores(today, voters)))
    text = YARD.replace('site = "yard"', 'site = "yard"\nsensitivity = { rule = "evidence", right = 0.95 }')
    today = parse_site_policy(text)
    words = {candidate(text, *o).words for o in rules_and_scores(today, voters, calibrated=True)}
    assert "scores +0.1" not in words
    assert {TODAY, "any", "any, scores +0.1"} <= words
    finer = [o.words for o in refinements(today, voters, has_scores=not by_evidence((), today))]
    assert "sights 3" in finer
    assert not any(" from " in each for each in finer)


@pytest.mark.parametrize(
    ("place", "options", "table"),
    [
        (Place("gate"), {("min_score", "eye"): 0.6}, {"cameras": {"gate": {"min_score": {"eye": 0.6}}}}),
        (Place("gate", "west"), {("sensitivity", "rule"): "all"}, None),
        (Place("gate", "west", "person"), {("min_score", "eye"): 0.6}, None),
        (Place("door"), {("presence", "clear_s"): 4.0}, None),
        (Place(None, None, "person"), {("sensitivity", "rule"): "any"}, None),
        (Place("door", None, "person"), {("sensitivity", "rule"): "any"}, None),
    ],
)
@pytest.mark.parametrize(
    "text",
    [COMMENTED, f"{COMMENTED}[cameras.gate.sectors.west.movement]\ndwell_s = 2 # slow\n[movement]\nsights = 3\n"],
)
def test_a_change_goes_into_the_table_of_its_place_and_nothing_else_changes(
    place: Place, options: dict[tuple[str, ...], object], table: object, text: str
) -> None:
    changed = candidate(text, Option("x", options), place=place).text
    parse_site_policy(changed)
    [(path, value)] = options.items()
    there = tomllib.loads(changed)
    for name in place.path:
        there = there[name]
    assert there[path[0]][path[1]] == value
    assert [line for line in text.splitlines() if line not in changed.splitlines()] == []
    back = applied(changed, {(*place.path, *path): None})
    assert parse_site_policy(back).rules == parse_site_policy(text).rules


def test_a_place_is_offered_only_settings_that_it_may_have() -> None:
    today, voters = parse_site_policy(YARD), ("a", "b")
    for place in (Place("gate"), Place("gate", "west"), Place("gate", "west", "person"), Place(None, None, "person")):
        for option in refinements(today, voters, place):
            candidate(YARD, option, place=place)
    words_of = {option.words for option in refinements(today, voters, Place("gate", "west"))}
    assert {"dwell 2 s", "clear 8 s"} < words_of
    assert "sights 3" not in words_of
    assert {o.words for o in refinements(today, voters, Place("gate", "west", "person"))} >= {"a from 0.5"}


def test_settings_of_a_sector_are_named_where_a_change_of_its_camera_does_not_reach_them() -> None:
    text = YARD + "[cameras.gate.sectors.west.sensitivity]\nrule = 'any'\n"
    path = ("cameras", "gate")
    assert overruled(text, {(*path, "sensitivity", "rule"): "all"}, path) == ["cameras.gate.sectors.west.sensitivity"]
    west = (*path, "sectors", "west")
    assert overruled(text, {(*west, "sensitivity", "rule"): "all"}, west) == []
