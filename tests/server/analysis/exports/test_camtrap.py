"""Camtrap DP packages are valid by their own terms, and say what is known and no more."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from frictionless import Package

from policies.observation import EnsembleInfo, ModelInfo, Observation, Prediction
from server.__main__ import command
from server.analysis.exports.camtrap.columns import TABLES
from server.analysis.exports.camtrap.kinds import Kinds
from server.analysis.exports.camtrap.observations import frame_rows
from server.app import runtime_of
from server.domain.records import Recorded
from server.store import Store
from tests.server.analysis.exports.camtrap_terms import PROFILE, SCHEMAS
from tests.server.scenes import START_US
from tests.server.web_client import BrightnessEnsemble, body, envelope, jpeg, make_app

PLACE = ("--latitude", "59.9", "--longitude", "10.7")
GREYS = (0, 1, *range(200, 212), *range(2, 42))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Somebody came to the gate and went; the pictures of that are kept. Somebody is still at the door."""
    app = make_app(tmp_path, BrightnessEnsemble())
    for camera, greys, reason in (("gate", GREYS, "schedule"), ("door", GREYS[:14], "gate")):
        frames = [jpeg(grey) for grey in greys]
        sent = envelope(frames, burst_id=f"0197-camtrap-{camera}", camera=camera, reason=reason)
        assert app.test_client().post("/v1/bursts", data=body(sent, frames)).status_code == 201
    runtime_of(app).keeper.drain()
    yield runtime_of(app).store
    runtime_of(app).store.close()


def export(folder: Path, *arguments: str) -> Any:
    out = str(folder / "package")
    return CliRunner().invoke(
        command, ["export", *arguments, "--format", "camtrap-dp", "--out", out, "--data-dir", str(folder)]
    )


def rows(folder: Path, table: str) -> list[dict[str, str]]:
    with (folder / "package" / f"{table}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def faults(folder: Path) -> list[Any]:
    """What frictionless finds in a package by the terms of the standard."""
    described = json.loads((folder / "package" / "datapackage.json").read_text())
    jsonschema.validate(described, PROFILE)
    for resource in described["resources"]:
        resource["schema"] = SCHEMAS[resource["name"]]
    del described["profile"]
    report = Package.from_descriptor(described, basepath=str(folder / "package")).validate()
    return list(report.flatten(["rowNumber", "fieldName", "type", "message"]))


@pytest.mark.parametrize("subject", ["events", "observations"])
def test_a_package_is_valid_by_the_terms_of_the_standard(store: Store, tmp_path: Path, subject: str) -> None:
    shown = export(tmp_path, subject, *PLACE)
    assert shown.exit_code == 0, shown.output
    assert faults(tmp_path) == []
    assert rows(tmp_path, "observations")


def test_the_terms_are_noticed_where_they_are_broken(store: Store, tmp_path: Path) -> None:
    export(tmp_path, "events", *PLACE)
    file = tmp_path / "package" / "observations.csv"
    file.write_text(file.read_text().replace(",human,", ",person,").replace("north-yard/gate", "north-yard/gaet"))
    assert {fault[2] for fault in faults(tmp_path)} >= {"constraint-error", "foreign-key"}


def test_the_columns_are_those_of_the_standard_in_its_order() -> None:
    assert {name: [field["name"] for field in schema["fields"]] for name, schema in SCHEMAS.items()} == {
        name: list(columns) for name, columns in TABLES.items()
    }


def test_media_are_the_kept_pictures_and_how_they_were_taken(store: Store, tmp_path: Path) -> None:
    export(tmp_path, "events", *PLACE)
    media = rows(tmp_path, "media")
    kept = {
        each.sha256 for camera in ("gate", "door") for each in store.frames.find("north-yard", camera, None, None, 99)
    }
    assert {hashlib.sha256((tmp_path / "package" / row["filePath"]).read_bytes()).hexdigest() for row in media} == kept
    assert {(row["deploymentID"], row["captureMethod"]) for row in media} == {
        ("north-yard/gate", "timeLapse"),
        ("north-yard/door", "activityDetection"),
    }
    assert [row["fileName"] for row in media[:9]] == sorted(row["fileName"] for row in media[:9])
    assert {row["filePublic"] for row in media} == {"false"}


def test_a_presence_is_one_observation_and_one_that_goes_on_says_so(store: Store, tmp_path: Path) -> None:
    export(tmp_path, "events", *PLACE)
    gate, door = sorted(rows(tmp_path, "observations"), key=lambda row: row["deploymentID"], reverse=True)
    assert (gate["observationType"], gate["observationLevel"], gate["mediaID"]) == ("human", "event", "")
    [ended] = [e.event for e in store.events(camera="gate", site="north-yard", kind="presence_ended")]
    assert gate["observationID"] == ended.id
    assert (gate["classifiedBy"], gate["observationTags"]) == ("people", "target:person | sector:view")
    assert "goes on" in door["observationComments"]
    assert door["eventEnd"] == "2027-01-15T07:59:06Z"


def test_a_presence_that_went_on_when_the_export_begins_is_in_it(store: Store, tmp_path: Path) -> None:
    shown = export(tmp_path, "events", *PLACE, "--camera", "door", "--since", "2027-01-15T07:59:05Z")
    assert shown.exit_code == 0, shown.output
    [door] = rows(tmp_path, "observations")
    assert door["eventStart"] < "2027-01-15T07:59:05Z"
    assert faults(tmp_path) == []


def test_each_label_of_a_kept_frame_is_an_observation_with_its_box(store: Store, tmp_path: Path) -> None:
    export(tmp_path, "observations", *PLACE, "--camera", "gate")
    observations = rows(tmp_path, "observations")
    assert {row["mediaID"] for row in observations} == {row["mediaID"] for row in rows(tmp_path, "media")}
    human = next(row for row in observations if row["observationType"] == "human")
    assert [human[name] for name in ("bboxX", "bboxY", "bboxWidth", "bboxHeight")] == ["0.4", "0.4", "0.2", "0.4"]
    assert (human["classifiedBy"], human["classificationProbability"]) == ("people", "0.9")
    assert {row["observationType"] for row in observations} == {"human", "blank"}


def test_pictures_may_be_named_by_the_server_and_not_copied(store: Store, tmp_path: Path) -> None:
    export(tmp_path, "events", *PLACE, "--server-url", "https://yard.example/")
    assert not (tmp_path / "package" / "media").exists()
    assert rows(tmp_path, "media")[0]["filePath"].startswith("https://yard.example/v1/frames/")
    assert faults(tmp_path) == []


def test_a_camera_without_a_place_is_named_with_what_mends_it(store: Store, tmp_path: Path) -> None:
    shown = export(tmp_path, "events")
    assert not (tmp_path / "package").exists(), "nothing half is left"
    assert shown.exit_code == 1
    assert "give --latitude and --longitude, or write" in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("occupancy", *PLACE), "has no occupancy"),
        (("events", "--latitude", "1"), "go together"),
        (("events", "--type", "deer=beast"), "write TARGET=TYPE"),
        (("events", "--every", "1h"), "--every goes with"),
    ],
)
def test_what_a_package_cannot_have_is_refused(
    tmp_path: Path, store: Store, arguments: tuple[str, ...], complaint: str
) -> None:
    shown = export(tmp_path, *arguments)
    assert shown.exit_code == 2
    assert complaint in shown.stderr


def test_a_folder_with_something_in_it_is_left_as_it_is(store: Store, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "mine.txt").write_text("mine")
    assert "is not empty" in export(tmp_path, "events", *PLACE).stderr
    assert [file.name for file in (tmp_path / "package").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("target", "classes", "said", "type_"),
    [
        ("person", {"person"}, {}, "human"),
        ("bicycle", {"bicycle"}, {}, "vehicle"),
        ("moving", {"moving"}, {}, "unknown"),
        ("dog", {"dog"}, {}, "animal"),
        ("visitor", {"person", "dog"}, {}, "unknown"),
        ("deer", {"deer"}, {}, "unknown"),
        ("deer", {"deer"}, {"deer": "animal"}, "animal"),
    ],
)
def test_a_target_has_the_type_of_its_classes_or_the_one_that_is_said(
    target: str, classes: set[str], said: Any, type_: str
) -> None:
    assert Kinds(said).of_target(target, frozenset(classes)) == type_


def test_no_answer_is_not_blank_and_evidence_that_does_not_vote_is_no_observation(store: Store) -> None:
    digest = store.cameras()[0].policy
    models = (
        ModelInfo("eye", frozenset({"person", "bench"}), boxes=True),
        ModelInfo("ear", frozenset({"person"}), boxes=True),
        ModelInfo("frame-change", frozenset({"moving"}), boxes=True, votes=False),
    )

    def types(eye: Any, ear: Any) -> list[str]:
        moved = (Prediction("moving", 0.9, (0, 0, 1, 1)),)
        answers = {"eye": eye, "ear": ear, "frame-change": moved}
        seen = Observation("north-yard", "gate", "b", 0, START_US, EnsembleInfo("e", models), answers, "ab")
        made = frame_rows(Recorded(digest, seen), "m", Kinds({}), store.policy)
        return [str(row["observationType"]) for row in made]

    assert types((), ()) == ["blank"]
    assert types((Prediction("bench", 0.9),), ()) == ["blank"]
    assert types((), None) == ["unclassified"]
    assert types(None, None) == ["unclassified"]
    assert types((Prediction("person", 0.9),), None) == ["human"]
