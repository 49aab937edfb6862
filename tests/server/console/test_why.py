"""The page Why: any minute of any camera, with the sentence of `sectorwatch explain`, its pictures and its record."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from flask import Flask
from flask.testing import FlaskClient

from policies.events import microseconds
from server.__main__ import command
from server.app import runtime_of
from server.domain.keeping import Keep
from tests.server.console.scene import console
from tests.server.console.signed_in import add_user, browser, csrf_token
from tests.server.scenes import Yard, across, burst
from tests.stand_ins import ManualClock

MINUTE = "/why?site=yard&camera=gate&at=2026-11-22T08:00"


@pytest.fixture
def made(tmp_path: Path, walked_yard: Path) -> Iterator[tuple[Flask, Yard]]:
    with console(tmp_path, like=walked_yard) as made:
        yield made


@pytest.fixture
def client(made: tuple[Flask, Yard]) -> FlaskClient:
    return made[0].test_client()


def test_the_sentence_is_that_of_the_command(made: tuple[Flask, Yard], client: FlaskClient) -> None:
    store = runtime_of(made[0]).store
    for at in ("2026-11-22T08:00", "2026-11-22T07:58", "2026-11-22T08:05"):
        said = CliRunner().invoke(command, ["explain", "--at", at, "--database", store.name]).stdout.splitlines()[0]
        page = client.get("/v1/why", query_string={"camera": "gate", "at": at}).json
        assert page["minute"]["sentence"] == said


def test_a_minute_shows_its_pictures_its_events_and_its_votes(client: FlaskClient) -> None:
    shown = client.get(MINUTE)
    assert shown.status_code == 200
    assert shown.text.count("<img ") == 52
    assert "person entered west" in shown.text
    assert "eye for 0.90" in shown.text
    assert "occupied" in shown.text
    assert 'href="/why?site=yard&amp;camera=gate&amp;at=2026-11-22T07%3A59%3A00%2B01%3A00"' in shown.text
    assert " style=" not in shown.text


def test_a_time_of_day_is_the_last_such_time_in_the_zone_of_the_site(client: FlaskClient) -> None:
    page = client.get("/v1/why?camera=gate&at=08:00").json
    assert page["minute"]["at_local"] == "2026-11-22 08:00:00"
    assert page["minute"]["since"] == "2026-11-22T07:00:00Z"
    assert page["minute"]["zone"] == "Europe/Oslo"


SECOND_PASS_S = -(28 * 86_400 + 5.5 * 3600)
"""From the scene's beginning to 2026-10-25 02:30 in Oslo's winter time, half an hour after clocks went back to 2."""


def test_links_and_fields_name_the_right_one_of_the_hour_that_comes_twice(tmp_path: Path) -> None:
    with console(tmp_path, until_s=0) as (app, yard):
        for number in range(6):
            yard.pipeline.process(yard.walk(number, lambda t: across(t - SECOND_PASS_S), SECOND_PASS_S + number * 2))
        client, store = app.test_client(), runtime_of(app).store
        event = store.begun(limit=1)[0].event
        page = client.get(f"/events/{event.id}").text
        links = re.findall(r'<a href="([^"]*)"[^>]*>(?:The|the) minute</a>', page)
        assert links
        for link in links:
            minute = client.get(link.replace("&amp;", "&")).text
            assert f"/events/{event.id}" in minute
            [typed] = re.findall(r'<input name="at" value="([^"]*)" placeholder', minute)
            again = client.get("/why", query_string={"site": "yard", "camera": "gate", "at": typed})
            assert f"/events/{event.id}" in again.text
        [at] = re.findall(r'<label>When <input name="at" value="([^"]*)"', page)
        fields = {"site": "yard", "camera": "gate", "fact": "entered|west", "at": at}
        done = client.post("/missed", data=fields | {"csrf_token": csrf_token(client, f"/events/{event.id}")})
        assert done.status_code == 303
        [kept] = store.annotations.all()
        assert 0 <= microseconds(event.at) - kept.at_us < 1_000_000


def test_without_a_time_there_is_a_form_and_with_a_wrong_one_the_forms_of_times(client: FlaskClient) -> None:
    assert "Choose a camera and a time." in client.get("/why").text
    assert "Write a time as 90s" in client.get("/why?camera=gate&at=soon").text
    unknown = client.get("/why?camera=gaet&at=08:00")
    assert unknown.status_code == 404
    assert "yard/gate" in unknown.text


def test_a_minute_that_is_no_longer_kept_says_so(made: tuple[Flask, Yard], client: FlaskClient) -> None:
    app, yard = made
    yard.clock.advance(20 * 86_400)
    yard.pipeline.process(yard.walk(900, lambda _t: None, 20 * 86_400))
    runtime_of(app).store.retention.sweep(lambda _site: Keep(observations_days=1, events_days=1))
    shown = client.get(MINUTE).text
    assert "its bursts of 08:00:00-08:00:25 are no longer kept." in shown
    assert "<img " not in shown


def test_a_minute_to_come_has_no_next_one(client: FlaskClient) -> None:
    page = client.get("/v1/why?camera=gate&at=2026-11-23T08:00").json
    assert page["minute"]["sentence"] == "08:00 is still to come."
    assert page["minute"]["later"] is None


def test_more_than_sixty_pictures_come_in_parts(tmp_path: Path) -> None:
    with console(tmp_path, until_s=0) as (app, yard):
        for number in range(10):
            images = [yard.picture(at_s=number * 5 + i * 0.5) for i in range(10)]
            yard.pipeline.process(burst(number, images, number * 5))
        client = app.test_client()
        first, second = (client.get(f"/v1/why?camera=gate&at=08:00&part={part}").json["minute"] for part in (1, 2))
        assert (len(first["frames"]), len(second["frames"]), first["parts"]) == (60, 40, 2)
        assert {each["sha256"] for each in first["frames"]}.isdisjoint(each["sha256"] for each in second["frames"])


def test_other_sites_are_not_there(made: tuple[Flask, Yard]) -> None:
    app = made[0]
    add_user(app, "otto", {"elsewhere": "operator"})
    client = browser(app, "otto")
    assert client.get(MINUTE).status_code == 404
    for address in ("/why", "/why?camera=gate&at=08:00"):
        assert "yard" not in client.get(address).text
    assert "gate" not in client.get("/why").text


def test_the_clock_of_the_page_is_that_of_the_server(made: tuple[Flask, Yard], client: FlaskClient) -> None:
    clock = made[1].clock
    assert isinstance(clock, ManualClock)
    clock.advance(86_400)
    page = client.get("/v1/why?camera=gate&at=08:00").json
    assert page["minute"]["at_local"] == "2026-11-23 08:00:00"
