"""Signing in and out, as a browser sees it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from server.app import runtime_of
from server.domain.errors import DatabaseUnavailable
from server.store.people.attempts import Addresses
from tests.documentation import ROOT
from tests.server.console.signed_in import PASSWORD, add_user, browser, csrf_token, sign_in
from tests.server.web_client import BrightnessEnsemble, make_app

pytestmark = pytest.mark.usefixtures("cheap_passwords")


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    """An application with the user anna."""
    app = make_app(tmp_path, BrightnessEnsemble())
    add_user(app)
    return app


def test_who_is_not_signed_in_is_asked_to_and_then_comes_where_he_wanted(app: Flask) -> None:
    client = app.test_client()
    asked = client.get("/now?site=north-yard")
    assert (asked.status_code, asked.location) == (303, "/sign-in?next=%2Fnow%3Fsite%3Dnorth-yard")
    assert 'value="/now?site=north-yard"' in client.get(asked.location).text
    done = sign_in(client, "anna", then="/now?site=north-yard")
    assert (done.status_code, done.location) == (303, "/now?site=north-yard")
    assert client.get("/now").status_code == 200
    assert "anna" in client.get("/now").text


@pytest.mark.parametrize(("name", "password"), [("anna", "wrong password"), ("nobody", PASSWORD)])
def test_a_wrong_name_or_password_is_refused_with_the_same_words(app: Flask, name: str, password: str) -> None:
    client = app.test_client()
    refused = sign_in(client, name, password)
    assert refused.status_code == 401
    assert "the name or the password is wrong" in refused.text
    assert password not in refused.text
    assert client.get("/now").status_code == 303


def test_after_five_wrong_passwords_even_the_right_one_has_to_wait(app: Flask) -> None:
    client = app.test_client()
    for _ in range(5):
        sign_in(client, "anna", "wrong password")
    refused = sign_in(client, "anna")
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "10"
    assert "wait 10 s" in refused.text


@pytest.mark.parametrize(
    ("proxy", "others"), [("127.0.0.1", 401), ("172.18.0.2", 429), ("9.9.9.9", 429)], ids=["here", "inside", "none"]
)
def test_browsers_behind_a_proxy_on_this_machine_have_rates_of_their_own(app: Flask, proxy: str, others: int) -> None:
    client = app.test_client()
    token = csrf_token(client, "/sign-in")

    def attempt(name: str, forwarded: str) -> int:
        form = {"name": name, "password": "wrong password", "csrf_token": token}
        more = {"REMOTE_ADDR": proxy, "HTTP_X_FORWARDED_FOR": forwarded}
        return client.post("/sign-in", data=form, environ_overrides=more).status_code

    statuses = [attempt(f"name{number}", f"8.8.8.{number}, 8.8.4.4") for number in range(21)]
    assert statuses == [401] * 20 + [429]
    assert attempt("name", "8.8.4.4, 1.1.1.1") == others


@pytest.mark.parametrize(
    "then",
    [
        "https://evil.test/",
        "//evil.test/",
        "/\\evil.test",
        "\\\\evil.test",
        "javascript:alert(1)",
        "evil",
        "",
        "http://[",
    ],
)
def test_after_signing_in_nobody_is_led_away(app: Flask, then: str) -> None:
    client = app.test_client()
    assert "evil" not in client.get("/sign-in", query_string={"next": then}).text
    done = sign_in(client, "anna", then=then)
    assert (done.status_code, done.location) == (303, "/")


@pytest.mark.parametrize("how", ["signs out", "is removed", "gets another password", "is signed out"])
def test_a_session_ends_with_the_next_request(app: Flask, how: str) -> None:
    client, users = browser(app), runtime_of(app).store.users
    if how == "signs out":
        assert client.post("/sign-out", data={"csrf_token": csrf_token(client)}).status_code == 303
    elif how == "is removed":
        users.remove("anna")
    elif how == "gets another password":
        users.set_password("anna", "another password")
    else:
        users.sign_out("anna")
    assert client.get("/now").status_code == 303
    assert client.get("/v1/now").status_code == 401


def test_a_cookie_that_was_copied_is_worth_nothing_after_signing_out(app: Flask) -> None:
    client = browser(app)
    kept = client.get_cookie("sectorwatch")
    assert kept is not None
    client.post("/sign-out", data={"csrf_token": csrf_token(client)})
    thief = app.test_client()
    thief.set_cookie("sectorwatch", kept.value)
    assert thief.get("/now").status_code == 303


def test_a_sign_in_changes_the_token_of_forms(app: Flask) -> None:
    client = app.test_client()
    before = csrf_token(client, "/sign-in")
    sign_in(client, "anna")
    assert client.post("/sign-out", data={"csrf_token": before}).status_code == 400


@pytest.mark.parametrize(("headers", "is_secure"), [({}, False), ({"X-Forwarded-Proto": "https"}, True)])
def test_the_cookie_is_for_our_own_pages_alone_and_for_https_where_there_is_any(
    app: Flask, headers: dict[str, str], is_secure: bool
) -> None:
    client = app.test_client()
    token = csrf_token(client, "/sign-in")
    form = {"name": "anna", "password": PASSWORD, "csrf_token": token}
    cookies = client.post("/sign-in", data=form, headers=headers).headers.getlist("Set-Cookie")
    cookie, device = sorted(cookies)
    words = [word.strip() for word in cookie.split(";")]
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(words)
    assert ("Secure" in words) == is_secure
    words = [word.strip() for word in device.split(";")]
    assert {"HttpOnly", "SameSite=Lax", "Path=/sign-in"} <= set(words)
    assert ("Secure" in words) == is_secure


def test_two_servers_of_one_database_take_each_others_cookies(app: Flask, tmp_path: Path) -> None:
    cookie = browser(app).get_cookie("sectorwatch")
    assert cookie is not None
    other = make_app(tmp_path, BrightnessEnsemble()).test_client()
    other.set_cookie("sectorwatch", cookie.value)
    assert other.get("/now").status_code == 200


def test_only_what_a_person_asks_for_is_use_of_a_session(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    client, users = browser(app), runtime_of(app).store.users
    asked: list[bool] = []
    session = users.session

    def noted(secret: str, *, is_use: bool = True) -> object:
        asked.append(is_use)
        return session(secret, is_use=is_use)

    monkeypatch.setattr(users, "session", noted)
    page = {"Accept": "text/html,application/xhtml+xml"}
    for path, headers in (
        ("/now", page),
        ("/now", page | {"HX-Request": "true"}),
        ("/live", {"Accept": "text/event-stream"}),
        ("/v1/now", {"Accept": "*/*"}),
    ):
        assert client.get(path, headers=headers).status_code == 200
    assert asked == [True, False, False, False]


@pytest.mark.parametrize("path", ["/now", "/sign-in", "/ensemble"])
def test_a_page_says_that_the_database_does_not_answer_to_who_is_signed_in(
    app: Flask, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    client = browser(app)

    def silent(*_given: object, **_named: object) -> None:
        raise DatabaseUnavailable("the database does not answer (gone); nothing was changed")

    store = runtime_of(app).store
    for part, name in ((store.users, "session"), (store.users, "has_users"), (store.users, "signing_key")):
        monkeypatch.setattr(part, name, silent)
    app.secret_key = None if path == "/sign-in" else app.secret_key
    answer = client.get(path, headers={"Accept": "text/html"})
    assert answer.status_code == 503
    assert "The database does not answer" in answer.text
    assert int(answer.headers["Retry-After"]) > 0


def test_a_stranger_who_guesses_keeps_nobody_out_of_the_browser_that_he_uses(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Addresses, "begin", lambda _self, _address: None)
    own, other = browser(app), browser(app)
    users = runtime_of(app).store.users
    users.add("bert", PASSWORD, {"*": "viewer"})
    for name in ("anna", "bert"):
        for _ in range(5):
            sign_in(app.test_client(), name, "wrong password")
        assert sign_in(app.test_client(), name).status_code == 429
    assert sign_in(own, "anna").status_code == 303
    assert sign_in(app.test_client(), "anna").status_code == 429
    assert sign_in(own, "bert").status_code == 429
    for _ in range(5):
        assert sign_in(other, "anna", "wrong password").status_code == 401
    assert sign_in(other, "anna").status_code == 429
    cookie = own.get_cookie("sectorwatch_device", path="/sign-in")
    assert cookie is not None
    forger = app.test_client()
    forger.set_cookie("sectorwatch_device", cookie.value[:-3], path="/sign-in")
    assert sign_in(forger, "anna").status_code == 429


@pytest.mark.parametrize(
    ("peer", "forwarded", "noted"),
    [
        ("172.18.0.2", "8.8.8.8", "172.18.0.2"),
        ("192.168.1.9", "8.8.8.8", "192.168.1.9"),
        ("::ffff:192.168.1.9", "", "192.168.1.9"),
        ("127.0.0.1", "1.1.1.1, 8.8.8.8", "8.8.8.8"),
        ("127.0.0.1", "::ffff:8.8.8.8", "8.8.8.8"),
        ("127.0.0.1", "2001:DB8:0::1%<b>x\t", "2001:db8::1"),
        ("127.0.0.1", "<b>not an address", "127.0.0.1"),
        ("::1", "8.8.8.8\tand more", "::1"),
    ],
)
def test_the_audit_has_the_address_of_the_browser_as_a_proxy_on_this_machine_names_it(
    app: Flask, peer: str, forwarded: str, noted: str
) -> None:
    client = app.test_client()
    form = {"name": "anna", "password": "wrong password", "csrf_token": csrf_token(client, "/sign-in")}
    more = {"REMOTE_ADDR": peer, "HTTP_X_FORWARDED_FOR": forwarded}
    assert client.post("/sign-in", data=form, environ_overrides=more).status_code == 401
    assert runtime_of(app).store.audit.page()[0].detail == f"from {noted}"


@pytest.mark.parametrize("name", [" anna", "anna ", "Anna", "ANNA\t"])
def test_a_name_is_the_same_as_a_phone_s_keyboard_writes_it(app: Flask, name: str) -> None:
    assert sign_in(app.test_client(), name).status_code == 303


def test_signing_in_again_ends_the_session_of_before(app: Flask) -> None:
    client = browser(app)
    before = client.get_cookie("sectorwatch")
    assert before is not None
    assert sign_in(client, "anna").status_code == 303
    assert client.get("/now").status_code == 200
    thief = app.test_client()
    thief.set_cookie("sectorwatch", before.value)
    assert thief.get("/now").status_code == 303


def test_after_signing_out_the_browser_forgets_the_pages(app: Flask) -> None:
    client = browser(app)
    answer = client.post("/sign-out", data={"csrf_token": csrf_token(client)})
    assert '"cache"' in answer.headers["Clear-Site-Data"]


@pytest.mark.parametrize("headers", [{}, {"Referer": "https://yard.test:8443/sign-in"}])
def test_a_form_needs_no_referrer_behind_a_proxy_on_another_port(app: Flask, headers: dict[str, str]) -> None:
    client = app.test_client()
    at: dict[str, Any] = {"base_url": "https://yard.test"}
    found = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/sign-in", **at).text)
    assert found is not None
    form = {"name": "anna", "password": PASSWORD, "csrf_token": found[1]}
    assert client.post("/sign-in", data=form, headers=headers, **at).status_code == 303


def test_the_shipped_proxy_passes_the_port_of_the_address() -> None:
    site = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    assert re.search(r"proxy_set_header +Host +\$http_host;", site)


def test_a_browser_that_keeps_no_cookies_is_told_so(app: Flask) -> None:
    token = csrf_token(app.test_client(), "/sign-in")
    form = {"name": "anna", "password": PASSWORD, "csrf_token": token}
    answer = app.test_client().post("/sign-in", data=form)
    assert answer.status_code == 400
    assert "Allow cookies" in answer.text
    stale = browser(app).post("/sign-out", data={"csrf_token": token})
    assert "has ended" in stale.text


def test_whoever_asks_for_the_head_of_a_page_is_asked_to_sign_in_too(app: Flask) -> None:
    answer = app.test_client().head("/now")
    assert (answer.status_code, answer.location) == (303, "/sign-in?next=%2Fnow")
