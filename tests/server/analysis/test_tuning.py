"""Many policies are tried on what people annotated; the one proposed keeps the true events and drops the rest."""

from __future__ import annotations

import re
from collections.abc import Callable
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
from server.analysis.tuning.plots import Point, _svg, write_html
from server.store import open_store
from tests.server.analysis.test_tuning_proposals import COMMENTED
from tests.server.scenes import EYE, START_US, Yard, across, burst, person_at
from tests.stand_ins import ManualClock


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
    best = tmp_path / "out" / "yard.toml"
    assert "# our yard" in best.read_text()
    assert "+min_score" in result.stdout
    assert parse_site_policy(best.read_text()).rules.least("eye") > 0.5
    assert f"To propose it: sectorwatch policy propose yard {best}" in result.stdout
    assert haunted.store.policy_versions.of_site("yard", 1) == []


def test_tune_keeps_the_best_policy_as_a_proposed_version_where_that_is_asked_for(
    haunted: Yard, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotate(haunted)
    monkeypatch.setenv("SECTORWATCH_SITES_DIR", str(haunted.folder))
    result = tune(url, tmp_path / "out", "--most", "40", "--propose")
    assert result.exit_code == 0, result.output
    [version] = haunted.store.policy_versions.of_site("yard", 2)
    assert "# our yard" in version.text
    assert parse_site_policy(version.text).rules.least("eye") > 0.5
    assert (version.before_text, version.author, version.why[:6]) == (COMMENTED, "command line", "tune: ")
    assert (haunted.folder / "yard.toml").read_text() == COMMENTED, "it is not in force"
    assert "sectorwatch policy put-in-force 1" in result.stderr
    assert not (tmp_path / "out" / "yard.toml").exists()


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
    assert not (tmp_path / "out" / "yard.toml").exists()


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


def test_tune_of_a_sector_searches_its_own_settings_and_writes_them_into_its_table(
    haunted: Yard, url: str, tmp_path: Path
) -> None:
    true, false = annotate(haunted)
    live = haunted.folder / "yard.toml"
    result = tune(url, tmp_path / "out", "--policy", str(live), "--camera", "gate", "--sector", "west")
    assert result.exit_code == 0, result.output
    assert f"It keeps all {true} true events, 0 instead of {false} false alarms in" in result.stdout
    proposed = (tmp_path / "out" / "yard.toml").read_text()
    before, after = parse_site_policy(COMMENTED), parse_site_policy(proposed)
    assert (after.rules, after.camera("gate").by_name["east"]) == (before.rules, before.camera("gate").by_name["east"])
    assert after.camera("gate").by_name["west"].rules.least("eye") > 0.5
    assert [line for line in proposed.splitlines() if line in COMMENTED.splitlines()] == COMMENTED.splitlines()


def test_a_rule_that_a_nearer_place_forbids_is_not_tried_and_named(haunted: Yard, url: str, tmp_path: Path) -> None:
    true, _ = annotate(haunted)
    live = tmp_path / "weighed.toml"
    live.write_text(f'{COMMENTED}[cameras.gate.sectors.west.sensitivity]\nweights = {{ "eye" = 1.0 }}\n')
    result = tune(url, tmp_path / "out", "--policy", str(live))
    assert result.exit_code == 0, result.output
    assert "policies were not tried, since with them" in result.stderr
    assert "sectors.west.sensitivity.weights: weights only mean something with" in result.stderr
    assert f"It keeps all {true} true events" in result.stdout


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
