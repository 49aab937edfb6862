"""`/tune`: today's policy of a sector beside a changed one, with the figures of `sectorwatch tune`."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from server.__main__ import command
from server.app import create_app, runtime_of
from server.console.tuning.trial import Asked, Known, Result, Trials
from server.domain.times.local_time import LocalTime
from server.settings import ServerSettings
from server.store import open_store
from tests.server import new_sqlite
from tests.server.analysis.test_tuning import _shown, annotate
from tests.server.analysis.test_tuning_proposals import COMMENTED
from tests.server.console.signed_in import add_user, browser, csrf_token
from tests.server.scenes import START_US, Yard, across
from tests.server.web_client import SITE, BrightnessEnsemble, body, envelope, jpeg, make_app
from tests.stand_ins import ManualClock

PAGE = "/tune/yard/gate/west"
TWIN = "/v1/tune/yard/gate/west"
STRETCH = {"since": "2026-11-22T06:30", "until": "2026-11-22T07:30"}


class Tuned:
    """A server beside a yard with a past, of which some is annotated."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder / 'sectorwatch.sqlite'}"
        new_sqlite.provide(folder / "sectorwatch.sqlite")
        clock = ManualClock(START_US + 3_600_000_000)
        self.yard = Yard(folder / "sites", open_store(self.url, clock), clock)
        self.yard.write(COMMENTED)
        for number in range(12):
            begin_s = number * 60
            walk = [across(t) for t in range(24)]
            shadow = [0.2 if 3 <= t <= 9 else None for t in range(20)]
            self.yard.pipeline.process(_shown(self.yard, number * 10 + 1, begin_s, walk, 0.9))
            self.yard.pipeline.process(_shown(self.yard, number * 10 + 2, begin_s + 30, shadow, 0.5))
        settings = ServerSettings(data_dir=folder, database_url=self.url, sites_dir=folder / "sites")
        later = START_US + 86_400_000_000
        self.app = create_app(settings, ensemble=BrightnessEnsemble(), channels=[], clock=lambda: later)
        self.client: FlaskClient = self.app.test_client()

    def asked(self, path: str = TWIN, **query: str) -> dict[str, Any]:
        """The page's JSON once the replay is over."""
        until_s = time.monotonic() + 60
        while True:
            answer = self.client.get(f"{path}?{urlencode(STRETCH | query)}")
            assert answer.status_code == 200, answer.text
            told: dict[str, Any] = json.loads(answer.text)
            if told["state"] != "working":
                return told
            assert time.monotonic() < until_s, told["progress"]

    def shown(self, path: str = PAGE, **query: str) -> str:
        """The page, where the replay is over already."""
        self.asked(path.replace("/tune", "/v1/tune", 1), **query)
        answer = self.client.get(f"{path}?{urlencode(STRETCH | query)}")
        assert answer.status_code == 200, answer.text
        return answer.text


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tuned]:
    tuned = Tuned(tmp_path_factory.mktemp("tuned"))
    annotate(tuned.yard)
    yield tuned
    runtime_of(tuned.app).replays.close()
    tuned.yard.store.close()


def test_the_figures_of_a_changed_policy_are_those_of_the_command(tuned: Tuned, tmp_path: Path) -> None:
    out = tmp_path / "out"
    window = ("--since", STRETCH["since"], "--until", STRETCH["until"])
    place = ("--camera", "gate", "--sector", "west", "--target", "person")
    options = ("--database", tuned.url, "--sites", str(tuned.folder / "sites"), "--out", str(out), "--processes", "1")
    result = CliRunner().invoke(command, ["tune", "yard", *window, *place, *options])
    assert result.exit_code == 0, result.output
    row = r"<td>\d+</td><td>(\d+)</td><td>([\d.]+)</td><td>{}(?: <b>.*)?</td>"
    table = (out / "tuning.html").read_text(encoding="utf-8")
    told = tuned.asked(target="person", rule="any", scores="eye:0.6")
    for words, side in (("as now", "today"), (r"any, scores \+0.2", "changed")):
        [(missed, alarms)] = set(re.findall(row.format(words), table))
        figures = told["figures"]["camera"][side]
        assert (figures["missed"], figures["alarms_rate"]) == (int(missed), float(alarms))
    assert told["figures"]["camera"]["today"]["alarms"] > told["figures"]["camera"]["changed"]["alarms"] == 0
    assert f"in {told['figures']['observed_s'] / 60:.3g} observed minutes" in result.stdout


def test_only_what_happened_in_the_sector_counts_as_its_own(tuned: Tuned) -> None:
    figures = tuned.asked(scores="eye:0.6")["figures"]
    assert 0 < figures["place"]["today"]["true"] < figures["camera"]["today"]["true"]
    assert figures["place"]["today"]["alarms"] == figures["camera"]["today"]["alarms"] > 20
    assert figures["place"]["changed"]["events"] < figures["place"]["today"]["events"]


def test_happenings_that_differ_say_what_the_other_policy_made_of_them(tuned: Tuned) -> None:
    told = tuned.asked(scores="eye:0.6")
    assert told["state"] == "done"
    assert told["differ"] == 12
    first = told["differing"][0]
    assert first["reported_by"] == "today"
    assert first["what"] == "person entered west"
    assert first["why"].startswith("under the changed policy: ")
    assert first["ballots"] == [{"model": "eye", "vote": "against", "score": 0.5, "least": 0.6}]
    assert re.fullmatch(r"/events/[0-9a-f]{32}\?site=yard&camera=gate", first["address"])


def test_the_form_leads_to_an_address_with_only_what_is_changed(tuned: Tuned) -> None:
    fields = {"moved": "1", "rule": "any", "was": "agreement", "s1": "0.4", "hits": "3", "frames": "64", "dwell": "1"}
    answer = tuned.client.get(f"{PAGE}?{urlencode(STRETCH | fields)}")
    assert answer.status_code == 303
    assert answer.location == f"{PAGE}?since=2026-11-22T06:30&until=2026-11-22T07:30&rule=any&hits=3"
    page = tuned.shown(rule="any", hits="3")
    assert '<input type="radio" name="rule" value="any" checked>' in page
    assert "<h2>Today beside: any, 3 frames</h2>" in page
    assert "+movement = {min_hits = 3}" in page
    assert re.search(r"hours?, (\d+ h )?\d+ (min|s) of them observed", page)


def test_a_policy_that_cannot_be_names_the_control_and_changes_no_figures(tuned: Tuned) -> None:
    told = tuned.asked(scores="eye:1.5")
    assert told["state"] == "refused"
    assert "min_score" in told["message"]
    assert told["figures"] is None
    assert 'role="alert"' in tuned.shown(scores="eye:1.5")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v1/tune/yard/gate/north", "has no sector `north`; it has west, east"),
        ("/v1/tune/yard/shed/view", "has no camera `shed`; it has gate"),
        ("/v1/tune/field/gate/view", "unknown site `field`"),
        (f"{TWIN}?target=vehicle", "looks for no `vehicle` there; it looks for person"),
    ],
)
def test_a_place_that_is_not_there_is_answered_with_what_there_is(tuned: Tuned, path: str, says: str) -> None:
    answer = tuned.client.get(path)
    assert answer.status_code == 404
    assert says in json.loads(answer.text)["detail"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"since": "2026-11-23T00:00", "until": "2026-11-22T00:00"}, "ends before it begins"),
        ({"since": "2026-01-01T00:00"}, "At most 31 days"),
        (
            {"since": "2026-11-24T00:00", "until": "2026-11-25T00:00"},
            "The newest frame of this camera is of 2026-11-22",
        ),
    ],
)
def test_a_stretch_that_cannot_be_tried_says_what_to_choose(tuned: Tuned, query: dict[str, str], says: str) -> None:
    told = tuned.asked(**query)
    assert told["state"] == "refused"
    assert says in told["message"]


def test_a_number_that_is_none_is_named(tuned: Tuned) -> None:
    answer = tuned.client.get(f"{TWIN}?dwell=long")
    assert answer.status_code == 400
    assert "`dwell` is a number, not `long`" in json.loads(answer.text)["detail"]


def post(tuned: Tuned, page: str, do: str, **more: str) -> str:
    """Send one of the page's forms; where it leads."""
    form = next(
        form for form in re.findall(r"<form method=\"post\" action=\"/tune.*?</form>", page, re.S) if do in form
    )
    fields = {name: html.unescape(value) for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', form)}
    answer = tuned.client.post(PAGE, data=fields | more)
    assert answer.status_code == 303, answer.text
    return answer.location


def test_a_change_is_proposed_then_put_in_force_then_taken_back(tuned: Tuned) -> None:
    file = tuned.folder / "sites" / "yard.toml"
    there = post(tuned, tuned.shown(scores="eye:0.6"), "propose", why="a <b>shadow</b>")
    assert file.read_text() == COMMENTED
    proposed = tuned.client.get(there).text
    assert "Version 1: proposed" in proposed
    assert "a &lt;b&gt;shadow&lt;/b&gt;" in proposed
    there = post(tuned, proposed, "put_in_force")
    assert "min_score = {eye = 0.6}" in file.read_text()
    in_force = tuned.client.get(there).text
    assert "Version 1: in force" in in_force
    assert '<td class="number">0.6' not in in_force
    assert 'name="s1" min="0" step="0.01" value="0.6"' in in_force
    there = post(tuned, in_force, "take_back")
    assert file.read_text() == COMMENTED
    assert "Version 1: taken back" in tuned.client.get(there).text
    assert "Put version" not in tuned.client.get(there).text


def test_a_proposal_from_a_file_that_has_changed_since_is_refused(tuned: Tuned) -> None:
    form = re.search(r'name="csrf_token" value="([^"]+)"', tuned.shown(scores="eye:0.6"))
    assert form is not None
    fields = {"csrf_token": form[1], "do": "propose", "state": "scores=eye:0.6", "seen": "0" * 64}
    answer = tuned.client.post(PAGE, data=fields)
    assert answer.status_code == 409
    assert "has changed since you began" in answer.text


def test_a_change_is_proposed_while_the_last_good_version_stands_in_for_a_faulty_file(tuned: Tuned) -> None:
    file = tuned.folder / "sites" / "yard.toml"
    tuned.asked()
    file.write_text(COMMENTED + "no\n")
    try:
        page = tuned.shown(scores="eye:0.6")
        assert "site&#39;s file cannot be used (yard.toml" in page
        assert "\n-no" in page
        proposed = tuned.client.get(post(tuned, page, "propose")).text
        assert ": proposed" in proposed
        post(tuned, proposed, "put_in_force")
        assert "min_score = {eye = 0.6}" in file.read_text()
        assert "cannot be used" not in tuned.shown()
    finally:
        file.write_text(COMMENTED)


def test_every_place_of_the_site_is_listed_with_its_annotations(tuned: Tuned) -> None:
    [camera] = json.loads(tuned.client.get("/v1/tune").text)["cameras"]
    assert (camera["camera"], [each["sector"] for each in camera["sectors"]]) == ("gate", ["west", "east"])
    assert camera["annotated"] > 40
    assert f'href="{PAGE}"' in tuned.client.get("/tune").text


def test_who_only_reads_looks_and_tries_and_cannot_save(tmp_path: Path) -> None:
    app = make_app(tmp_path, BrightnessEnsemble())
    add_user(app, "vera", {"north-yard": "viewer"})
    add_user(app, "otto", {"south-yard": "operator"})
    page = "/tune/north-yard/gate/view"
    frame = jpeg(240)
    assert app.test_client().post("/v1/bursts", data=body(envelope([frame]), [frame])).status_code == 201
    vera = browser(app, "vera")
    unjudged = vera.get(page).text
    assert "nobody can tell yet: no event of this time is annotated" in unjudged, "the log is there before any replay"
    shown = vera.get(f"{page}?rule=all").text
    assert "You may look and try" in shown
    assert "Save as a proposed change" not in shown
    fields = {"csrf_token": csrf_token(vera), "do": "propose", "state": "rule=all"}
    refused = vera.post(page, data=fields)
    assert refused.status_code == 403
    otto = browser(app, "otto")
    assert otto.get(page).status_code == 404
    assert otto.get("/v1/tune").get_data(as_text=True) == '{"cameras":[]}'
    assert app.test_client().get(page).status_code == 303
    runtime_of(app).replays.close()


def test_a_camera_of_which_nothing_is_stored_says_how_to_begin(tmp_path: Path) -> None:
    app = make_app(tmp_path, BrightnessEnsemble())
    (tmp_path / "sites" / "north-yard.toml").write_text(f"{SITE}\n[cameras.gate]\n", encoding="utf-8")
    shown = app.test_client().get("/tune/north-yard/gate/view")
    assert shown.status_code == 200
    assert "camera-agent doctor" in shown.text
    assert app.test_client().get("/v1/tune/north-yard/gate/view").get_json()["state"] == "empty"


def test_the_pages_of_two_sectors_do_not_take_the_place_of_each_others_replay(
    tuned: Tuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners: list[str] = []

    def result(trials: Trials, asked: Asked, known: Known, local: LocalTime, owner: str) -> Result:
        owners.append(owner)
        return Result((), 1, "", None, 0, (), is_complete=False)

    monkeypatch.setattr(Trials, "result", result)
    for path in (TWIN, TWIN.replace("west", "east"), TWIN):
        assert tuned.client.get(f"{path}?{urlencode(STRETCH)}").status_code == 200
    assert owners[0] != owners[1]
    assert owners[0] == owners[2]
