"""Open pages: they share their live parts, and thirty of them on a real server hold no thread and no memory."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient

from server.app import runtime_of
from tests.server.console.signed_in import add_user, browser, csrf_token
from tests.server.console.test_day import visit
from tests.server.launched import Running
from tests.server.web.test_cameras import heartbeat
from tests.server.web_client import NOW_US, BrightnessEnsemble, envelope, jpeg, make_app
from tests.stand_ins import ManualClock

PAGES, ROUNDS = 30, 8
THREADS = 4
AGENT = "Agent 0.1.0"
DAY = "/day/2027-01-14?site=north-yard"


@pytest.fixture
def app(tmp_path: Path, cheap_passwords: None) -> Flask:
    """Its clock stands still. `anna` and `bert` read all, `nora` and `yara` a site each."""
    app = make_app(tmp_path, BrightnessEnsemble())
    visit(app.test_client(), "18:12")
    for name, site in (("anna", "*"), ("bert", "*"), ("nora", "north-yard"), ("yara", "south-yard")):
        add_user(app, name, {site: "viewer"})
    return app


def part(client: FlaskClient, path: str = "/now", heard: int | str = "") -> str:
    """What an open page gets that has heard of the news up to this number."""
    headers = {"HX-Request": "true"} | ({"Last-Event-ID": str(heard)} if heard else {})
    answer = client.get(path, headers=headers)
    assert answer.status_code == 200
    return answer.text


def beat(app: Flask) -> None:
    """The agent says something: no news, but pages show it when they are built anew."""
    assert app.test_client().post("/v1/heartbeats", json=heartbeat()).status_code == 204


def test_a_live_part_is_what_stands_in_the_page_and_has_nothing_of_its_viewer(app: Flask) -> None:
    anna = browser(app, "anna")
    for path, begin in (("/now", '<div id="now"'), (DAY, '<div id="day"')):
        whole, live = anna.get(path).text, part(anna, path)
        assert begin in live
        assert live.strip() in whole
        for other in ("<header", "<html", "anna", "csrf"):
            assert other in whole
            assert other not in live
        assert anna.get(path, headers={"HX-Request": "true"}).headers["Cache-Control"] == "no-store"


def test_a_part_with_other_filters_is_another_one(app: Flask) -> None:
    anna = browser(app, "anna")
    assert "18:12" in part(anna, DAY)
    assert "18:12" not in part(anna, f"{DAY}&camera=shed")


def test_viewers_with_the_same_roles_share_a_part(app: Flask) -> None:
    anna, bert = browser(app, "anna"), browser(app, "bert")
    assert AGENT not in part(anna)
    beat(app)
    assert AGENT not in part(bert)
    assert AGENT in bert.get("/now").text


def test_viewers_with_other_roles_share_nothing(app: Flask) -> None:
    anna, nora, yara = (browser(app, name) for name in ("anna", "nora", "yara"))
    assert "north-yard" in part(anna)
    beat(app)
    assert AGENT in part(nora)
    assert "north-yard" not in part(yara)
    assert "north-yard" in part(anna, DAY)
    assert yara.get(DAY, headers={"HX-Request": "true"}).status_code == 404


def test_roles_that_have_changed_count_at_once(app: Flask) -> None:
    anna, bert = browser(app, "anna"), browser(app, "bert")
    assert "north-yard" in part(anna)
    runtime_of(app).store.users.set_roles("bert", {"south-yard": "viewer"})
    assert "north-yard" not in part(bert)


def test_a_session_that_has_ended_gets_no_part(app: Flask) -> None:
    anna, bert = browser(app, "anna"), browser(app, "bert")
    part(anna)
    runtime_of(app).store.users.sign_out("bert")
    answer = bert.get("/now", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Redirect"], answer.data) == (401, "/sign-in", b"")


def test_a_page_that_has_heard_of_news_gets_a_part_that_has_them(app: Flask) -> None:
    anna, bert = browser(app, "anna"), browser(app, "bert")
    before = part(anna, DAY)
    visit(app.test_client(), "19:30")
    newest = anna.get("/v1/live").json["last"]
    assert part(bert, DAY) == before
    assert "19:30" in part(bert, DAY, newest)
    assert "19:30" in part(anna, DAY)


def test_a_part_of_two_seconds_ago_is_not_given(tmp_path: Path) -> None:
    clock = ManualClock(NOW_US)
    app = make_app(tmp_path, BrightnessEnsemble(), clock=clock)
    client = app.test_client()
    part(client)
    beat(app)
    assert AGENT not in part(client)
    clock.advance(2)
    assert AGENT in part(client)


def test_what_somebody_changes_is_seen_in_the_next_part(app: Flask) -> None:
    add_user(app, "olga", {"*": "operator"})
    anna, olga = browser(app, "anna"), browser(app, "olga")
    event = runtime_of(app).store.events()[0].event
    part(anna)
    beat(app)
    form = {"csrf_token": csrf_token(olga, "/now"), "truth": "true"}
    assert AGENT not in part(anna)
    assert olga.post(f"/events/{event.id}/truth", data=form).status_code == 303
    assert AGENT in part(anna)


@contextmanager
def connection(port: int) -> Iterator[http.client.HTTPConnection]:
    """A connection that stays open between requests, as a browser keeps it."""
    opened = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        yield opened
    finally:
        opened.close()


def asked(page: http.client.HTTPConnection, after: str) -> tuple[str, int]:
    """The number that a page has got to, and how many news it was told."""
    page.request("GET", "/live", headers={"Last-Event-ID": after} if after else {})
    answer = page.getresponse()
    text = answer.read().decode()
    assert answer.status == 200
    return text.strip().rpartition("id: ")[2], text.count("data: ")


def sent(server: Running, port: int, number: int) -> int:
    """Upload a burst in which somebody comes or goes."""
    frames = [jpeg(240 if number % 2 else 20, (64 + 2 * number, 48 + 2 * each)) for each in range(8)]
    burst = envelope(frames, burst_id=f"0197-burst-{number:04}", captured_at=f"2027-01-15T07:{10 + number}:00.000Z")
    parts: list[tuple[str, tuple[str, str | bytes, str]]] = [
        ("burst", ("burst.json", json.dumps(burst), "application/json"))
    ]
    parts += [("file", (f"{each}.jpg", frame, "image/jpeg")) for each, frame in enumerate(frames)]
    server.say("\n")  # the ensemble answers
    return requests.post(f"http://127.0.0.1:{port}/v1/bursts", files=parts, timeout=120).status_code


@pytest.mark.usefixtures("own_folder")
def test_thirty_open_pages_hold_no_thread_and_no_memory_while_bursts_arrive(
    tmp_path: Path, running: list[Running]
) -> None:
    server = Running(["tests.server.hosted", str(tmp_path), json.dumps({"threads": THREADS})])
    running.append(server)
    port = int(server.line(r"port (\d+)")[1])
    told, sizes = [0] * PAGES, list[int]()
    with ExitStack() as stack:
        pages = [stack.enter_context(connection(port)) for _ in range(PAGES)]
        after = [asked(page, "")[0] for page in pages]
        for number in range(ROUNDS):
            assert sent(server, port, number) == 201
            for index, page in enumerate(pages):
                after[index], news = asked(page, after[index])
                told[index] += news
            family = [*psutil.Process(server.process.pid).children(recursive=True), psutil.Process(server.process.pid)]
            sizes.append(sum(each.memory_info().rss for each in family))
    assert len(set(after)) == 1
    assert min(told) == max(told) > 0
    assert sizes[-1] - sizes[1] < 8_000_000
