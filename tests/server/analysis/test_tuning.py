"""Many policies are tried on what people annotated; the one proposed keeps the true events and drops the rest."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from policies.events import instant
from policies.observation import Prediction
from policies.site.site_policy import parse_site_policy
from server.__main__ import command
from server.analysis.annotations import MissedFact, annotation_of, missed_annotation
from server.analysis.candidates import TODAY, Option, Place, by_evidence, candidate, refinements, rules_and_scores
from server.analysis.plots import Point, _svg, frontier, write_html
from server.analysis.policy_diff import applied, difference, overruled
from server.analysis.recommendation import Advice, best_of, cheaper_than, split_at, wilson, words
from server.analysis.scoring import Outcome, Split, Truth, outcome_of
from server.domain.matching import Fact
from server.store import open_store
from tests.policies.stories import events_of, policy, walk
from tests.server.scenes import EYE, START_US, YARD, Yard, across, burst, person_at
from tests.stand_ins import ManualClock

COMMENTED = f"# our yard\n{YARD.strip()} # the end\n"


@pytest.fixture
def haunted(tmp_path: Path, url: str, clock: ManualClock) -> Yard:
    """A minute at a time: someone walks across, seen well; then a shadow stands in the west, seen badly."""
    yard = Yard(tmp_path / "sites", open_store(url, clock), clock)
    yard.write(COMMENTED)
    for number in range(12):
        begin_s = number * 60
        yard.pipeline.process(_shown(yard, number * 10 + 1, begin_s, [across(t) for t in range(24)], 0.9))
        shadow = [0.2 if 3 <= t <= 9 else None for t in range(20)]
        yard.pipeline.process(_shown(yard, number * 10 + 2, begin_s + 30, shadow, 0.5))
    return yard


def _shown(yard: Yard, number: int, at_s: float, places: list[float | None], score: float):  # type: ignore[no-untyped-def]
    images = []
    for index, x in enumerate(places):
        image = f"{number} {index}".encode()
        seen: tuple[Prediction, ...] = () if x is None else (person_at(x, score),)
        images.append(yard.ensemble.teach(image, {"eye": seen}))
    return burst(number, images, at_s, 1.0)


def annotate(yard: Yard) -> tuple[int, int]:
    """What is true of the haunted yard; how many events are true, how many false."""
    events = [logged.event for logged in yard.store.events()]
    truths = ["false" if event.started_at.second >= 28 else "true" for event in events]
    pairs = zip(events, truths, strict=True)
    yard.store.annotations.add([annotation_of(yard.store, e.id, s, "ann") for e, s in pairs])  # type: ignore[arg-type]
    return truths.count("true"), truths.count("false")


def tune(url: str, out: Path, *arguments: str) -> Result:
    options = ("--database", url, "--out", str(out), "--processes", "1")
    return CliRunner().invoke(command, ["tune", "yard", *options, *arguments])


def test_tune_proposes_the_policy_that_keeps_the_true_and_drops_the_false(
    haunted: Yard, url: str, tmp_path: Path
) -> None:
    true, false = annotate(haunted)
    assert true > 20 < false
    live = haunted.folder / "yard.toml"
    result = tune(url, tmp_path / "out", "--policy", str(live))
    assert result.exit_code == 0, result.output
    assert f"It keeps all {true} true events, 0 instead of {false} false alarms in" in result.stdout
    assert "false events, which the search did not see: all" in result.stdout
    assert live.read_text() == COMMENTED, "the live policy is not touched"
    proposal = haunted.folder / "yard.toml.proposed"
    assert "# our yard" in proposal.read_text()
    assert "+min_score" in result.stdout
    assert parse_site_policy(proposal.read_text()).rules.least("eye") > 0.5
    assert haunted.sites.faults() == {}, "a proposal is no policy in force"
    assert haunted.sites.policy("yard").digest == parse_site_policy(COMMENTED).digest


def test_tune_draws_misses_against_false_alarms_with_todays_policy_marked(
    haunted: Yard, url: str, tmp_path: Path
) -> None:
    annotate(haunted)
    tune(url, tmp_path / "out", "--most", "12")
    page = (tmp_path / "out" / "tuning.html").read_text()
    assert page.count("</title></circle>") == 12
    assert '<meta name="viewport" content="width=device-width">' in page
    assert "<th>false alarms in all</th>" in page
    assert ">beaten by none</text>" in page
    assert ">today</text>" in page
    assert ">recommended</text>" in page
    assert "src=" not in page
    assert "href=" not in page


def test_tune_says_when_todays_policy_is_the_best(yard: Yard, url: str, tmp_path: Path) -> None:
    for logged in yard.store.events():
        yard.store.annotations.add([annotation_of(yard.store, logged.event.id, "true", "ann")])
    result = tune(url, tmp_path / "out", "--most", "10")
    assert "No policy is better: keep it." in result.stdout
    assert "Fewer than 10 true or 10 false events are annotated" in result.stdout
    assert not list(tmp_path.rglob("*.proposed"))


def test_tune_without_annotations_says_so_and_that_one_model_agrees_with_none(
    yard: Yard, url: str, tmp_path: Path
) -> None:
    shown = tune(url, tmp_path / "out").stdout
    assert "no policy can be called better than another" in shown
    assert "No two models voted on the same candidate" in shown
    assert not (tmp_path / "out").exists()


def test_tune_of_a_stretch_without_annotations_says_where_they_are(haunted: Yard, url: str, tmp_path: Path) -> None:
    annotate(haunted)
    shown = tune(url, tmp_path / "out", "--until", "2026-11-22T06:00").stdout
    assert "No event in this stretch is annotated. The annotations lie between 2026-11-22 07:00:0" in shown
    assert "No event of this site" not in shown


def test_false_events_alone_recommend_nothing(haunted: Yard, url: str, tmp_path: Path) -> None:
    events = [logged.event for logged in haunted.store.events() if logged.event.started_at.second >= 28]
    haunted.store.annotations.add([annotation_of(haunted.store, e.id, "false", "ann") for e in events])
    shown = tune(url, tmp_path / "out", "--most", "12").stdout
    assert f"Today's policy gives {len(events)} false alarms in" in shown
    assert "Best so far, on too few annotations to recommend it: scores +0.2." in shown
    assert "No true event is annotated, so the misses of a stricter policy are unknown" in shown
    assert "<- best so far" in shown
    assert "ecommended" not in shown
    assert "0 true events" not in shown


@pytest.mark.parametrize(
    "options", [("--most", "0"), ("--miss-cost", "-1"), ("--within", "-2"), ("--out", "/dev/null/out")]
)
def test_what_cannot_be_tried_is_told_before_anything_is(haunted: Yard, url: str, options: tuple[str, str]) -> None:
    annotate(haunted)
    result = CliRunner().invoke(command, ["tune", "yard", "--database", url, *options])
    assert result.exit_code in (2, 78)
    assert "trying" not in result.stderr


def test_tune_names_what_a_few_more_misses_would_save_and_what_nobody_judged(
    haunted: Yard, url: str, tmp_path: Path
) -> None:
    annotate(haunted)
    for logged in haunted.store.events()[-30:]:
        haunted.store.annotations.add([annotation_of(haunted.store, logged.event.id, "unsure", "ann")])
    shown = tune(url, tmp_path / "out", "--most", "2").stdout
    assert "30 more events there without an annotation: ignored." in shown
    assert "`sectorwatch nuisances` finds what recurs" in shown


def test_of_policies_with_fewer_false_alarms_the_one_that_misses_least_is_named() -> None:
    today, some, many = trial([], [1, 2, 3], 0), trial([1], [1], 1), trial([1, 2], [], 1)
    assert cheaper_than(today, [today, some, many]) is some
    assert cheaper_than(many, [today, some, many]) is None
    advice = Advice(today, today, some, 3, Split(100, 100), 2.0, 3, 0, 0)
    assert "Fewer false alarms cost misses: some misses 1 more true event, and gives 1." in list(words(advice))
    assert "Today's policy keeps all 4 true events and gives 1.5 false alarms a day." in list(words(advice))


def test_a_rule_that_says_what_todays_policy_says_is_todays_policy(haunted: Yard, url: str, tmp_path: Path) -> None:
    annotate(haunted)
    haunted.ensemble.ensemble_info = replace(haunted.ensemble.ensemble_info, models=(EYE, replace(EYE, model="eye.2")))
    haunted.pipeline.process(_shown(haunted, 900, 900, [None] * 10, 0.9))
    shown = tune(url, tmp_path / "out", "--most", "3").stdout
    assert "as now   <- today" in shown


def test_tune_of_a_site_that_never_sent_names_those_that_did(ask: Callable[..., Result], tmp_path: Path) -> None:
    assert "nothing is stored of dock/*; cameras with data: yard/gate" in ask("tune", "dock").stderr
    other = tmp_path / "dock.toml"
    other.write_text('site = "dock"', encoding="utf-8")
    assert ask("tune", "yard", "--policy", str(other)).exit_code == 2


def test_tune_gives_the_same_whatever_the_number_of_processes(haunted: Yard, url: str, tmp_path: Path) -> None:
    annotate(haunted)
    first = tune(url, tmp_path / "1", "--most", "2").stdout.replace(str(tmp_path / "1"), "out")
    second = tune(url, tmp_path / "2", "--most", "2", "--processes", "2").stdout.replace(str(tmp_path / "2"), "out")
    assert first == second


def test_a_fact_that_was_missed_counts_as_missed_until_a_policy_tells_it(
    haunted: Yard, url: str, tmp_path: Path
) -> None:
    annotate(haunted)
    seen = MissedFact("yard", "gate", "entered", instant(START_US + 20_000_000), sector="west")
    haunted.store.annotations.add([missed_annotation(haunted.store, seen, "ann")])
    shown = tune(url, tmp_path / "out", "--most", "5").stdout
    assert "Today's policy keeps" in shown
    before = shown.partition("Today's policy keeps ")[2].partition(" true")[0].split(" of ")
    assert int(before[0]) + 1 == int(before[1])


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


def test_tune_of_a_sector_searches_its_own_settings_and_writes_them_into_its_table(
    haunted: Yard, url: str, tmp_path: Path
) -> None:
    true, false = annotate(haunted)
    live = haunted.folder / "yard.toml"
    result = tune(url, tmp_path / "out", "--policy", str(live), "--camera", "gate", "--sector", "west")
    assert result.exit_code == 0, result.output
    assert f"It keeps all {true} true events, 0 instead of {false} false alarms in" in result.stdout
    proposed = (haunted.folder / "yard.toml.proposed").read_text()
    before, after = parse_site_policy(COMMENTED), parse_site_policy(proposed)
    assert (after.rules, after.camera("gate").by_name["east"]) == (before.rules, before.camera("gate").by_name["east"])
    assert after.camera("gate").by_name["west"].rules.least("eye") > 0.5
    assert [line for line in proposed.splitlines() if line in COMMENTED.splitlines()] == COMMENTED.splitlines()


def test_a_sector_that_is_noisy_gets_another_policy_than_one_where_the_same_score_is_true(
    tmp_path: Path, url: str, clock: ManualClock
) -> None:
    yard = Yard(tmp_path / "sites", open_store(url, clock), clock)
    for number in range(24):
        x = 0.2 if number % 2 else 0.8
        yard.pipeline.process(_shown(yard, number, number * 30, [x if 3 <= t <= 9 else None for t in range(20)], 0.5))
    for logged in yard.store.events():
        told = "false" if logged.event.sector == "west" else "true"
        yard.store.annotations.add([annotation_of(yard.store, logged.event.id, told, "ann")])
    live = str(yard.folder / "yard.toml")
    assert "No policy is better" in tune(url, tmp_path / "1", "--policy", live).stdout
    shown = tune(url, tmp_path / "2", "--policy", live, "--sector", "west").stdout
    assert "Recommended: " in shown
    assert re.search(r"keeps all \d+ true events, 0 instead of \d+ false alarms", shown), shown


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


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--camera", "gaet"), "did you mean `gate`"),
        (("--sector", "wets"), "camera `gate` has no sector `wets`; it has west, east"),
        (("--camera", "gate", "--target", "dog"), "looks for no `dog` there; it looks for person"),
    ],
)
def test_a_place_that_the_policy_does_not_have_is_named(
    haunted: Yard, url: str, tmp_path: Path, options: tuple[str, ...], error: str
) -> None:
    result = tune(url, tmp_path / "out", "--policy", str(haunted.folder / "yard.toml"), *options)
    assert result.exit_code in (1, 2)
    assert error in result.stderr


def test_settings_of_a_sector_are_named_where_a_change_of_its_camera_does_not_reach_them() -> None:
    text = YARD + "[cameras.gate.sectors.west.sensitivity]\nrule = 'any'\n"
    path = ("cameras", "gate")
    assert overruled(text, {(*path, "sensitivity", "rule"): "all"}, path) == ["cameras.gate.sectors.west.sensitivity"]
    west = (*path, "sectors", "west")
    assert overruled(text, {(*west, "sensitivity", "rule"): "all"}, west) == []


def test_rates_are_of_the_time_that_was_watched(haunted: Yard, url: str, tmp_path: Path) -> None:
    haunted.clock.advance(86_400)
    haunted.pipeline.process(_shown(haunted, 990, 40_000, [0.2 if 3 <= t <= 9 else None for t in range(20)], 0.5))
    annotate(haunted)
    shown = tune(url, tmp_path / "out", "--most", "1").stdout
    assert re.search(r"Tried 1 policy on .* of 12\.\d observed minutes\.", shown), shown
    assert "hours" not in shown


def labels_of(page: str) -> list[tuple[float, float, float, float]]:
    """The rectangles of the labels of points: at least as large as a browser draws them."""
    rectangles = []
    for x, y, anchor, text in re.findall(
        r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)" fill="[^"]+">([^<]+)', page
    ):
        wide = 7.5 * len(text)
        left = float(x) - wide if anchor == "end" else float(x)
        rectangles.append((left, float(y) - 11, left + wide, float(y) + 3))
    return rectangles


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8)), min_size=2, max_size=60))
def test_no_label_of_the_plot_covers_another(places: list[tuple[int, int]]) -> None:
    marks = ["today", "recommended", *["frontier", "tried"] * len(places)]
    points = [Point(*place, f"policy {i}", marks[i]) for i, place in enumerate(places)]
    page = "\n".join(_svg(points, "in all"))
    rectangles = labels_of(page)
    assert len(rectangles) >= 2
    for i, a in enumerate(rectangles):
        assert a[0] >= 0
        assert a[2] <= 720
        for b in rectangles[:i]:
            assert not (a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]), (a, b)


def test_each_point_says_which_policy_it_is(tmp_path: Path) -> None:
    points = [
        Point(0, 5.0, "as now", "today"),
        Point(0, 1.0, "all", "recommended"),
        Point(3, 0.0, "one alone", "tried"),
    ]
    write_html(tmp_path / "plot.html", "Tuning", [], [], points, "in all")
    page = (tmp_path / "plot.html").read_text()
    for number, point in enumerate(points, 1):
        assert f"<title>{number}: {point.words}: {point.misses} missed" in page
        assert f">{number}</text>" in page
        assert f"<tr><td>{number}</td><td>{point.misses}</td>" in page


def fact(at_s: float, what: str = "entered") -> Fact:
    return Fact((what,), round(at_s * 1e6), 0)


def test_what_only_the_tried_policy_tells_is_a_false_alarm_and_what_nobody_judged_is_none() -> None:
    events = events_of(policy(), walk(across, 26))
    facts = [outcome_fact(event) for event in events]
    far = fact(facts[0].at_us / 1e6 - 3600)
    truth = Truth(true=(facts[0],), false=(facts[1],), unjudged=(far,))
    outcome = outcome_of(truth, [*events, events[0]], 0.0)
    tally = outcome.tally()
    assert (tally.kept, tally.missed, tally.false, tally.new) == (1, 0, 1, len(events) - 1)
    assert (tally.true, tally.alarms, outcome.events) == (1, len(events), len(events) + 1)
    assert outcome_of(truth, [], 0.0).tally().missed == 1


def test_what_is_told_in_place_of_what_nobody_judged_is_no_false_alarm() -> None:
    def seen(at_s: float, *what: str) -> Fact:
        return Fact(what, round(at_s * 1e6), 0)

    told_now = [e for e in events_of(policy(), walk(across, 26)) if e.kind == "entered"]
    there = outcome_fact(told_now[0])
    at_s = there.at_us / 1e6
    for other, false in [
        (seen(at_s + 9, "yard", "gate", "left", "person", "east"), 0),
        (seen(at_s - 9, "yard", "gate", "left", "person", "east"), 0),
        (seen(at_s + 11, "yard", "gate", "left", "person", "east"), 1),
        (seen(at_s, "yard", "dock", "entered", "person", "east"), 1),
        (seen(at_s, "yard", "gate", "entered", "vehicle", "east"), 1),
    ]:
        assert outcome_of(Truth((), (), (other,)), told_now[:1], 0.0).tally().new == false


def outcome_fact(event):  # type: ignore[no-untyped-def]
    from server.domain.matching import fact_of

    return fact_of(event)


def test_a_tally_may_be_of_a_part_of_the_time() -> None:
    outcome = Outcome(kept=(1, 5), missed=(6,), false=(2, 7), new=(8,))
    split = Split(true_us=5, false_us=7)
    assert (outcome.tally(until=split).kept, outcome.tally(split).kept, outcome.tally(split).alarms) == (1, 1, 2)
    assert outcome.tally(until=split).alarms == 1


def trial(missed_at: list[int], false_at: list[int], changes: int):  # type: ignore[no-untyped-def]
    from server.analysis.candidates import Candidate
    from server.analysis.recommendation import Trial

    given_changes = {("x", str(i)): i for i in range(changes)}
    outcome = Outcome(tuple({1, 2, 3, 4} - set(missed_at)), tuple(missed_at), tuple(false_at), ())
    return Trial(Candidate("some", given_changes, "", parse_site_policy('site = "yard"')), outcome)


def test_no_policy_is_chosen_that_misses_more_than_todays() -> None:
    today, deaf, good = trial([], [1, 2, 3], 0), trial([1], [], 1), trial([], [1], 2)
    assert best_of([today, deaf, good], Split(100, 100), miss_cost=0.1) is good


def test_the_choice_is_made_on_the_earlier_part_only() -> None:
    today, early, late = trial([], [1, 50], 0), trial([], [50], 1), trial([], [1], 1)
    assert best_of([today, early, late], Split(10, 10), miss_cost=10) is early


def test_of_equals_the_one_with_fewest_changes_is_chosen() -> None:
    today, same = trial([], [1], 0), trial([], [1], 3)
    assert best_of([today, same], Split(100, 100), miss_cost=10) is today


def test_the_latest_third_of_the_annotations_is_held_out() -> None:
    assert split_at(range(10), range(100, 120)) == Split(7, 114)
    assert split_at([5], []) == Split(5, 0)


def test_the_hold_out_begins_after_a_pause_so_that_no_visit_lies_on_both_sides() -> None:
    visits = [at + second for at in (0, 1000, 2000, 3000, 4000) for second in range(4)]
    assert split_at(visits, visits[:8]) == Split(3000, 1000)


@pytest.mark.parametrize(("hits", "count", "low", "high"), [(31, 31, 0.8897, 1), (5, 10, 0.2366, 0.7634), (0, 0, 0, 1)])
def test_wilsons_interval_is_the_published_one(hits: int, count: int, low: float, high: float) -> None:
    assert wilson(hits, count) == pytest.approx((low, high), abs=1e-4)


@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 20)), min_size=1, max_size=30))
def test_nothing_beats_the_frontier(points: list[tuple[int, float]]) -> None:
    best = frontier(points)
    line = sorted((points[i][1], points[i][0]) for i in best)
    assert all(a[1] > b[1] for a, b in pairwise(line))
    for misses, alarms in points:
        assert any(points[i][0] <= misses and points[i][1] <= alarms for i in best)


def test_a_plot_may_hold_a_single_perfect_policy(tmp_path: Path) -> None:
    points = [Point(0, 0.0, "<as now>", "today")]
    write_html(tmp_path / "a.html", "a", ["words & more"], [], points, "a day")
    page = (tmp_path / "a.html").read_text()
    assert "&lt;as now&gt;" in page
    assert "words &amp; more" in page


def test_the_name_of_a_policy_at_the_edge_stays_in_the_picture(tmp_path: Path) -> None:
    points = [Point(0, 1.0, "all", "recommended"), Point(0, 9.0, "as now", "today")]
    write_html(tmp_path / "plot.html", "Tuning", [], [], points, "a day")
    page = (tmp_path / "plot.html").read_text()
    assert 'text-anchor="start" fill="#1e8449">recommended' in page
    assert 'text-anchor="end" fill="#c0392b">today' in page
