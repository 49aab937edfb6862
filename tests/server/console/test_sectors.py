"""The page of sectors: what is drawn, tried on the day before, saved as a version, put in force and taken back."""

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

import server.console
from policies.site.site_policy import parse_site_policy
from server.app import create_app, runtime_of
from server.console.sectors.preview import counts_of
from server.domain.pictures.kept_frames import Picture
from server.settings import ServerSettings
from server.store import open_store
from tests.policies.stories import events_of, policy, walk
from tests.server import new_sqlite
from tests.server.console.signed_in import add_user, browser, csrf_token
from tests.server.scenes import START_US, Yard, across
from tests.server.web_client import jpeg
from tests.stand_ins import ManualClock

CSS = Path(server.console.__file__).parent / "static/console.css"
DAY_US = 86_400_000_000
TEXT = """# The yard behind the shop.
site = "yard"

[cameras.gate.sectors.west]    # where people sit
polygon = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]

[cameras.gate.lines.middle]
a = [0.5, 0]
b = [0.5, 1]
directions = ["eastward", "westward"]

[[cameras.gate.suppress]]
name = "lamp <b>"
box = [0.4, 0.2, 0.44, 0.35]
"""
PAGE = "/sectors/yard/gate"
FAR = {"sectors": {"west": [[0, 0], [0.1, 0], [0.1, 0.5], [0, 0.5]]}}
"""The sector where nobody walks."""


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    """A server on the day after somebody walked across the yard."""
    new_sqlite.provide(tmp_path / "sectorwatch.sqlite")
    clock = ManualClock(START_US + 3_600_000_000)
    with closing(open_store(f"sqlite:///{tmp_path}/sectorwatch.sqlite", clock)) as store:
        yard = Yard(tmp_path / "sites", store, clock, TEXT)
        for each in yard.walked(across, 26):
            yard.pipeline.process(each)
    app = create_app(
        ServerSettings(data_dir=tmp_path), ensemble=yard.ensemble, channels=[], clock=lambda: START_US + DAY_US
    )
    yield app
    runtime_of(app).replays.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    add_user(app)
    return browser(app)


def send(client: FlaskClient, what: str, **form: Any) -> Any:
    return client.post(f"{PAGE}/{what}", data={"csrf_token": csrf_token(client, PAGE), **form})


def tried(client: FlaskClient, **form: Any) -> str:
    """The preview, once nothing more comes."""
    for _ in range(60):
        shown = send(client, "preview", **form).text
        if "hx-trigger" not in shown:
            return shown
    raise AssertionError(shown)


def seen(client: FlaskClient) -> str:
    return str(client.get(f"/v1{PAGE}").json["fingerprint"])


def test_the_page_shows_the_shapes_of_the_file_over_the_newest_picture(app: Flask, client: FlaskClient) -> None:
    frame = jpeg(90)
    runtime_of(app).store.frames.keep([Picture("yard", "gate", START_US, "ab" * 32, frame, 0.4)])
    shown = client.get(PAGE).text
    assert f'src="/v1/frames/{"ab" * 32}"' in shown
    assert 'points="0,0 500,0 500,1000 0,1000"' in shown
    assert "<b>eastward</b> comes from the left" in shown
    assert "# where people sit" in shown
    assert "lamp &lt;b&gt;" in shown
    assert "lamp <b>" not in shown
    assert "style=" not in shown
    twin = client.get(f"/v1{PAGE}").json
    assert [each["name"] for each in twin["shapes"]["sectors"]] == ["west"]
    assert twin["shapes"]["lines"][0]["directions"] == ["eastward", "westward"]
    assert (twin["file"], twin["in_force"], twin["text"]) == ("yard.toml", "file", TEXT)


def test_without_a_kept_picture_the_page_is_a_plain_field_and_says_how_to_keep_some(client: FlaskClient) -> None:
    shown = client.get(PAGE).text
    assert 'class="picture editor plain"' in shown
    assert "keep_frames" in shown


def test_a_drawn_change_is_tried_saved_put_in_force_and_taken_back(
    app: Flask, client: FlaskClient, tmp_path: Path
) -> None:
    file = tmp_path / "sites/yard.toml"
    drawing = {"shapes": json.dumps(FAR), "text": TEXT.replace("\n", "\r\n"), "seen": seen(client)}
    shown = tried(client, **drawing)
    assert "Sunday 22 November 2026: 1 visit or crossing instead of 2" in shown
    assert "<td>west</td><td>person</td><td>1</td><td>0</td>" in shown
    assert "<td>middle (crossed)</td><td>person</td><td>1</td><td>1</td>" in shown

    saved = send(client, "propose", **drawing, why="nobody sits there")
    assert (saved.status_code, saved.headers["Location"]) == (303, f"{PAGE}?version=1")
    assert file.read_text() == TEXT
    shown = client.get(f"{PAGE}?version=1").text
    assert "nobody sits there" in shown
    assert "+polygon = [[0.0, 0.0], [0.1, 0.0], [0.1, 0.5], [0.0, 0.5]]" in shown
    assert "Put in force" in shown

    assert send(client, "put-in-force", version=1).status_code == 303
    assert "# where people sit" in file.read_text()
    assert parse_site_policy(file.read_text()).camera("gate").by_name["west"].polygon[1] == (0.1, 0.0)
    assert "Take back" in client.get(f"{PAGE}?version=1").text
    assert send(client, "take-back", version=1).status_code == 303
    assert file.read_text() == TEXT
    lines = [(line.author, line.what) for line in runtime_of(app).store.audit.page(sites=frozenset({"yard"}))]
    assert lines == [("anna", "policy_taken_back"), ("anna", "policy_put_in_force"), ("anna", "policy_proposed")]


def test_a_renamed_sector_is_one_sector_before_and_after_and_the_page_says_what_keeps_its_name(
    client: FlaskClient,
) -> None:
    shown = tried(client, shapes=json.dumps({"renamed": {"west": "patio"}}), seen=seen(client))
    assert "2 visits and crossings instead of 2" in shown
    assert "<td>patio (was west)</td><td>person</td><td>1</td><td>1</td>" in shown
    assert "sector <code>west</code> is renamed <code>patio</code>. Events from before keep the name" in shown
    assert send(client, "propose", shapes=json.dumps({"renamed": {"west": "patio"}})).status_code == 303
    chosen = client.get(f"/v1{PAGE}?version=1").json["chosen"]
    assert chosen["renamed"] == [{"camera": "gate", "before": "west", "after": "patio"}]
    assert "is renamed" in client.get(f"{PAGE}?version=1").text


def test_the_text_alone_works_as_a_form(client: FlaskClient) -> None:
    text = TEXT.replace("[0.5, 1], [0, 1]", "[0.6, 1], [0, 1]")
    saved = send(client, "propose", text=text, seen=seen(client))
    assert saved.status_code == 303
    assert "[0.6, 1]" in client.get(f"/v1{PAGE}?version=1").json["chosen"]["text"]


def test_a_fault_is_named_at_its_sector_before_and_when_it_is_saved(client: FlaskClient) -> None:
    crossing = {"sectors": {"west": [[0, 0], [0.5, 0.5], [0.5, 0], [0, 0.5]]}}
    shown = send(client, "preview", shapes=json.dumps(crossing)).text
    assert re.search(r'data-at="sectors.west" role="alert">line 5: cameras.gate.sectors.west.polygon: .* cross', shown)
    refused = send(client, "propose", shapes=json.dumps(crossing))
    assert refused.status_code == 422
    assert "cross" in refused.text


def test_a_name_in_a_message_is_code_on_every_page_that_shows_the_message(client: FlaskClient, tmp_path: Path) -> None:
    client.get("/now")
    faulty = TEXT.replace("[0, 1]]\n", "[0, 1]]\nenlarg = true\n")
    (tmp_path / "sites/yard.toml").write_text(faulty)
    shown = [client.get(each).text for each in ("/now", PAGE, "/tune/yard/gate/west")]
    shown.append(send(client, "preview", text=f"{faulty}# again\n").text)
    assert [("`enlarge`" in each, "<code>enlarge</code>" in each) for each in shown] == [(False, True)] * 4


def test_a_text_whose_polygon_is_no_list_is_a_fault_and_no_error(client: FlaskClient) -> None:
    text = 'site = "yard"\n[cameras.gate.sectors.west]\npolygon = 5\n'
    assert 'data-at="sectors.west"' in send(client, "preview", text=text).text


@pytest.mark.parametrize("shapes", ["{", '{"sectors": {"<b>": [[0, 0]]}}'])
def test_what_is_no_drawing_is_refused_in_words(client: FlaskClient, shapes: str) -> None:
    shown = send(client, "preview", shapes=shapes).text
    assert 'class="fault"' in shown
    assert "<b>" not in shown
    assert send(client, "propose", shapes=shapes).status_code == 422


def test_a_drawing_that_would_hold_up_the_server_is_refused_before_it_is_judged(client: FlaskClient) -> None:
    many = {"sectors": {"west": [[i / 2000, (i % 2) / 2] for i in range(1500)]}}
    crowd = {"sectors": {f"s{i}": FAR["sectors"]["west"] for i in range(60)}}
    for shapes, said in (
        (many, "it has 1500 corners, and a page draws 100"),
        (crowd, "it has 61, and a page draws 50"),
    ):
        assert said in send(client, "preview", shapes=json.dumps(shapes)).text
        assert send(client, "propose", shapes=json.dumps(shapes)).status_code == 422
    long = send(client, "propose", text=TEXT + "#" * 70_000)
    assert (long.status_code, "larger than 64 kB" in long.text) == (422, True)


def test_the_page_asks_the_database_at_most_six_times(app: Flask, client: FlaskClient) -> None:
    send(client, "propose", shapes=json.dumps(FAR))
    asked: list[str] = []
    engine = runtime_of(app).store._engine
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    client.get(f"/v1{PAGE}")
    of_page = [
        each for each in asked if each.startswith("SELECT") and not re.search("FROM (users|sessions|grants)", each)
    ]
    assert len(of_page) <= 6, of_page


def test_a_change_is_refused_once_somebody_edited_the_file(client: FlaskClient, tmp_path: Path) -> None:
    drawing = {"shapes": json.dumps(FAR), "seen": seen(client)}
    (tmp_path / "sites/yard.toml").write_text(TEXT + "# more\n")
    assert "has changed since you began" in send(client, "preview", **drawing).text
    refused = send(client, "propose", **drawing)
    assert refused.status_code == 409
    assert "load the page again" in refused.text


def test_a_viewer_looks_and_changes_nothing(app: Flask, tmp_path: Path) -> None:
    add_user(app)
    add_user(app, "vera", {"yard": "viewer"})
    send(browser(app), "propose", shapes=json.dumps(FAR))
    client = browser(app, "vera")
    shown = client.get(PAGE)
    assert shown.status_code == 200
    assert "not change it" in shown.text
    assert "Save as a proposal" not in shown.text
    for what in ("preview", "propose", "put-in-force", "take-back"):
        refused = client.post(f"{PAGE}/{what}", data={"csrf_token": csrf_token(client), "version": 1})
        assert refused.status_code == 403
    assert (tmp_path / "sites/yard.toml").read_text() == TEXT


def test_an_operator_of_another_site_sees_neither_the_page_nor_a_version_of_it(app: Flask, tmp_path: Path) -> None:
    (tmp_path / "sites/shop.toml").write_text('site = "shop"\n')
    add_user(app)
    add_user(app, "otto", {"shop": "operator"})
    send(browser(app), "propose", shapes=json.dumps(FAR))
    client = browser(app, "otto")
    for address in (PAGE, f"/v1{PAGE}", f"{PAGE}/paths", "/sectors/shop/gate?version=1"):
        assert client.get(address).status_code == 404
    token = csrf_token(client)
    for address in (f"{PAGE}/put-in-force", "/sectors/shop/gate/put-in-force", "/sectors/shop/gate/take-back"):
        assert client.post(address, data={"csrf_token": token, "version": 1}).status_code == 404
    assert "yard" not in client.get("/sectors").text
    assert (tmp_path / "sites/yard.toml").read_text() == TEXT


def test_without_a_token_of_our_own_pages_nothing_is_proposed(client: FlaskClient) -> None:
    assert client.post(f"{PAGE}/propose", data={"shapes": json.dumps(FAR)}).status_code == 400


def test_the_tracks_of_the_day_before_are_shown_once_they_are_replayed(client: FlaskClient) -> None:
    for _ in range(60):
        shown = client.get(f"{PAGE}/paths").text
        if "hx-trigger" not in shown:
            break
    assert shown.count("<polyline") == 1
    assert "<polyline" in client.get(PAGE).text


def test_a_camera_that_no_file_names_and_one_that_sent_nothing_have_their_page(client: FlaskClient) -> None:
    shown = client.get("/sectors/yard/shed").text
    assert "the whole view is one" in shown
    drawing = json.dumps({"sectors": {"door": [[0, 0], [1, 0], [1, 1]]}})
    previewed = client.post(
        "/sectors/yard/shed/preview", data={"csrf_token": csrf_token(client, PAGE), "shapes": drawing}
    )
    assert "no day to try the change on" in previewed.text
    assert client.get("/sectors/yard/%3Cb%3E").status_code == 404


def test_the_index_leads_to_every_camera(client: FlaskClient) -> None:
    assert f'href="{PAGE}"' in client.get("/sectors").text
    assert client.get("/v1/sectors").json == {"cameras": [{"site": "yard", "camera": "gate", "sectors": 1}]}


def test_a_visit_counts_once_and_a_crossing_for_its_line() -> None:
    counted = counts_of(events_of(policy(), walk(across, 26)))
    assert counted == {
        ("visits", "west", "person"): 1,
        ("visits", "east", "person"): 1,
        ("crossings", "middle", "person"): 1,
    }


def test_no_selector_has_two_sets_of_rules_in_the_stylesheet() -> None:
    styles = re.sub(r"/\*.*?\*/", "", CSS.read_text(), flags=re.S)
    seen: list[str] = []
    within: list[str] = []
    for text, mark in re.findall(r"([^{}]*)([{}])", styles):
        if mark == "{":
            within.append(" ".join(text.split()))
            seen.append(" in ".join(reversed(within)))
        else:
            within.pop()
    assert "#shapes .corner" in seen
    assert [each for each in seen if seen.count(each) > 1] == []
