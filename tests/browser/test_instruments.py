"""The instruments of the tests in a browser notice what they are for, and the server under test really answers."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import browsing as module
from tests.browser.accessibility import check_accessible
from tests.browser.browsing import Browsing, screenshot

HEAD = "<!doctype html><html lang=en><title>A page</title><main><h1>A page</h1>"
PAGES = {
    "/good": f"{HEAD}<p>Nobody, 22:00 to 06:00.</p><img src=/picture alt='The gate'></main>",
    "/script": f"{HEAD}<script src=/script.js></script>",
    "/inline": f"{HEAD}<script>document.title = 'no'</script>",
    "/styled": f"{HEAD}<p style='color: red'>no</p>",
    "/lost": f"{HEAD}<img src=/nowhere alt=''>",
    "/abroad": f"{HEAD}<img src=http://elsewhere.example/ alt=''>",
    "/unnamed": f"{HEAD}<img src=/picture></main>",
    "/pale": f"{HEAD}<p class=pale>hardly to be read</p><link rel=stylesheet href=/style.css></main>",
    "/style.css": ".pale { color: #ccc; background: #fff }",
    "/picture": "<svg xmlns='http://www.w3.org/2000/svg' width='8' height='8'/>",
    "/warns": f"{HEAD}<script src=/warns.js></script>",
    "/script.js": "missing.call();",
    "/warns.js": "console.warn('old');",
}
TYPES = {"js": "text/javascript", "css": "text/css", "picture": "image/svg+xml"}
POLICY = "default-src 'self'"


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        text = PAGES.get(self.path)
        is_icon = self.path == "/favicon.ico"  # Chromium asks for it now and then
        self.send_response(200 if text else 204 if is_icon else 404)
        self.send_header("Content-Type", next((t for end, t in TYPES.items() if self.path.endswith(end)), "text/html"))
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, *_given: object) -> None:
        pass


@pytest.fixture(scope="module")
def small_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def small(chromium: Browser, small_server: str) -> Iterator[Browsing]:
    browsing = Browsing(chromium, small_server)
    yield browsing
    browsing.close()


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("/script", "uncaught error: missing is not defined"),
        ("/warns", "console warning: old"),
        ("/inline", "Content Security Policy"),
        ("/styled", "Content Security Policy"),
        ("/lost", "status of 404"),
        ("/abroad", "request to another host: http://elsewhere.example/"),
    ],
)
def test_what_goes_wrong_in_a_page_is_noticed(path: str, fault: str, small: Browsing) -> None:
    page = small.page(user=None)
    with small.watch.expecting(page, fault):
        page.goto(path)


def test_a_page_where_all_is_well_has_no_fault_with_and_without_java_script(small: Browsing) -> None:
    for java_script in (True, False):
        page = small.page("phone", user=None, java_script=java_script)
        page.goto("/good")
        assert page.get_by_role("heading", name="A page").is_visible()
    small.close()
    assert small.watch.faults == []


def test_a_page_that_is_refused_a_script_is_noticed_without_java_script_too(small: Browsing) -> None:
    page = small.page(user=None, java_script=False)
    with small.watch.expecting(page, "Content Security Policy"):
        page.goto("/styled")


@pytest.mark.parametrize(("path", "rule"), [("/unnamed", "image-alt"), ("/pale", "color-contrast")])
def test_what_bars_people_from_a_page_is_found_while_its_policy_of_content_is_in_force(
    path: str, rule: str, small: Browsing
) -> None:
    page = small.page(user=None)
    page.goto(path)
    with pytest.raises(AssertionError, match=rule):
        check_accessible(page)


def test_a_page_that_everybody_can_use_passes(small: Browsing) -> None:
    page = small.page(user=None)
    page.goto("/good")
    check_accessible(page)
    small.close()
    assert small.watch.faults == []


def test_a_picture_of_a_page_is_left_among_the_artefacts(
    small: Browsing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(module.VARIABLE, str(tmp_path / "new"))
    page = small.page("phone", user=None)
    page.goto("/good")
    assert screenshot(page, "good") == tmp_path / "new" / "good.png"
    assert (tmp_path / "new" / "good.png").read_bytes().startswith(b"\x89PNG")


def test_the_server_answers_with_the_filled_day(page: Page, browsing: Browsing) -> None:
    cards = page.request.get("/v1/now").json()["sites"]
    assert {camera["camera"] for site in cards for camera in site["cameras"]} == {"gate", "shed", "view1"}
