"""Messages reach real receivers with their picture, and a receiver that fails costs no more than a wait."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from typing import cast

import pytest

from server.delivery.channel import Answered
from server.delivery.factory import make_channels
from server.delivery.notify import services
from server.delivery.notify.channel import NotSent
from server.delivery.notify.services import Message, Service, deliver, hidden, open_services
from server.delivery.sender import is_lasting
from server.domain.errors import ConfigurationError
from tests.server.delivery.notify.house import House, announcement
from tests.server.delivery.notify.receivers import HttpReceiver, http_receiver, smtp_receiver
from tests.server.web_client import jpeg

Make = Callable[..., House]
SECRET = "Pass-Word"


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What comes to the handlers of our log."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    yield lines
    logging.getLogger().removeHandler(handler)


def test_a_mail_has_the_text_the_link_and_the_kept_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    with smtp_receiver() as post:
        monkeypatch.setenv("PHONE", post.url)
        h = House(picture=True)
        h.console_url = "https://watch.example.org"
        h.restarted(None)
        came = h.came()
        picture = h.pictures[came.provenance.frame_sha256[0]] = jpeg(90)
        h.say(came)
        h.pass_(1)
    (mail,) = post.mails
    assert mail["Subject"] == "Sectorwatch north-yard"
    assert [line.lower() for line in post.recipients] == ["rcpt to:<owner@example.org>"]
    text = "".join(part.get_content() for part in mail.walk() if part.get_content_maintype() == "text")
    assert "18:12 person at gate/table (north-yard)" in text
    assert f"https://watch.example.org/events/{came.id}" in text
    (attached,) = cast("list[EmailMessage]", list(mail.iter_attachments()))
    assert attached.get_content() == picture
    assert (attached.get_filename(), attached.get_content_type()) == ("gate-20261122-181200.jpg", "image/jpeg")


def test_a_form_has_the_bytes_of_the_kept_frame(receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHONE", receiver.url(scheme="form"))
    h = House(picture=True)
    came = h.came()
    picture = h.pictures[came.provenance.frame_sha256[0]] = jpeg(40)
    h.say(came)
    h.pass_(1)
    assert receiver.posts[0].headers["Content-Type"].startswith("multipart/form-data")
    assert picture in receiver.posts[0].body
    assert b"18:12 person at gate/table (north-yard)" in receiver.posts[0].body


def test_a_message_waits_a_moment_for_its_picture(house: Make, receiver: HttpReceiver) -> None:
    h = house(picture=True)
    came = h.say(h.came())
    h.pass_(1)
    assert receiver.posts == []
    h.pictures[came.provenance.frame_sha256[0]] = jpeg(1)
    h.pass_(1)
    assert len(receiver.posts[0].json["attachments"]) == 1


def test_without_its_own_picture_a_message_goes_without(house: Make, receiver: HttpReceiver) -> None:
    h = house(picture=True)
    h.pictures["of-another-event"] = jpeg(1)
    h.say(h.came())
    h.pass_(4)
    assert receiver.posts[0].json["attachments"] == []


def test_of_the_frames_of_an_event_the_best_that_is_kept_is_attached(house: Make, receiver: HttpReceiver) -> None:
    h = house(picture=True, cooldown_s=0)
    h.pictures |= {"best": jpeg(200), "last": jpeg(10)}
    h.say(h.came(0, frames=("best", "last")))
    h.say(h.came(1, frames=("gone", "last")))
    h.pass_(3)
    best, last = (post.json["attachments"][0]["base64"] for post in receiver.posts)
    assert best != last


def test_neither_picture_nor_link_is_sent_where_nobody_wants_them(house: Make, receiver: HttpReceiver) -> None:
    h = house(link=False)
    h.console_url = "https://watch.example.org"
    h.restarted(None)
    came = h.came()
    h.pictures[came.provenance.frame_sha256[0]] = jpeg(1)
    h.say(came)
    h.pass_(1)
    assert receiver.posts[0].json["attachments"] == []
    assert receiver.posts[0].json["message"] == "18:12 person at gate/table (north-yard)"


@pytest.mark.parametrize(
    ("url", "begins"),
    [
        (f"jsn://user:{SECRET}@127.0.0.1/", "begins with jsn://"),
        (f"tgram://{SECRET}", "begins with tgram://"),
        (f"mailto://{SECRET}", "begins with mailto://"),
        (SECRET, "has no scheme, such as mailto://"),
    ],
)
def test_a_wrong_url_is_named_by_its_place_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, logged: list[str], url: str, begins: str
) -> None:
    monkeypatch.setenv("PHONE", url)
    with pytest.raises(ConfigurationError) as refused:
        open_services("phones", ["env:PHONE"])
    assert f"channel `phones`: apprise cannot use the URL in env:PHONE, which {begins}" in str(refused.value)
    assert SECRET.lower() not in (str(refused.value) + "".join(logged)).lower()


def test_a_table_of_the_settings_makes_the_channel(house: Make, receiver: HttpReceiver) -> None:
    h = house()
    (channel,) = make_channels({"phones": h.settings}, h.around)
    assert (channel.name, is_lasting(channel)) == ("phones", True)
    assert channel.test() == "a test message went to env:PHONE (json)"


def test_without_apprise_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ConfigurationError, match=r"channel `phones`: .*: install sectorwatch\[notify\]"):
        open_services("phones", ["env:PHONE"])


def test_a_receiver_that_fails_gets_the_message_later_and_once(house: Make, receiver: HttpReceiver) -> None:
    h = house()
    h.say(h.came())
    receiver.status = 503
    memory = h.channel.memory
    with pytest.raises(NotSent) as failed:
        h.pass_(1)
    assert "env:PHONE (json): " in str(failed.value)
    assert "503" in str(failed.value)
    receiver.status = 200
    h.restarted(memory)
    h.pass_(5)
    assert receiver.lines == ["18:12 person at gate/table (north-yard)"]


def test_no_secret_is_in_the_log_or_in_what_is_raised(
    house: Make, receiver: HttpReceiver, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHONE", receiver.url(path=f"{SECRET}/token-of-a-phone", more=f"?-key={SECRET}"))
    h = house()
    h.say(h.came())
    receiver.status = 400
    with pytest.raises(NotSent) as failed:
        h.pass_(1)
    text = str(failed.value) + "".join(logged)
    assert SECRET not in text
    assert "token-of-a-phone" not in text


def test_what_apprise_logs_elsewhere_is_printed_nowhere(house: Make, capsys: pytest.CaptureFixture[str]) -> None:
    house()
    logging.getLogger("apprise").error("json://user:%s@127.0.0.1", SECRET)
    assert SECRET not in "".join(capsys.readouterr())


def test_a_service_that_fails_does_not_delay_the_others(
    receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http_receiver() as other:
        monkeypatch.setenv("TABLET", other.url())
        h = House(urls=["env:PHONE", "env:TABLET"], cooldown_s=0)
        receiver.status = 500
        h.say(h.came(0))
        h.say(h.came(1))
        h.pass_(3)
        assert (len(receiver.posts), len(other.posts)) == (0, 2)
        receiver.status = 200
        h.pass_(10)
        assert receiver.lines == other.lines
        assert len(other.posts) == 2


def test_where_all_services_fail_the_channel_does(receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with http_receiver() as other:
        monkeypatch.setenv("TABLET", other.url())
        h = House(urls=["env:PHONE", "env:TABLET"])
        receiver.status = other.status = 500
        h.say(h.came())
        with pytest.raises(NotSent, match=r"env:PHONE .*; env:TABLET "):
            h.pass_(1)


def test_what_could_not_be_sent_in_time_is_in_a_digest(house: Make, receiver: HttpReceiver) -> None:
    h = house(max_age_s=600)
    came = h.say(h.came())
    receiver.status = 503
    memory = h.channel.memory
    with pytest.raises(NotSent):
        h.pass_(1)
    receiver.status = 200
    h.clock.advance(700)
    h.restarted(memory)
    h.pass_(400, 5)
    assert receiver.lines == ["1 known late at 18:12: gate/table person 1 (north-yard)"]
    h.say(came, "withdrawn")
    h.pass_(20)
    assert len(receiver.posts) == 1, "it was never told as such"


def test_a_receiver_that_hangs_is_left_alone_and_gets_the_message_once(receiver: HttpReceiver) -> None:
    (service,) = open_services("phones", ["env:PHONE"])
    message = Message("Sectorwatch", "18:12 person at gate/table (north-yard)")
    receiver.opens.clear()
    cause = deliver({service: message}, 0, within_s=0.05)[service]
    assert cause == "no answer within 15 s"
    another = deliver({service: Message("Sectorwatch", "another")}, 0, within_s=0.05)[service]
    assert another == cause, "nothing else is begun while it hangs"
    receiver.opens.set()
    assert deliver({service: message}, 0) == {service: None}
    assert [post.line for post in receiver.posts] == [message.text]
    assert "sectorwatch-message" not in [thread.name for thread in threading.enumerate()]


def test_no_thread_is_left_behind(house: Make, receiver: HttpReceiver) -> None:
    before = set(threading.enumerate())
    h = house()
    h.say(h.came())
    h.pass_(1)
    left = [t.name for t in set(threading.enumerate()) - before if "process_request" not in t.name]
    assert (len(receiver.posts), left) == (1, [])


@pytest.mark.parametrize("more", ["?retry=3&wait=0", "?optional=yes"])
def test_the_url_decides_neither_when_it_is_tried_again_nor_what_counts_as_sent(
    house: Make, receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    tried: list[int] = []
    monkeypatch.setenv("PHONE", receiver.url(more=more))
    h = house()
    receiver.taken = lambda body: tried.append(len(body)) or 503  # type: ignore[method-assign, func-returns-value]
    h.say(h.came())
    with pytest.raises(NotSent):
        h.pass_(1)
    assert len(tried) == 1


def test_a_url_cannot_make_us_wait_for_long(receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHONE", receiver.url(more="?rto=300&cto=300"))
    (service,) = open_services("phones", ["env:PHONE"])
    connect_s, read_s = next(service._apprise.find()).request_timeout
    assert connect_s + read_s < services.WITHIN_S


def test_a_message_that_is_refused_with_its_picture_goes_without(house: Make, receiver: HttpReceiver) -> None:
    h = house(picture=True)
    came = h.came()
    h.pictures[came.provenance.frame_sha256[0]] = jpeg(1)
    h.say(came)
    receiver.most_bytes = 400
    for _ in range(3):
        with pytest.raises(NotSent):
            h.pass_(1)
        h.channel.begin(h.channel.memory)
    h.pass_(1)
    assert receiver.posts[0].json["attachments"] == []


def test_a_test_message_reaches_all_and_says_where_it_went(house: Make, receiver: HttpReceiver) -> None:
    h = house()
    assert h.channel.test() == "a test message went to env:PHONE (json)"
    assert receiver.lines == ["test message of the channel phones, Sectorwatch 1.2.3"]
    receiver.status = 401
    with pytest.raises(NotSent, match=r"env:PHONE \(json\): .*401"):
        h.channel.test()


def test_what_a_person_asks_for_again_goes_at_once_whatever_the_hour(house: Make, receiver: HttpReceiver) -> None:
    h = house(quiet=["18:00-19:00"])
    came = h.say(h.came())
    memory = h.channel.memory
    h.channel.send_again(announcement(1, came))
    assert receiver.lines == ["18:12 person at gate/table (north-yard)"]
    assert h.channel.memory == memory
    receiver.status = 500
    with pytest.raises(Answered):
        h.channel.send_again(announcement(1, came))


def test_no_part_of_a_url_is_left_in_a_text() -> None:
    url = "tgram://123456:AbC-dEf_ghi/chat%20id?x=y"
    assert hidden("could not send to 123456:AbC-dEf_ghi in chat id, chat%20id", url).count("AbC") == 0
    assert hidden("error=503 of tgram", url) == "error=503 of tgram"


def test_a_service_shows_its_place_and_kind_alone(receiver: HttpReceiver) -> None:
    assert str(Service("env:PHONE", receiver.url())) == "env:PHONE (json)"
