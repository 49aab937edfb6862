"""Known nuisances: what keeps being seen weakly at one place and hour does not count there, all else does."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from policies.fusion.judge import judge
from policies.observation import Prediction
from policies.sensitivity import Vote
from policies.site.site_policy import InvalidPolicy, parse_site_policy
from tests.policies.stories import CLASSIFIER, START_US, drawn, events_of, observation, person_at, policy, walk

LAMP = person_at(0.2, score=0.5)
QUIET = """
[[cameras.gate.suppress]]
name = "web on the lamp"
box = [0.17, 0.6, 0.23, 0.8]
max_score = 0.6
"""


def quiet(extra: str = "", text: str = QUIET) -> str:
    return f'site = "yard"\n{text}{extra}'


def gate(text: str):
    return parse_site_policy(text).camera("gate")


def test_a_known_nuisance_is_absent_keeps_its_votes_and_says_by_which_name():
    (candidate,) = judge(gate(quiet()), observation(0, {"eye": [LAMP]})).candidates
    assert candidate.suppressed == "web on the lamp"
    assert (candidate.present, candidate.votes, candidate.score) == (False, {"eye": Vote.FOR}, 0.5)


@pytest.mark.parametrize(
    "seen",
    [person_at(0.2, score=0.61), person_at(0.3, score=0.5), person_at(0.2, height=0.6, score=0.5)],
    ids=["seen firmly", "elsewhere", "of another size"],
)
def test_what_is_seen_firmly_or_elsewhere_or_of_another_size_counts(seen):
    (candidate,) = judge(gate(quiet()), observation(0, {"eye": [seen]})).candidates
    assert candidate.present
    assert candidate.suppressed is None


def test_a_nuisance_is_one_only_in_its_hours():
    hour = datetime.fromtimestamp(START_US / 1e6, UTC).hour
    now = quiet(f'between = ["{hour:02}:00", "{hour + 1:02}:00"]\n')
    later = quiet(f'between = ["{hour + 1:02}:00", "{hour + 2:02}:00"]\n')
    assert [gate(text).suppressions[0].name for text in (now, later)] == ["web on the lamp"] * 2
    seen = observation(0, {"eye": [LAMP]})
    assert [judge(gate(text), seen).candidates[0].present for text in (now, later)] == [False, True]


def test_a_nuisance_is_one_only_for_its_targets():
    seen = observation(0, {"eye": [LAMP]})
    assert judge(gate(quiet('targets = ["vehicle"]\n')), seen).candidates[0].present
    assert not judge(gate(quiet('targets = ["person"]\n')), seen).candidates[0].present


def test_a_nuisance_begins_no_track_and_hides_nobody_who_walks_through_it():
    lamp = [observation(i * 0.5, {"eye": [LAMP]}) for i in range(20)]
    assert events_of(gate(quiet()), lamp) == ()
    passing = walk(lambda t: 0.05 + 0.05 * t if t <= 12 else None, 16, score=0.55)
    plain = events_of(gate('site = "yard"'), passing)
    assert [(e.kind, e.at) for e in events_of(gate(quiet()), passing)] == [(e.kind, e.at) for e in plain] != []


def test_a_sector_that_a_classifier_names_is_a_nuisance_where_its_bounds_are():
    text = QUIET.replace("[0.17, 0.6, 0.23, 0.8]", "[0, 0, 0.5, 1]").replace("0.6", "0.9")
    frames = drawn("....PPPP....")
    plain = policy()
    assert events_of(plain, frames) != ()
    west = policy().sectors[0]
    sectors = f"[cameras.gate.sectors.west]\npolygon = {[list(p) for p in west.polygon]}\n"
    assert events_of(gate(f'site = "yard"\n{text}{sectors}'), frames) == ()


def test_what_nobody_could_tell_stays_undecided_in_a_suppressed_place():
    text = QUIET.replace("[0.17, 0.6, 0.23, 0.8]", "[0, 0, 1, 1]")
    seen = observation(0, {"namer": None}, [CLASSIFIER])
    assert judge(gate(f'site = "yard"\n{text}'), seen).undecided == (("person", "view"),)


def test_a_score_on_the_bound_is_still_the_nuisance():
    assert not judge(gate(quiet()), observation(0, {"eye": [person_at(0.2, score=0.6)]})).candidates[0].present


def test_a_suppression_belongs_to_the_digest():
    assert parse_site_policy(quiet()).digest != parse_site_policy('site = "yard"\n[cameras.gate]').digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("box = [0.17, 0.6, 0.23, 0.8]", "box = [0.3, 0.6, 0.2, 0.8]"), "x1 < x2 and y1 < y2"),
        (("max_score", "maxscore"), "did you mean `max_score`?"),
        (("max_score = 0.6", 'targets = ["persn"]'), "did you mean `person`?"),
        (("max_score = 0.6", 'between = ["22"]'), "suppress"),
        (("max_score = 0.6", 'between = ["22", "x"]'), "write two times of the site's clock"),
        (("[[cameras.gate.suppress]]", "[cameras.gate.suppress]"), "write [[cameras.gate.suppress]] tables"),
    ],
)
def test_a_mistake_in_a_suppression_is_shown(change, message):
    with pytest.raises(InvalidPolicy) as error:
        parse_site_policy(quiet().replace(*change))
    assert message in str(error.value)


def test_two_suppressions_of_one_name_are_refused_for_explanations_cite_them():
    with pytest.raises(InvalidPolicy, match="`web on the lamp` is there twice"):
        parse_site_policy(quiet(QUIET))


def test_a_label_for_the_whole_view_is_suppressed_as_the_whole_view():
    seen = observation(0, {"namer": [Prediction("person", 0.5)]}, [CLASSIFIER])
    text = QUIET.replace("[0.17, 0.6, 0.23, 0.8]", "[0, 0, 1, 1]")
    (candidate,) = judge(gate(f'site = "yard"\n{text}'), seen).candidates
    assert candidate.suppressed == "web on the lamp"
