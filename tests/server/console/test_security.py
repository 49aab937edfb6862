"""Nobody sees or changes what is not theirs, by any route; nothing that others wrote is HTML.

The routes are those of the application itself: `tests/server/console/routes.py` says what to ask of each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from policies.events import microseconds
from server.app import runtime_of
from server.domain.pictures.kept_frames import Picture
from server.domain.records import Annotation
from server.store.people.attempts import Addresses
from server.web.auth import ANY_SITE, new_token
from tests.server.console import routes
from tests.server.console.routes import GUESSED_ID, GUESSED_SHA256, Ask, Yard, changing, readable
from tests.server.console.signed_in import add_user, browser, csrf_token
from tests.server.web.test_cameras import heartbeat
from tests.server.web_client import BrightnessEnsemble, body, envelope, jpeg, make_app

pytestmark = pytest.mark.usefixtures("cheap_passwords")

MARK = "<i>sw</i>"
VERSION = f'# a remark {MARK}\nsite = "north-yard"\n'
SHOWN_MARK = "&lt;i&gt;sw&lt;/i&gt;"


class Marked(BrightnessEnsemble):
    """One of its models has a class whose name is HTML."""

    def __init__(self) -> None:
        super().__init__()
        light, people = self.ensemble_info.models
        light = msgspec.structs.replace(light, classes=light.classes | {MARK})
        self.ensemble_info = msgspec.structs.replace(self.ensemble_info, models=(light, people))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Flask, Yard]]:
    """An application in which somebody came to the gate of north-yard; a picture is kept, and people wrote HTML.

    It has a token: without any, endpoints answer this machine, whoever asks.
    """
    folder = tmp_path_factory.mktemp("filled")
    app = make_app(folder, Marked())
    (folder / "sites" / "shed.toml").write_text(f'site = "shed"\n"{MARK}" = 1\n')
    store, client = runtime_of(app).store, app.test_client()
    frames = [jpeg(grey) for grey in (1, 2, *range(200, 212))]
    assert client.post("/v1/bursts", data=body(envelope(frames), frames)).status_code == 201
    event = store.events()[0].event
    sha256 = event.provenance.frame_sha256[0]
    image = next(frame for frame in frames if hashlib.sha256(frame).hexdigest() == sha256)
    store.frames.keep([Picture("north-yard", "gate", microseconds(event.started_at), sha256, image, 0.9)])
    where = (event.site, event.camera, event.kind, event.label, event.sector, None, None, None)
    at_us = microseconds(event.started_at)
    store.annotations.add([Annotation(0, event.id, "true", *where, at_us, 5.0, True, MARK, f"note {MARK}", 0)])
    store.notices.add("serves", "e" * 64, ["people"], f"notice {MARK}")
    beat = heartbeat(site="north-yard", camera="gate", agent={"version": MARK})
    assert client.post("/v1/heartbeats", json=beat).status_code == 204
    made = new_token()
    store.add_token(made.id, "reader", ANY_SITE, None, made.hash)
    add_user(app, "anna", {"north-yard": "operator", "shed": "viewer"})
    add_user(app, "bert", {"barn": "operator"})
    add_user(app, "carl", {"north-yard": "viewer"})
    version = runtime_of(app).versions.propose("north-yard", VERSION, "anna", f"why {MARK}", None)
    yield app, Yard(event.id, sha256, version=version.number)
    store.close()


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests sign in more often than a household does."""
    monkeypatch.setattr(Addresses, "begin", lambda _self, _address: None)


def get(client: FlaskClient, yard: Yard, rule: Any, ask: Ask, **more: Any) -> TestResponse:
    """The answer; a stream is not read to its end."""
    return client.get(yard.filled(rule.rule), query_string=yard.fields(ask), buffered=False, **more)


def text_of(answer: TestResponse) -> str:
    if answer.mimetype == "text/event-stream":
        answer.close()
        return ""
    return answer.text if answer.mimetype.startswith("text/") or "json" in answer.mimetype else ""


def test_whoever_may_read_a_site_gets_an_answer_by_every_route(filled: tuple[Flask, Yard]) -> None:
    app, yard = filled
    client = browser(app, "anna")
    for rule, ask in readable(app):
        answer = get(client, yard, rule, ask)
        wanted = (403,) if ask.is_of_server else (200, 303)
        assert answer.status_code in wanted, (rule.rule, answer.status_code, text_of(answer))
        answer.close()


def test_no_route_answers_without_a_session_or_a_token(filled: tuple[Flask, Yard]) -> None:
    app, yard = filled
    made = new_token()
    runtime_of(app).store.add_token(made.id, "reader", ANY_SITE, None, made.hash)
    for rule, ask in readable(app):
        answer = get(app.test_client(), yard, rule, ask)
        if rule.endpoint.startswith("console."):
            assert (answer.status_code, answer.location[:9]) == (303, "/sign-in?"), rule.rule
        else:
            assert answer.status_code == 401, rule.rule
        assert yard.sha256 not in text_of(answer)
        with_token = get(app.test_client(), yard, rule, ask, headers={"Authorization": f"Bearer {made.token}"})
        if not rule.endpoint.startswith("console."):
            assert with_token.status_code == 200, rule.rule
        with_token.close()


def test_a_forged_cookie_is_no_session(filled: tuple[Flask, Yard]) -> None:
    app, yard = filled
    cookie = browser(app, "anna").get_cookie("sectorwatch")
    assert cookie is not None
    payload, rest = cookie.value.split(".", 1)
    for value in ("forged", f"{payload[:-2]}AA.{rest}", f"{payload}.{rest[:-4]}AAAA", "a" * 3000):
        client = app.test_client()
        client.set_cookie("sectorwatch", value)
        for rule, ask in readable(app):
            assert get(client, yard, rule, ask).status_code in (303, 401), rule.rule


def test_before_there_is_a_token_a_twin_still_needs_a_session_once_there_are_users(tmp_path: Path) -> None:
    app = make_app(tmp_path, BrightnessEnsemble())
    twins = [rule for rule, _ask in readable(app) if rule.endpoint.startswith("console_twins.")]
    client = app.test_client()
    assert client.get("/v1/now").status_code == 200
    add_user(app)
    yard = Yard(GUESSED_ID, GUESSED_SHA256)
    assert twins
    for rule in twins:
        assert client.get(yard.filled(rule.rule)).status_code == 401, rule.rule


def test_nobody_reads_another_site_by_an_id_or_a_name(filled: tuple[Flask, Yard]) -> None:
    app, yard = filled
    client = browser(app, "bert")
    for rule, ask in readable(app):
        answer = get(client, yard, rule, ask)
        text = text_of(answer)
        if ask.is_of_site:
            assert answer.status_code in (403, 404), (rule.rule, answer.status_code)
        else:
            assert "north-yard" not in text, rule.rule
        asked = yard.sha256 if "sha256" in rule.arguments else "\0"
        for secret in (yard.sha256, f"note {MARK}", f"note {SHOWN_MARK}"):
            assert secret not in text.replace(asked, ""), (rule.rule, secret)


def test_what_another_site_has_is_answered_as_what_nobody_has(filled: tuple[Flask, Yard]) -> None:
    app, yard = filled
    client = browser(app, "bert")
    nothing = replace(yard, event_id=GUESSED_ID, sha256=GUESSED_SHA256)
    by_id = [(rule, ask) for rule, ask in readable(app) if {"event_id", "sha256"} & rule.arguments]
    assert by_id
    for rule, ask in by_id:
        of_other, of_nobody = get(client, yard, rule, ask), get(client, nothing, rule, ask)
        assert of_other.status_code == of_nobody.status_code, rule.rule
        told = text_of(of_other).replace(yard.event_id, GUESSED_ID).replace(yard.sha256, GUESSED_SHA256)
        for answer in (told, text_of(of_nobody)):
            assert "north-yard" not in answer, rule.rule


def test_pages_without_a_site_leave_out_those_that_their_reader_does_not_read(filled: tuple[Flask, Yard]) -> None:
    app, yard = filled
    client = browser(app, "bert")
    of_all = [rule for rule, ask in readable(app) if not rule.arguments and set(ask.fields) <= {"site"}]
    assert of_all
    for rule in of_all:
        answer = client.get(rule.rule, follow_redirects=True)
        for secret in ("north-yard", yard.sha256, yard.event_id, f"note {MARK}", f"note {SHOWN_MARK}"):
            assert secret not in text_of(answer), (rule.rule, secret)


def post(client: FlaskClient, yard: Yard, rule: Any, ask: Ask, token: str | None, **more: Any) -> TestResponse:
    form = yard.fields(ask) | ({} if token is None else {"csrf_token": token})
    return client.post(yard.filled(rule.rule), data=form, **more)


def test_no_action_is_done_without_the_token_of_our_own_form(filled: tuple[Flask, Yard]) -> None:
    app, yard = filled
    client, before = browser(app, "anna"), len(runtime_of(app).store.annotations.all())
    other = csrf_token(browser(app, "carl"))
    for rule, ask in changing(app):
        for token in (None, "", "forged", other):
            answer = post(client, yard, rule, ask, token)
            assert answer.status_code == 400, (rule.rule, token)
            assert "Load the page again" in answer.text
    for name, value in (("X-CSRFToken", "forged"), ("Origin", "https://evil.test")):
        for rule, ask in changing(app):
            assert post(client, yard, rule, ask, None, headers={name: value}).status_code == 400, rule.rule
    assert client.get("/now").status_code == 200
    assert len(runtime_of(app).store.annotations.all()) == before
    assert app.test_client().post("/sign-in", data={"name": "anna", "password": "x"}).status_code == 400


@pytest.mark.parametrize("who", ["bert", "carl"])
def test_no_action_is_done_for_who_may_not_change_the_site(filled: tuple[Flask, Yard], who: str) -> None:
    app, yard = filled
    client, store = browser(app, who), runtime_of(app).store
    token, before = csrf_token(client), (len(store.annotations.all()), len(store.audit.page(limit=1000)))
    for rule, ask in changing(app):
        if ask.is_of_site:
            answer = post(client, yard, rule, ask, token)
            assert answer.status_code in (403, 404), (rule.rule, answer.status_code)
            assert yard.sha256 not in answer.text
    assert (len(store.annotations.all()), len(store.audit.page(limit=1000))) == before


def test_whoever_may_change_a_site_does_so_by_every_action(filled: tuple[Flask, Yard]) -> None:
    app, yard = filled
    client = browser(app, "anna")
    for rule, ask in changing(app):
        if ask.is_of_site:
            answer = post(client, yard, rule, ask, csrf_token(client))
            assert answer.status_code in ((403,) if ask.is_of_server else (200, 303)), (rule.rule, answer.text)


def test_a_version_of_another_site_is_out_of_reach_by_its_number(filled: tuple[Flask, Yard]) -> None:
    app, _yard = filled
    client, versions = browser(app, "bert"), runtime_of(app).versions
    text = versions.file("north-yard").text.replace("site =", "# why it is so\nsite =")
    version = versions.propose("north-yard", text, "anna", "why it is so", None)
    for do in ("put_in_force", "take_back"):
        form = {"do": do, "number": str(version.number), "csrf_token": csrf_token(client)}
        assert client.post("/tune/barn/gate/view", data=form).status_code in (403, 404)
    assert versions.version(version.number).in_force_at_us is None
    for address in ("/tune/barn/gate/view", "/v1/tune/barn/gate/view"):
        answer = client.get(f"{address}?version={version.number}")
        assert answer.status_code == 404
        assert "why it is so" not in answer.text


def test_no_action_is_done_without_a_session(filled: tuple[Flask, Yard]) -> None:
    app, yard = filled
    for rule, ask in changing(app):
        if ask.is_of_site:
            client = app.test_client()
            answer = post(client, yard, rule, ask, csrf_token(client, "/sign-in"))
            assert answer.status_code == 401, rule.rule


def test_a_session_sends_nothing_to_the_api(filled: tuple[Flask, Yard]) -> None:
    app, _yard = filled
    client = browser(app, "anna")
    for path in ("/v1/bursts", "/v1/heartbeats", "/v1/annotations", "/classify", "/batch"):
        assert client.post(path).status_code in (400, 401, 403, 415), path
    assert client.post("/v1/annotations", json={}).status_code == 401


def test_nothing_that_people_wrote_is_html(filled: tuple[Flask, Yard]) -> None:
    app, yard = filled
    client, pages = browser(app, "anna"), 0
    for rule, ask in readable(app):
        answer = get(client, yard, rule, ask, follow_redirects=True)
        text = text_of(answer)
        if answer.mimetype == "text/html":
            assert MARK not in text, rule.rule
            pages += SHOWN_MARK in text
        elif MARK in text:
            assert answer.headers["Content-Type"].startswith("application/"), rule.rule
    assert pages >= 2, "the mark is on pages at all"
    faulty = client.get("/now").text
    assert SHOWN_MARK in faulty
    assert MARK not in faulty


@pytest.mark.parametrize("path", [f"/now?site={MARK}", f"/now?{MARK}=1", f"/sign-in?next=/{MARK}", f"/{MARK}"])
def test_nothing_of_an_address_is_html(filled: tuple[Flask, Yard], path: str) -> None:
    app, _yard = filled
    answer = browser(app, "anna").get(path)
    assert MARK not in answer.text or answer.mimetype != "text/html"


def test_a_name_that_cannot_sign_in_is_shown_again_as_text(filled: tuple[Flask, Yard]) -> None:
    app, _yard = filled
    client = app.test_client()
    form = {"name": f'"{MARK}', "password": "x", "csrf_token": csrf_token(client, "/sign-in")}
    answer = client.post("/sign-in", data=form)
    assert answer.status_code == 401
    assert SHOWN_MARK in answer.text
    assert MARK not in answer.text


def test_every_answer_of_the_console_forbids_what_is_not_ours(filled: tuple[Flask, Yard]) -> None:
    app, yard = filled
    signed_in, nobody = browser(app, "anna"), app.test_client()
    answers = [get(client, yard, *each) for each in readable(app) for client in (signed_in, nobody)]
    answers += [post(nobody, yard, *each, None) for each in changing(app)]
    answers += [nobody.get("/sign-in"), signed_in.get("/now?site=nowhere"), signed_in.get("/now?nothing=1")]
    for answer in answers:
        if answer.mimetype != "text/html":
            continue
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "no-cache" in answer.headers["Cache-Control"] or "no-store" in answer.headers["Cache-Control"]
        text = text_of(answer)
        for inline in (" style=", " onclick=", " onload=", "<style", "javascript:", "http://", "https://"):
            assert inline not in text, (answer.request.path, inline)
        answer.close()


@pytest.mark.parametrize("headers", [{}, {"X-Forwarded-Proto": "https"}], ids=["http", "https"])
def test_every_cookie_is_for_http_and_our_own_pages_alone(filled: tuple[Flask, Yard], headers: dict[str, str]) -> None:
    app, yard = filled
    client = browser(app, "anna")
    answers = [get(client, yard, *each, headers=headers) for each in readable(app)]
    answers.append(app.test_client().get("/sign-in", headers=headers))
    for rule, ask in changing(app):
        if rule.endpoint in ("console.undo", "console.signed_out"):  # others change the version in force
            client = browser(app, "anna")
            answers.append(post(client, yard, rule, ask, csrf_token(client), headers=headers))
    cookies = [(answer, cookie) for answer in answers for cookie in answer.headers.getlist("Set-Cookie")]
    assert {"/sign-in", "/sign-out", f"/events/{yard.event_id}/undo"} <= {each.request.path for each, _ in cookies}
    for answer, cookie in cookies:
        words = {word.strip() for word in cookie.split(";")}
        assert {"HttpOnly", "SameSite=Lax"} <= words, answer.request.path
        assert ("Secure" in words) == bool(headers), answer.request.path
    for answer in answers:
        answer.close()


def test_every_line_of_the_table_of_routes_is_a_route(filled: tuple[Flask, Yard]) -> None:
    app, _yard = filled
    endpoints = {rule.endpoint for rule in app.url_map.iter_rules()}
    assert set(routes.GETS) | set(routes.POSTS) <= endpoints
