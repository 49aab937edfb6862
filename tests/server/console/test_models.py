"""`/ensemble`: the ensemble, and how its models vote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flask import Flask
from sqlalchemy import event

from policies.events import Event
from policies.observation import Prediction
from server.app import runtime_of
from server.domain.fleet import DATABASE, SitesSource
from server.domain.records import Annotation
from server.store import Store
from tests.server.console.signed_in import add_user, browser
from tests.server.web_client import BrightnessEnsemble, body, envelope, jpeg, make_app

pytestmark = pytest.mark.usefixtures("cheap_passwords")


class Twins(BrightnessEnsemble):
    """Two models that box a person in every bright frame."""

    def __init__(self) -> None:
        super().__init__()
        people = self.ensemble_info.models[1]
        models = (people, msgspec.structs.replace(people, model="people-2"))
        self.ensemble_info = msgspec.structs.replace(self.ensemble_info, models=models)

    def _of(self, brightness: float) -> dict[str, tuple[Prediction, ...] | None]:
        seen = super()._of(brightness)["people"]
        return {"people": seen, "people-2": seen}


class Blind(Twins):
    """The second model sees nobody."""

    def _of(self, brightness: float) -> dict[str, tuple[Prediction, ...] | None]:
        return super()._of(brightness) | {"people-2": ()}


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return make_app(tmp_path, BrightnessEnsemble())


def happening(app: Flask) -> list[Event]:
    """Somebody comes to the gate; the events."""
    frames = [jpeg(grey) for grey in (1, 2, *range(200, 212))]
    answer = app.test_client().post("/v1/bursts", data=body(envelope(frames), frames))
    assert answer.status_code == 201
    found = [each.event for each in runtime_of(app).store.events()]
    assert found
    return found


def annotate(store: Store, event: Event, truth: Any) -> None:
    at_us = round(event.started_at.timestamp() * 1e6)
    where = (event.site, event.camera, event.kind, event.label, event.sector, None, None, None)
    store.annotations.add([Annotation(0, event.id, truth, *where, at_us, 5.0, True, "anna", None, 0)])


def page(app: Flask, query: str = "") -> Any:
    answer = app.test_client().get(f"/v1/ensemble{query}")
    assert answer.status_code == 200, answer.text
    return answer.json


def test_each_model_in_service_is_shown_with_its_card_and_the_ensemble_with_its_digest(app: Flask) -> None:
    told = page(app)
    assert told["ensemble"] == "e" * 64
    assert [(model["name"], model["kind"]) for model in told["models"]] == [
        ("light.v1", "classifier"),
        ("people", "detector"),
    ]
    assert told["lock"]["file"] is None
    shown = app.test_client().get("/ensemble").text
    for words in ("light.v1", "people", "eeeeeeee", "sectorwatch models lock", "No event is annotated yet"):
        assert words in shown


def test_a_card_shows_source_licence_and_weights(tmp_path: Path) -> None:
    class Named(BrightnessEnsemble):
        def __init__(self) -> None:
            super().__init__()
            _light, people = self.ensemble_info.models
            models = (msgspec.structs.replace(people, model="yolov3-tiny"),)
            self.ensemble_info = msgspec.structs.replace(self.ensemble_info, models=models)

    (model,) = page(make_app(tmp_path, Named()))["models"]
    assert model["sha256"] == "dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c"
    assert all(model[part] for part in ("summary", "licence", "citation"))
    assert model["input"] == "416 x 416 pixels, letterbox, rgb, float32"


def test_while_no_ensemble_answers_the_page_says_why_and_goes_on(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    told = page(app)
    assert told["ensemble"] is None
    assert "loading" in told["unavailable"]
    assert "sectorwatch doctor" in app.test_client().get("/ensemble").text


def test_what_the_golden_set_said_last_of_this_ensemble_counts(app: Flask) -> None:
    notices = runtime_of(app).store.notices
    assert page(app)["golden"]["state"] == "not_checked"
    notices.add("serves", "e" * 64, ["people"], "loaded at start")
    assert page(app)["golden"]["state"] == "approved"
    notices.add("unapproved", "e" * 64, ["people"], "<b>people</b>: 3 of 12 differ")
    notices.add("refused", "f" * 64, ["other"], "of another ensemble")
    told = page(app)
    assert told["golden"]["state"] == "not_approved"
    assert [notice["what"] for notice in told["notices"]] == ["refused", "unapproved", "serves"]
    shown = app.test_client().get("/ensemble").text
    assert "&lt;b&gt;people&lt;/b&gt;: 3 of 12 differ" in shown
    assert "does not answer as approved" in shown


def test_a_lock_that_cannot_be_read_is_named_with_what_makes_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "models.lock").write_text("{}")
    told = page(make_app(tmp_path, BrightnessEnsemble(), lock=tmp_path / "models.lock"))
    assert told["lock"]["file"] == "models.lock"
    assert "sectorwatch models lock" in told["lock"]["fault"]


def test_who_votes_against_what_people_said_comes_first(tmp_path: Path) -> None:
    app = make_app(tmp_path, Blind())
    events = happening(app)
    store = runtime_of(app).store
    for truth, happened in (("false", events[0]), ("true", events[0]), ("true", events[1])):
        annotate(store, happened, truth)
    told = page(app)["annotated"]
    assert (told["true"], told["false"]) == (2, 0)
    assert [(each["model"], each["voted"], each["disagreed"], each["against_true"]) for each in told["models"]] == [
        ("people-2", 2, 2, 2),
        ("people", 2, 0, 0),
    ]
    assert "100 %" in app.test_client().get("/ensemble").text


def test_the_weeks_hold_the_votes_of_their_events_and_say_what_the_sample_is(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    happening(app)
    told = page(app)
    assert [week["events"] > 0 for week in told["weeks"]] == [True] + [False] * 7
    assert told["every_nth"] == 1
    assert "every event" in app.test_client().get("/ensemble").text
    monkeypatch.setattr("server.console.operation.models.SAMPLE", 1)
    assert page(app)["every_nth"] == len(runtime_of(app).store.events())


def test_agreement_counts_the_votes_that_two_models_cast_on_one_event(tmp_path: Path) -> None:
    app = make_app(tmp_path, Twins())
    count = len(happening(app))
    told = page(app)
    assert told["weeks"][0]["pairs"] == [
        {"target": "person", "a": "people", "b": "people-2", "events": count, "agree": count, "only_a": 0, "only_b": 0}
    ]
    assert "100 %" in app.test_client().get("/ensemble").text


def test_a_viewer_of_another_site_gets_none_of_its_votes(app: Flask) -> None:
    events = happening(app)
    annotate(runtime_of(app).store, events[0], "true")
    add_user(app, "bert", {"barn": "viewer"})
    client = browser(app, "bert")
    told = client.get("/v1/ensemble").json
    assert told["annotated"]["models"] == []
    assert sum(week["events"] for week in told["weeks"]) == 0
    assert client.get("/ensemble?site=north-yard").status_code == 404
    assert client.get("/v1/ensemble?site=north-yard").status_code == 404


def test_the_page_asks_the_database_few_questions(app: Flask) -> None:
    for each in happening(app):
        annotate(runtime_of(app).store, each, "true")
    add_user(app)
    client = browser(app)
    client.get("/ensemble")
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: Sequence[object]) -> None:
        asked.append(statement)

    event.listen(runtime_of(app).store._engine, "before_cursor_execute", note)
    client.get("/ensemble?site=north-yard")
    event.remove(runtime_of(app).store._engine, "before_cursor_execute", note)
    questions = [statement for statement in asked if statement.startswith("SELECT")]
    assert len(questions) <= 7, questions


def test_each_server_is_shown_with_the_site_policies_by_which_it_judges_and_how_they_differ(app: Flask) -> None:
    fleet = runtime_of(app).store.fleet
    for name in ("one", "two"):
        fleet.join(name, "a run")
    fleet.judges_by("one", "a run", SitesSource("/etc/sites", "1" * 64))
    told = page(app)
    assert [each["sites"] for each in told["replicas"]] == ["the folder /etc/sites (digest 11111111)", None]
    assert told["sites_differ"] is None
    assert "judge by different" not in app.test_client().get("/ensemble").text
    fleet.judges_by("two", "a run", SitesSource(DATABASE, ""))
    assert page(app)["sites_differ"] == "one by the folder /etc/sites (digest 11111111); two by the database"
    shown = app.test_client().get("/ensemble").text
    assert "The servers judge by different site policies" in shown
    assert "sectorwatch doctor" in shown


def test_the_server_that_does_the_upkeep_is_shown_and_that_none_does(app: Flask) -> None:
    fleet = runtime_of(app).store.fleet
    for name in ("one", "three", "two"):
        fleet.join(name, "a run")
    one, three, two = page(app)["replicas"]
    assert one["upkeep_since"] == one["seen_at"]
    assert (three["upkeep_since"], two["upkeep_since"]) == (None, None)
    shown = app.test_client().get("/ensemble").text
    assert shown.count("<b>for all</b>, since <time") == 1
    assert "No server does the upkeep" not in shown
    fleet.leave("one", "a run")
    assert [each["upkeep_since_local"] for each in page(app)["replicas"]] == [None, None]
    assert "No server does the upkeep" in app.test_client().get("/ensemble").text
