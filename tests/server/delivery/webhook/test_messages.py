"""A request holds an event in the one schema, as it is or as a CloudEvent, under an id of what it says now."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest

from policies.events import instant
from server.app import create_app, runtime_of
from server.delivery.factory import make_channels
from server.delivery.webhook.messages import cloud_attributes, message_id
from server.domain.announcements import Announcement, Notice, NoticeGiven
from server.settings import ServerSettings, load_settings
from tests.server import new_sqlite
from tests.server.delivery.webhook.parts import announced, channel, settings, surroundings
from tests.server.delivery.webhook.receiver import Answer, Received, Receiver
from tests.server.scenes import START_US
from tests.server.web_client import NOW_US, SITE, BrightnessEnsemble, body, envelope, jpeg
from tests.stand_ins import ManualClock

NOTICE = NoticeGiven(3, Notice(1, 3, START_US, "serves", "e" * 64, ("eye",), "loaded at start"))


def wire(announcement: Announcement) -> Any:
    return msgspec.json.decode(msgspec.json.encode(announcement.logged.as_wire()))


def withdrawn(announcement: Announcement, seq: int) -> Announcement:
    logged = replace(announcement.logged, seq=seq, withdrawn_at_us=START_US)
    return Announcement(seq, "withdrawn", logged)


def test_an_event_is_sent_as_it_is(receiver: Receiver) -> None:
    channel(receiver.url, method="PUT", headers={"X-Room": "12"}).send(announced())
    (request,) = receiver.received
    assert request.json == wire(announced())
    assert (request.method, request.path) == ("PUT", "/in")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == "Sectorwatch/0"
    assert request.headers["x-room"] == "12"


def test_a_cloud_event_has_the_attributes_of_version_1_0(receiver: Receiver) -> None:
    channel(receiver.url, body="cloudevents").send(announced())
    (request,) = receiver.received
    assert request.headers["content-type"] == "application/cloudevents+json; charset=UTF-8"
    assert request.json == {
        "specversion": "1.0",
        "id": f"{announced().logged.event.id}-1",
        "source": "/sectorwatch/yard/gate",
        "type": "sectorwatch.entered",
        "subject": "view",
        "time": "2026-11-22T06:59:51Z",
        "datacontenttype": "application/json",
        "data": wire(announced()),
    }


def test_the_binary_mode_has_the_same_attributes_as_headers(receiver: Receiver) -> None:
    channel(receiver.url, body="cloudevents-binary").send(announced(sector="Hof süd 100%"))
    (request,) = receiver.received
    sent = {name[3:]: value for name, value in request.headers.items() if name.startswith("ce-")}
    assert sent["subject"] == "Hof%20s%C3%BCd%20100%25"
    assert {name: unquote(value) for name, value in sent.items()} == cloud_attributes(announced(sector="Hof süd 100%"))
    assert request.headers["content-type"] == "application/json"
    assert request.json == wire(announced(sector="Hof süd 100%"))


def test_the_subject_is_the_place() -> None:
    assert [cloud_attributes(announced(kind))["subject"] for kind in ("moved", "crossed")] == ["east", "middle"]


def test_an_end_has_its_own_instant() -> None:
    assert cloud_attributes(announced("presence_ended"))["time"] == "2026-11-22T07:00:00Z"


def test_what_is_withdrawn_or_corrected_is_nothing_new() -> None:
    """A consumer that chooses by type takes no withdrawal for a new event, and one that knows ids takes it once."""
    event = announced()
    again = replace(event, what="corrected", seq=4, logged=replace(event.logged, seq=4))
    gone = withdrawn(event, 9)
    assert [cloud_attributes(each)["type"] for each in (event, again, gone)] == [
        "sectorwatch.entered",
        "sectorwatch.entered.corrected",
        "sectorwatch.entered.withdrawn",
    ]
    assert len({message_id(each) for each in (event, again, gone)}) == 3
    assert message_id(gone) == message_id(replace(gone, seq=1)), "the same content, whatever is announced"
    assert "." not in message_id(event)


def test_notices_are_sent_unless_the_owner_wants_none(receiver: Receiver) -> None:
    channel(receiver.url, body="cloudevents", sites=["elsewhere"]).send(NOTICE)
    channel(receiver.url, notices=False).send(NOTICE)
    (request,) = receiver.received
    assert request.json["type"] == "sectorwatch.notice.serves"
    assert request.json["source"] == "/sectorwatch"
    assert request.json["id"] == request.json["data"]["id"] == NOTICE.notice.id


def test_only_what_the_channel_is_for_is_sent(receiver: Receiver) -> None:
    hook = channel(receiver.url, sites=["yard"], targets=["person"], events=["entered"])
    hook.send(announced("left"))
    hook.send(announced(site="elsewhere"))
    hook.send(announced(label="car"))
    hook.send(announced())
    assert len(receiver.received) == 1


@pytest.mark.parametrize("body", ["event", "cloudevents", "cloudevents-binary"])
def test_a_test_message_is_an_event_of_the_kind_test(receiver: Receiver, body: str) -> None:
    receiver.say = lambda _: Answer(202)
    said = channel(receiver.url, ManualClock(START_US), body=body, sites=["north"], events=["left"]).test()
    (request,) = receiver.received
    data = request.json.get("data", request.json)
    assert (data["kind"], data["site"], data["confirmed_at"]) == ("test", "north", "2026-11-22T07:00:00Z")
    assert data.keys() == wire(announced()).keys()
    assert said == f"{receiver.url.removesuffix('/in')} answers HTTP 202 to the test message {receiver.ids[0]}"


def test_a_template_may_use_these_names(receiver: Receiver) -> None:
    text = '{"a": [{{ what|tojson }}, {{ line|tojson }}, {{ link|tojson }}, {{ message_id|tojson }}]}'
    hook = channel(receiver.url, console_url="https://watch.example.org", body="template", template=text)
    gone = withdrawn(announced(), 9)
    hook.send(gone)
    hook.send(NOTICE)
    first, second = (each.json["a"] for each in receiver.received)
    number = gone.logged.event.id
    assert first[0] == "withdrawn"
    assert "entered yard/gate person view" in first[1]
    assert "said=withdrawn" in first[1]
    assert first[2:] == [f"https://watch.example.org/events/{number}", f"{number}-9"]
    assert second[0] == "notice"
    assert second[2:] == ["", NOTICE.notice.id]


def test_an_address_with_user_and_password_is_a_basic_login(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", receiver.url.replace("://", "://me:h%40sh@"))
    channel("env:HOOK").send(announced())
    assert receiver.received[0].headers["authorization"] == "Basic bWU6aEBzaA=="


def test_secrets_in_files_beside_the_settings_become_address_and_headers(
    receiver: Receiver, tmp_path: Path, own_folder: None
) -> None:
    for name, text in {"hook.url": receiver.url, "hook.token": "Bearer x"}.items():
        (tmp_path / name).write_text(f"{text}\n", encoding="utf-8")
    (tmp_path / "server.toml").write_text(
        '[channels.hook]\nkind = "webhook"\nurl = "file:hook.url"\nallow_private = true\n'
        'headers = { Authorization = "file:hook.token" }\n',
        encoding="utf-8",
    )
    tables = load_settings(tmp_path / "server.toml").channels
    (hook,) = make_channels(tables, surroundings(ManualClock(START_US)))
    hook.send(announced())
    assert receiver.received[0].headers["authorization"] == "Bearer x"


def test_a_server_with_the_table_sends_what_a_burst_brings(receiver: Receiver, tmp_path: Path) -> None:
    new_sqlite.provide(tmp_path / "sectorwatch.sqlite")
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "north-yard.toml").write_text(SITE, encoding="utf-8")
    tables = {"hook": settings(receiver.url)}
    app = create_app(
        ServerSettings(data_dir=tmp_path, channels=tables), ensemble=BrightnessEnsemble(), clock=lambda: NOW_US
    )
    runtime, came = runtime_of(app), threading.Event()

    def say(_: Received) -> Answer:
        came.set()
        return Answer()

    receiver.say = say
    runtime.store.add_channel("hook")
    runtime.start(on_failure=pytest.fail)
    try:
        frames = [jpeg(grey) for grey in (250, 251, 252, 253)]
        answer = app.test_client().post("/v1/bursts", data=body(envelope(frames), frames))
        assert answer.status_code == 201, answer.text
        assert came.wait(30)
    finally:
        runtime.stop()
    assert receiver.received[0].json == answer.json["events"][0]


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ({"body": "template"}, "needs either `template` or `template_file`"),
        ({"body": "template", "template": "x", "template_file": "y"}, "needs either `template` or `template_file`"),
        ({"template": "x"}, 'a template is used with `body = "template"` only'),
        ({"headers": {"Webhook-Id": "x"}}, "Sectorwatch writes `Webhook-Id` itself"),
        ({"headers": {"content-type": "x"}}, "Sectorwatch writes `content-type` itself"),
        ({"headers": {"a b": "x"}}, "matching regex"),
        ({"timeout_s": 21}, "<= 20"),
        ({"secrets": ["hush"]}, "matching regex"),
        ({"content_type": "a\nb"}, "matching regex"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(table: dict[str, Any], what: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=what):
        settings("https://example.org/", **table)


def test_an_event_is_of_the_present(receiver: Receiver) -> None:
    clock = ManualClock(START_US)
    hook = channel(receiver.url, clock)
    clock.advance(90)
    hook.send(announced())
    assert receiver.received[0].headers["webhook-timestamp"] == str(int(instant(START_US + 90_000_000).timestamp()))
