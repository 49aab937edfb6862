"""What a browser sees where there is no page, and what it sees once."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask

from server.app import runtime_of
from server.console.words import with_code
from server.pipeline.site_policies import Sites
from tests.server.console.signed_in import add_user, browser
from tests.server.web_client import SITE, BrightnessEnsemble, make_app

pytestmark = pytest.mark.usefixtures("cheap_passwords")

HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    """An application with the user anna."""
    app = make_app(tmp_path, BrightnessEnsemble())
    add_user(app)
    return app


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/nothing/", 404), ("POST", "/now", 405)],
)
def test_where_there_is_no_page_a_browser_gets_one_that_says_so(
    app: Flask, method: str, path: str, status: int
) -> None:
    client = browser(app)
    answer = client.open(path, method=method, headers=HTML)
    if answer.status_code == 308:
        answer = client.get(answer.location, headers=HTML)
    assert (answer.status_code, answer.mimetype) == (status, "text/html")
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert "Sign out" in answer.text
    nobody = app.test_client().open(path, method=method, headers=HTML, follow_redirects=True)
    assert (nobody.status_code, nobody.mimetype) == (status, "text/html")
    assert "Sign out" not in nobody.text
    assert status != 405 or "GET" in answer.headers["Allow"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/nothing", {}, 404),
        ("/nothing", {"Accept": "*/*"}, 404),
        ("/now/", {"Accept": "application/json"}, 404),
        ("/v1/nothing", HTML, 404),
        ("/v2/nothing", HTML, 404),
        ("/models/nothing", HTML, 404),
        ("/classify", HTML, 405),
        ("/batch", HTML, 405),
    ],
)
def test_a_program_still_gets_a_problem_document(app: Flask, path: str, headers: dict[str, str], status: int) -> None:
    answer = app.test_client().get(path, headers=headers)
    assert (answer.status_code, "json" in answer.mimetype) == (status, True)


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/now/", "/now"),
        ("/now//?site=north-yard", "/now?site=north-yard"),
        ("/sign-in/", "/sign-in"),
        ("/day/2026-01-01/", "/day/2026-01-01"),
    ],
)
def test_a_slash_too_many_leads_to_the_page(app: Flask, path: str, there: str) -> None:
    client = browser(app)
    answer = client.get(path, headers=HTML)
    while answer.status_code == 308 and answer.location != there:
        answer = client.get(answer.location.removeprefix("http://localhost"), headers=HTML)
    assert (answer.status_code, answer.location) == (308, there)


@pytest.mark.parametrize("path", ["//now/", "///now//", "/\\\\evil.test/", "//evil.test/%2F.."])
def test_a_slash_too_many_leads_nobody_away(app: Flask, path: str) -> None:
    answer = app.test_client().get("/", headers=HTML, environ_overrides={"PATH_INFO": path})
    there = (answer.location or "/").removeprefix("http://localhost")
    assert there.startswith("/")
    assert not there.startswith(("//", "/\\"))


def test_a_page_that_cannot_be_shown_keeps_the_ways_to_the_others(app: Flask) -> None:
    client = browser(app)
    for path in ("/events/" + "0" * 32, "/now?site=nowhere&more=1", "/tune/nowhere/gate/road"):
        answer = client.get(path)
        assert answer.status_code in (400, 404), path
        assert 'href="/sectors"' in answer.text
        assert "Sign out" in answer.text


def test_a_note_waits_for_a_page_that_a_person_looks_at(app: Flask) -> None:
    client = browser(app)
    with client.session_transaction() as kept:
        kept["_flashes"] = [("message", "saved; see `sectorwatch audit`")]
    assert "saved" not in client.get("/now", headers={"HX-Request": "true"}).text
    assert "saved; see <code>sectorwatch audit</code>" in client.get("/now").text
    assert "saved" not in client.get("/now").text


def test_what_stands_between_backticks_is_code_and_nothing_is_html() -> None:
    assert with_code("`a <b>` and <i>, `one") == "<code>a &lt;b&gt;</code> and &lt;i&gt;, `one"


def test_a_command_in_the_hint_of_why_is_code(app: Flask) -> None:
    assert "On the Pi, <code>camera-agent doctor</code> says why." in browser(app).get("/why").text


def test_a_site_whose_file_goes_meanwhile_leaves_the_list_of_sectors_to_the_others(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    (runtime_of(app).settings.sites_dir / "north-yard.toml").write_text(f"{SITE}[cameras.gate]\n")
    monkeypatch.setattr(Sites, "sites", lambda _self: ("gone", "north-yard"))
    answer = browser(app).get("/sectors")
    assert answer.status_code == 200
    assert 'href="/sectors/north-yard/gate"' in answer.text
