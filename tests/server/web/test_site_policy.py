"""A camera learns what the server makes of its site's file, and learns nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from server.app import runtime_of
from server.web.auth import new_token
from tests.server.web_client import BrightnessEnsemble, make_app

SECTOR = "polygon = [[0, 0], [1, 0], [1, 1]]\n"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    app = make_app(tmp_path, BrightnessEnsemble())
    yield app
    runtime_of(app).store.close()


def ask(app: Flask, site: str = "north-yard", camera: str = "gate", token: str | None = None) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return app.test_client().get("/v1/site-policy", query_string={"site": site, "camera": camera}, headers=headers)


def write(folder: Path, text: str, name: str = "north-yard.toml") -> None:
    (folder / "sites" / name).write_text(text, encoding="utf-8")


def test_a_file_that_is_right_is_named_with_its_policy(app: Flask) -> None:
    assert ask(app).get_json() == {
        "site": "north-yard",
        "camera": "gate",
        "file": "north-yard.toml",
        "policy": runtime_of(app).sites.policy("north-yard").digest,
        "in_force": "file",
        "faults": [],
        "remarks": [],
    }


def test_a_file_turned_bad_is_told_with_its_line_and_what_is_in_force_instead(app: Flask, tmp_path: Path) -> None:
    before = ask(app).get_json()
    write(tmp_path, '\nsite = "north-yard"\ntragets = ["vehicle"]\n')
    told = ask(app).get_json()
    assert told == before | {
        "in_force": "last_good",
        "faults": ["north-yard.toml, line 3: tragets: unknown key; did you mean `targets`?"],
    }


def test_a_site_without_a_file_gets_the_name_that_was_probably_meant(app: Flask) -> None:
    told = ask(app, site="nort-yard").get_json()
    assert (told["file"], told["policy"], told["in_force"], told["faults"]) == (None, None, "none", [])
    assert told["remarks"] == ['the server has no policy with site = "nort-yard"; did you mean `north-yard`?']
    assert ask(app, site="pier").get_json()["remarks"] == ['the server has no policy with site = "pier"']


def test_a_camera_without_a_table_of_its_own_is_told_the_one_that_was_probably_meant(
    app: Flask, tmp_path: Path
) -> None:
    write(tmp_path, f'site = "north-yard"\n[cameras.gaet.sectors.road]\n{SECTOR}')
    judged = "this camera is judged on its whole view by the site's rules"
    assert ask(app).get_json()["remarks"] == [
        f"north-yard.toml has no [cameras.gate]: {judged}; did you mean [cameras.gaet]?"
    ]
    assert ask(app, camera="pier").get_json()["remarks"] == [
        f"north-yard.toml has no [cameras.pier]: {judged}; it has [cameras.gaet]"
    ]
    assert ask(app, camera="gaet").get_json()["remarks"] == []


def test_a_target_that_no_model_knows_is_told_for_this_camera_only(app: Flask, tmp_path: Path) -> None:
    write(tmp_path, f'site = "north-yard"\n[cameras.gate]\ntargets = ["animal"]\n[cameras.dock.sectors.a]\n{SECTOR}')
    assert ask(app).get_json()["remarks"] == [
        "north-yard.toml: gate/view: `animal` is never decided: no model that votes can see it"
    ]
    assert ask(app, camera="dock").get_json()["remarks"] == []


def test_names_that_look_alike_and_a_clock_that_nobody_set_are_told(app: Flask, tmp_path: Path) -> None:
    schedule = '[[schedule]]\nname = "night"\nbetween = ["22:00", "06:00"]\n'
    sectors = f"[cameras.gate.sectors.road_1]\n{SECTOR}[cameras.gate.sectors.road-1]\n{SECTOR}"
    write(tmp_path, f'site = "north-yard"\n{schedule}{sectors}')
    alike, clock = ask(app).get_json()["remarks"]
    assert "[cameras.gate.sectors.road_1] and [cameras.gate.sectors.road-1]" in alike
    assert "`night` goes by UTC: set `timezone`" in clock


def test_while_the_models_load_nothing_is_said_about_them(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    write(tmp_path, 'site = "north-yard"\ntargets = ["animal"]\n')
    told = ask(app)
    assert (told.status_code, told.get_json()["remarks"]) == (200, [])
    runtime_of(app).store.close()


def test_the_camera_itself_and_readers_of_its_site_may_ask(app: Flask) -> None:
    def token(site: str, camera: str | None) -> str:
        made = new_token()
        runtime_of(app).store.add_token(made.id, "-", site, camera, made.hash)
        return made.token

    may = [token("north-yard", "gate"), token("north-yard", None), token("*", None)]
    may_not = [token("north-yard", "dock"), token("dock", "gate"), token("dock", None)]
    assert [ask(app, token=each).status_code for each in may] == [200, 200, 200]
    assert [ask(app, token=each).status_code for each in may_not] == [403, 403, 403]
    assert ask(app).status_code == 401
