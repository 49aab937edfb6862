"""The pages and endpoints where sites are in the database: the whole way of a change, and what is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from policies.site.site_policy import parse_site_policy
from server import __version__
from server.app import create_app, runtime_of
from server.pipeline.site_imports import PolicyFile, import_policies
from server.settings import ServerSettings
from server.store import open_store
from tests.server import new_sqlite
from tests.server.console.signed_in import add_user, browser, csrf_token
from tests.server.console.test_sectors import DAY_US, FAR, PAGE, TEXT
from tests.server.scenes import START_US, Yard, across
from tests.server.web_client import body, envelope, jpeg
from tests.stand_ins import ManualClock

TUNE = "/tune/yard/gate/west"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    """A server on the day after somebody walked across the yard, without a folder of sites."""
    new_sqlite.provide(tmp_path / "sectorwatch.sqlite")
    clock = ManualClock(START_US + 3_600_000_000)
    with closing(open_store(f"sqlite:///{tmp_path}/sectorwatch.sqlite", clock)) as store:
        yard = Yard(tmp_path / "elsewhere", store, clock, TEXT)
        for each in yard.walked(across, 26):
            yard.pipeline.process(each)
        import_policies(store.policy_versions, [PolicyFile(Path("yard.toml"), TEXT, parse_site_policy(TEXT))], "bob")
    settings = ServerSettings(data_dir=tmp_path, sites="database")
    app = create_app(settings, ensemble=yard.ensemble, channels=[], clock=lambda: START_US + DAY_US)
    yield app
    runtime_of(app).replays.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    add_user(app)
    return browser(app)


def send(client: FlaskClient, what: str, **form: Any) -> Any:
    return client.post(f"{PAGE}/{what}", data={"csrf_token": csrf_token(client, PAGE), **form})


def in_force(app: Flask) -> tuple[int | None, str]:
    edition = runtime_of(app).sites.edition("yard")
    return edition.version, edition.text


def test_a_drawn_change_goes_the_whole_way(app: Flask, client: FlaskClient) -> None:
    twin = client.get(f"/v1{PAGE}").json
    assert (twin["file"], twin["in_force"], twin["text"]) == ("the policy of `yard`", "file", TEXT)
    saved = send(client, "propose", shapes=json.dumps(FAR), seen=twin["fingerprint"], why="nobody sits there")
    assert (saved.status_code, saved.headers["Location"]) == (303, f"{PAGE}?version=2")
    assert in_force(app) == (1, TEXT)
    shown = client.get(f"{PAGE}?version=2").text
    assert "The change in the policy of <code>yard</code>" in shown
    assert "Put in force" in shown
    assert send(client, "put-in-force", version=2).status_code == 303
    number, text = in_force(app)
    assert (number, parse_site_policy(text).camera("gate").by_name["west"].polygon[1]) == (2, (0.1, 0.0))
    assert send(client, "take-back", version=2).status_code == 303
    assert in_force(app) == (1, TEXT)
    lines = [(line.author, line.what) for line in runtime_of(app).store.audit.page(sites=frozenset({"yard"}))]
    assert lines[:3] == [("anna", "policy_taken_back"), ("anna", "policy_put_in_force"), ("anna", "policy_proposed")]


def test_whoever_comes_second_gets_a_conflict_that_names_the_first(app: Flask, client: FlaskClient) -> None:
    for text in (f"{TEXT}# one\n", f"{TEXT}# two\n"):
        send(client, "propose", text=text)
    add_user(app, "otto", {"yard": "operator"})
    assert send(browser(app, "otto"), "put-in-force", version=3).status_code == 303
    refused = send(client, "put-in-force", version=2)
    assert refused.status_code == 409
    assert "has changed since version 2 was proposed (version 3 is in force, by otto)" in refused.text
    assert "sectorwatch policy propose yard" in refused.text
    assert "make the change again from the policy as it is" in client.get(f"{PAGE}?version=2").text


def test_a_tuned_change_goes_the_whole_way(app: Flask, client: FlaskClient) -> None:
    def post(page: str, do: str, **more: str) -> str:
        seen = re.search(r'name="seen" value="([^"]*)"', page)
        number = re.search(r'name="number" value="([^"]*)"', page)
        form = {"seen": seen and seen[1], "number": number and number[1], **more}
        form = {name: value for name, value in form.items() if value}
        answer = client.post(TUNE, data={"csrf_token": csrf_token(client, TUNE), "do": do, **form})
        assert answer.status_code == 303, answer.text
        return client.get(answer.headers["Location"]).text

    changed = "scores=eye:0.6"
    page = client.get(f"{TUNE}?{changed}").text
    proposed = post(page, "propose", state=changed)
    assert "Version 2: proposed" in proposed
    assert "Version 2: in force" in post(proposed, "put_in_force")
    assert "min_score = {eye = 0.6}" in in_force(app)[1]
    assert "Version 2: taken back" in post(client.get(f"{TUNE}?version=2").text, "take_back")
    assert in_force(app) == (1, TEXT)


def test_the_page_asks_the_database_at_most_twelve_times(app: Flask, client: FlaskClient) -> None:
    asked: list[str] = []
    engine = runtime_of(app).store._engine
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    client.get(f"/v1{PAGE}")
    of_page = [
        each for each in asked if each.startswith("SELECT") and not re.search("FROM (users|sessions|grants)", each)
    ]
    assert len(of_page) <= 12, of_page


def test_an_agent_hears_which_version_is_in_force_and_what_is_missing_of_another_site(app: Flask) -> None:
    client = app.test_client()
    told = client.get("/v1/site-policy", query_string={"site": "yard", "camera": "gate"}).json
    assert (told["file"], told["in_force"], told["faults"]) == ("version 1 in the database", "file", [])
    told = client.get("/v1/site-policy", query_string={"site": "yrd", "camera": "gate"}).json
    assert (told["file"], told["in_force"]) == (None, "none")
    assert told["remarks"] == ['the server has no policy with site = "yrd"; did you mean `yard`?']


def test_a_burst_and_a_page_of_a_site_without_a_policy_name_the_command(app: Flask, client: FlaskClient) -> None:
    frames = [jpeg(90)]
    sent = app.test_client().post("/v1/bursts", data=body(envelope(frames), frames))
    assert sent.status_code == 503
    said = "unknown site `north-yard`: `sectorwatch policy import FILE` puts its policy into the database"
    assert said in sent.json["detail"]
    shown = client.get("/tune/north-yard/gate/view")
    assert (shown.status_code, "sectorwatch policy import FILE" in shown.text) == (404, True)


def test_a_policy_of_a_newer_release_is_refused_for_a_while_with_its_version_and_what_to_do(
    app: Flask, client: FlaskClient
) -> None:
    newer = f"from_next_year = 1\n{TEXT}"
    store = runtime_of(app).store
    import_policies(store.policy_versions, [PolicyFile(Path("yard.toml"), newer, parse_site_policy(TEXT))], "bob")
    frames = [jpeg(90)]
    sent = app.test_client().post("/v1/bursts", data=body(envelope(frames, site="yard"), frames))
    assert (sent.status_code, sent.headers["Retry-After"]) == (503, "60")
    assert sent.json["detail"].startswith("this server cannot judge site `yard`: version 2 in the database: line 1: ")
    assert f"upgrade this server (it is {__version__})" in sent.json["detail"]
    assert app.test_client().get("/readyz").status_code == 200, "it judges other sites"
    shown = client.get(TUNE)
    assert (shown.status_code, "upgrade this server" in shown.text) == (503, True)
    assert "upgrade this server" in client.get("/now").text


def test_a_server_notices_what_others_change_while_nothing_comes(app: Flask) -> None:
    runtime = runtime_of(app)
    runtime._look_at_sites()
    before = runtime.sites.policy("yard").digest
    version = runtime.versions.propose("yard", f"{TEXT}[presence]\nclear_s = 5\n", "ann")
    runtime.versions.put_in_force(version.number, "ann")
    assert runtime.sites.policy("yard").digest == before
    runtime._look_at_sites()
    assert runtime.sites.policy("yard").digest == version.digest
    assert not (runtime.settings.data_dir / "sites").exists()
