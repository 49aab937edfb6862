"""`/channels`: who answers for every site sees how the channels stand, and changes it; nobody else does either."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from server.app import create_app, runtime_of
from server.delivery.channel import Undeliverable
from server.delivery.dispatcher import Dispatcher
from server.domain.announcements import Outgoing
from server.settings import ServerSettings
from server.settings.channels import WebhookSettings
from server.store import Store
from tests.server.channel_stand_in import Hooks, stand_in
from tests.server.console.scene import console
from tests.server.console.signed_in import add_user, browser, csrf_token
from tests.stand_ins import ManualClock, RecordingChannel, ScriptedEnsemble

pytestmark = pytest.mark.usefixtures("cheap_passwords")


class Refuses(RecordingChannel):
    def send(self, outgoing: Outgoing) -> None:
        if outgoing.seq < 3:
            raise Undeliverable("410 <b>gone</b>")
        super().send(outgoing)


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Hooks:
    return stand_in(monkeypatch)


@pytest.fixture
def app(tmp_path: Path, walked_yard: Path, hooks: Hooks) -> Iterator[Flask]:
    """A server whose channel `phone` has two dead letters. `anna` is operator of every site."""
    with console(tmp_path / "data", like=walked_yard) as (plain, yard):
        clock = ManualClock(yard.clock())
        settings = ServerSettings(
            data_dir=tmp_path / "data", channels={"phone": WebhookSettings(url="https://example.org/in")}
        )
        app = create_app(settings, ensemble=ScriptedEnsemble([]), channels=[], clock=clock)
        store = runtime_of(app).store
        Dispatcher(store, [Refuses("phone")]).drain_once()
        add_user(app)
        yield app
        store.close()
        assert plain is not app


@pytest.fixture
def anna(app: Flask) -> FlaskClient:
    return browser(app)


def store_of(app: Flask) -> Store:
    return runtime_of(app).store


def press(client: FlaskClient, path: str, **form: str) -> TestResponse:
    """The page after a button."""
    token = csrf_token(client, "/channels")
    return client.post(f"/channels/{path}", data={"csrf_token": token, **form}, follow_redirects=True)


def test_the_page_and_its_twin_show_the_channels_and_the_letters_newest_first(app: Flask, anna: FlaskClient) -> None:
    page = anna.get("/channels").text
    assert "410 &lt;b&gt;gone&lt;/b&gt;" in page
    told = anna.get("/v1/channels").json
    assert told is not None
    assert [(each["name"], each["kind"], each["state"]) for each in told["channels"]] == [
        ("log", "log", "new"),
        ("phone", "webhook", "sending"),
    ]
    assert told["channels"][1]["dead_letters"] == 2
    assert [each["number"] for each in told["letters"]] == [2, 1]
    event = told["letters"][0]["event"]
    assert f'href="/events/{event}"' in page
    assert anna.get(f"/events/{event}").status_code == 200
    assert anna.get("/v1/channels?channel=log").json["letters"] == []  # type: ignore[index]
    assert [each["number"] for each in anna.get("/v1/channels?before=2").json["letters"]] == [1]  # type: ignore[index]
    assert anna.get("/channels?channel=fone").status_code == 404


def test_a_channel_is_paused_and_resumed_by_button_with_a_line_of_the_audit(app: Flask, anna: FlaskClient) -> None:
    page = press(anna, "phone/pause").text
    assert "Channel <code>phone</code> is paused." in page
    assert "Paused since" in page
    store_of(app).notices.add("refused", "e" * 64, ["a"], "differs")
    assert "without what waits" in anna.get("/channels").text
    assert "sends from now on" in press(anna, "phone/resume", from_now="yes").text
    assert anna.get("/v1/channels").json["channels"][1]["backlog"] == 0  # type: ignore[index]
    lines = [(line.author, line.what, line.subject) for line in store_of(app).audit.page(limit=2)]
    assert lines == [("anna", "channel_resumed", "phone"), ("anna", "channel_paused", "phone")]


def test_letters_are_sent_again_and_deleted_one_by_one_or_all(app: Flask, anna: FlaskClient) -> None:
    assert "1 of <code>phone</code> will be sent again" in press(anna, "phone/resend", number="1").text
    assert "to be sent again" in anna.get("/channels").text
    channel = RecordingChannel("phone")
    Dispatcher(store_of(app), [channel]).drain_once()
    assert [each.seq for each in channel.sent] == [1]
    assert "1 of <code>phone</code> will be sent again" in press(anna, "phone/resend").text
    assert "1 of <code>phone</code> deleted" in press(anna, "phone/drop", number="2").text
    assert "None: everything was delivered, or waits." in anna.get("/channels").text
    assert press(anna, "phone/drop", number="2").status_code == 404
    assert press(anna, "phone/drop", number="x").status_code == 400
    assert press(anna, "fone/drop").status_code == 404
    whats = [line.what for line in store_of(app).audit.page(limit=3)]
    assert whats == ["letters_dropped", "channel_resent", "channel_resent"]


def test_a_test_says_what_was_sent_or_why_not(anna: FlaskClient, hooks: Hooks) -> None:
    assert "A test went to phone." in press(anna, "phone/test").text
    hooks.refuses = ConnectionError("connection refused")
    page = press(anna, "phone/test")
    assert page.status_code == 200
    assert "did not take the test: ConnectionError: connection refused" in page.text
    assert hooks.tests == ["phone"]


def test_a_failing_channel_says_why_and_can_be_tried_at_once(app: Flask, anna: FlaskClient) -> None:
    store_of(app).notices.add("refused", "e" * 64, ["a"], "differs")
    fails = RecordingChannel("phone")
    fails.fail_next = 1
    dispatcher = Dispatcher(store_of(app), [fails])
    dispatcher.drain_once()
    assert "ConnectionError: the channel is down" in anna.get("/channels").text
    assert "sends again" in press(anna, "phone/resume").text
    assert dispatcher.drain_once() == 1


def test_a_channel_is_forgotten_by_button_once_it_is_paused(app: Flask, anna: FlaskClient) -> None:
    assert "Not forgotten" in press(anna, "phone/forget").text
    assert press(anna, "fone/forget").status_code == 404
    press(anna, "phone/pause")
    assert "Forget phone" in anna.get("/channels").text
    assert "Channel <code>phone</code> is forgotten" in press(anna, "phone/forget").text
    store = runtime_of(app).store
    assert "phone" not in {state.name for state in store.channel_states()}
    assert store.letters.page("phone") == []


def test_who_reads_every_site_looks_and_does_not_change(app: Flask) -> None:
    add_user(app, "vera", {"*": "viewer"})
    vera = browser(app, "vera")
    page = vera.get("/channels")
    assert page.status_code == 200
    assert 'action="/channels/' not in page.text
    token = csrf_token(vera, "/channels")
    for path in ("pause", "resume", "test", "resend", "drop", "forget"):
        assert vera.post(f"/channels/phone/{path}", data={"csrf_token": token}).status_code == 403
    assert len(store_of(app).letters.page()) == 2


def test_who_reads_one_site_learns_nothing_of_the_channels(app: Flask) -> None:
    for name, role in (("otto", "operator"), ("vic", "viewer")):
        add_user(app, name, {"yard": role})  # type: ignore[dict-item]
        client = browser(app, name)
        assert client.get("/channels").status_code == 403
        assert client.get("/v1/channels").status_code == 403
        assert "/channels" not in client.get("/now").text
    assert "/channels" in browser(app).get("/now").text
