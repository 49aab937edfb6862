"""`/live`: which pages have something new to show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.server.console.signed_in import add_user, browser
from tests.server.console.test_day import send, visit
from tests.server.web_client import BrightnessEnsemble, make_app


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    return make_app(tmp_path, BrightnessEnsemble()).test_client()


def last_of(answer: TestResponse) -> str:
    return answer.text.strip().rpartition("id: ")[2]


def told(answer: TestResponse) -> list[dict[str, object]]:
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def test_a_feed_ends_at_once_and_the_browser_asks_again_from_where_it_ended(client: FlaskClient) -> None:
    begin = client.get("/live")
    assert begin.mimetype == "text/event-stream"
    assert begin.headers["Content-Length"] == str(len(begin.data))
    assert begin.text == "retry: 3000\n\nid: 0\n\n"
    visit(client, "18:12")
    after = client.get("/live", headers={"Last-Event-ID": last_of(begin)})
    news = told(after)
    assert {"entered", "left"} <= {each["kind"] for each in news}
    assert {(each["site"], each["camera"], each["day"]) for each in news} == {("north-yard", "gate", "2027-01-14")}
    assert told(client.get("/live", headers={"Last-Event-ID": last_of(after)})) == []
    assert told(client.get("/live")) == []


def test_its_json_is_the_same(client: FlaskClient) -> None:
    visit(client, "18:12")
    feed: Any = client.get("/v1/live?after=0").json
    assert feed["events"] == told(client.get("/live?after=0"))
    assert feed["last"] == max(each["seq"] for each in feed["events"])


def test_news_name_every_day_of_a_visit_that_lasts_over_midnight(client: FlaskClient) -> None:
    send(client, "2027-01-14T23:59:50", [20] * 4 + [240] * 16 + [20] * 16)
    days = {each["kind"]: (each["day"], each["until_day"]) for each in told(client.get("/live?after=0"))}
    assert days["entered"] == ("2027-01-14", "2027-01-14")
    assert days["presence_ended"] == ("2027-01-14", "2027-01-15")


def test_a_page_names_the_number_after_which_its_news_begin(client: FlaskClient) -> None:
    visit(client, "18:12")
    last = client.get("/v1/live").json["last"]
    assert last > 0
    for page in ("/now", "/day/2027-01-14"):
        shown = client.get(page).text
        assert f'data-after="{last}"' in shown
        assert client.get(f"/v1{page}").json["last"] == last
        assert " data-every=" in shown


def test_who_reads_another_site_does_not_learn_that_something_happened(tmp_path: Path) -> None:
    app = make_app(tmp_path, BrightnessEnsemble())
    here = app.test_client()
    visit(here, "18:12")
    add_user(app, "yara", {"south-yard": "viewer"})
    add_user(app, "nora", {"north-yard": "viewer"})
    yara, nora = browser(app, "yara"), browser(app, "nora")
    assert (last_of(yara.get("/live")), 'data-after="0"' in yara.get("/now").text) == ("0", True)
    assert last_of(yara.get("/live?after=3")) == "3"
    seen = last_of(nora.get("/live"))
    assert int(seen) > 0
    assert told(nora.get(f"/live?after={seen}")) == []


def test_a_number_from_a_log_that_was_longer_starts_anew(client: FlaskClient) -> None:
    visit(client, "18:12")
    again = client.get("/live", headers={"Last-Event-ID": "99999"})
    assert told(again) == []
    assert int(last_of(again)) < 100


def test_a_number_that_is_none_is_ignored(client: FlaskClient) -> None:
    for wrong in ("x", "-1", "9" * 30, ""):
        assert client.get("/live", headers={"Last-Event-ID": wrong}).status_code == 200
    assert client.get("/live?after=-1").status_code == 400
