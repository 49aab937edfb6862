"""What a receiver answers decides whether an announcement is delivered, sent again, or a dead letter."""

from __future__ import annotations

import email.utils

import pytest

from policies.events import instant
from server.delivery.channel import Answered, Later, TurnedAway, Undeliverable
from server.delivery.dispatcher import Dispatcher
from server.delivery.sender import LONGEST_PAUSE_S, TURNED_AWAY_S
from server.delivery.webhook.exchange import MOST_ANSWER_BYTES, NoAnswer
from server.domain.times.clock import SECOND_US
from tests.server.delivery.webhook.parts import announced, channel, drained, ids
from tests.server.delivery.webhook.receiver import Answer, Receiver
from tests.server.scenes import START_US, Yard
from tests.stand_ins import ManualClock


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_success_is_delivery(receiver: Receiver, status: int) -> None:
    receiver.say = lambda _: Answer(status)
    channel(receiver.url).send(announced())
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    ("status", "means"),
    [
        *((status, Undeliverable) for status in (301, 302, 304, 307, 308, 400, 409, 413, 422)),
        *((status, TurnedAway) for status in (401, 403, 404, 405, 407, 410)),
        *((status, Later) for status in (408, 425, 429, 502, 503, 504)),
        *((status, Answered) for status in (500, 501, 505, 599)),
    ],
)
def test_every_other_answer_says_what_becomes_of_the_announcement(
    receiver: Receiver, status: int, means: type[Exception]
) -> None:
    receiver.say = lambda _: Answer(status)
    with pytest.raises(means, match=f"answers HTTP {status}"):
        channel(receiver.url).send(announced())


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.say = lambda _: Answer(307, headers={"Location": "/elsewhere"})
    with pytest.raises(Undeliverable, match="redirects are not followed"):
        channel(receiver.url).send(announced())
    assert [each.path for each in receiver.received] == ["/in"]


def test_the_text_of_a_refusal_has_the_begin_of_the_answer_without_our_secrets(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_URL", receiver.url + "/T0p-Secret?key=open-sesame")
    monkeypatch.setenv("HOOK_TOKEN", "Bearer hush-hush-hush")
    receiver.say = lambda received: Answer(403, f"{received.path} {received.headers['x-key']} is\nwrong".encode() * 99)
    with pytest.raises(TurnedAway) as error:
        channel("env:HOOK_URL", headers={"X-Key": "env:HOOK_TOKEN"}).send(announced())
    assert "HTTP 403 Forbidden: *** *** is wrong" in str(error.value)
    assert not any(secret in str(error.value) for secret in ("T0p-Secret", "sesame", "hush"))
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("header", "pause_s"),
    [
        ("90", 90),
        (email.utils.format_datetime(instant(START_US + 45_000_000), usegmt=True), 45),
        (email.utils.format_datetime(instant(START_US - 45_000_000), usegmt=True), 0),
        ("-3", 0),
        ("soon", 0),
        ("9" * 400, 999_999_999),
    ],
)
def test_the_pause_that_a_receiver_asks_for_is_read_in_both_forms(
    receiver: Receiver, header: str, pause_s: float
) -> None:
    receiver.say = lambda _: Answer(503, headers={"Retry-After": header})
    with pytest.raises(Later) as error:
        channel(receiver.url, ManualClock(START_US)).send(announced())
    assert error.value.wait_s == pause_s


def test_a_pause_is_kept_within_an_hour_and_nothing_is_lost(walked_yard: Yard, receiver: Receiver) -> None:
    receiver.say = lambda _: Answer(429, headers={"Retry-After": "86400"})
    dispatcher = Dispatcher(walked_yard.store, [channel(receiver.url, walked_yard.clock)])
    for _ in range(12):
        drained(dispatcher)
        walked_yard.clock.advance(LONGEST_PAUSE_S / 12 - 1)
    assert len(receiver.received) == 1
    receiver.say = lambda _: Answer()
    walked_yard.clock.advance(13)
    drained(dispatcher)
    assert receiver.ids[1:] == ids(walked_yard.store)
    assert walked_yard.store.letters.page() == []


def test_a_proxy_without_its_receiver_behind_it_makes_no_dead_letters(walked_yard: Yard, receiver: Receiver) -> None:
    receiver.say = lambda _: Answer(502)
    dispatcher = Dispatcher(walked_yard.store, [channel(receiver.url, walked_yard.clock)])
    for _ in range(20):
        drained(dispatcher)
        walked_yard.clock.advance(300)
    assert len(receiver.received) == 20
    assert walked_yard.store.letters.page() == []


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_receiver_that_is_set_up_anew_within_three_days_gets_all_and_nothing_is_a_dead_letter(
    walked_yard: Yard, receiver: Receiver, status: int
) -> None:
    receiver.say = lambda _: Answer(status)
    clock = walked_yard.clock
    dispatcher = Dispatcher(walked_yard.store, [channel(receiver.url, clock)], monotonic=lambda: clock() / SECOND_US)
    for _ in range(round(TURNED_AWAY_S / 3600) - 1):
        drained(dispatcher)
        clock.advance(3600)
    (state,) = walked_yard.store.channel_states()
    assert (state.paused_at_us, state.dead_letters) == (None, 0)
    assert f"HTTP {status}" in (state.error or "")
    receiver.say = lambda _: Answer()
    sent = len(receiver.received)
    drained(dispatcher)
    assert receiver.ids[sent:] == ids(walked_yard.store)


@pytest.mark.parametrize(("status", "hours"), [(403, TURNED_AWAY_S / 3600), (410, 0)])
def test_a_receiver_that_turns_us_away_for_good_pauses_the_channel_which_says_why(
    walked_yard: Yard, receiver: Receiver, status: int, hours: float
) -> None:
    receiver.say = lambda _: Answer(status)
    clock = walked_yard.clock
    for hour in range(0, round(hours) + 1, 24):  # the server is restarted every day
        dispatcher = Dispatcher(walked_yard.store, [channel(receiver.url, clock)])
        drained(dispatcher)
        (state,) = walked_yard.store.channel_states()
        assert (state.paused_at_us is not None) == (hour == hours)
        clock.advance(24 * 3600)
    count = len(receiver.received)
    drained(dispatcher)
    assert len(receiver.received) == count, "it is paused"
    (state,) = walked_yard.store.channel_states()
    assert state.paused_at_us is not None
    assert state.error is not None
    assert state.error.startswith("paused by the server: TurnedAway: http://127.0.0.1")
    assert f"HTTP {status}" in state.error
    assert state.dead_letters == 0
    receiver.say = lambda _: Answer()
    walked_yard.store.resume("hook")
    drained(dispatcher)
    assert receiver.ids[count:] == ids(walked_yard.store)


def test_a_receiver_that_fails_otherwise_in_between_is_given_three_days_anew(
    walked_yard: Yard, receiver: Receiver
) -> None:
    clock = walked_yard.clock
    dispatcher = Dispatcher(walked_yard.store, [channel(receiver.url, clock)])
    for status in (403, 502, 403):
        receiver.say = lambda _, status=status: Answer(status)  # type: ignore[misc]
        drained(dispatcher)
        clock.advance(2 * 86_400)
    drained(dispatcher)
    (state,) = walked_yard.store.channel_states()
    assert state.paused_at_us is None
    clock.advance(86_400)
    drained(dispatcher)
    (state,) = walked_yard.store.channel_states()
    assert state.paused_at_us is not None


TRICKLES = {
    "status line": (b"HTTP/1.1 2", *[b"0"] * 500),
    "headers": (b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 500),
    "no bytes": (b"",) * 500,
}


@pytest.mark.parametrize("part", TRICKLES)
def test_an_answer_that_trickles_in_ends_with_the_time_limit(receiver: Receiver, part: str) -> None:
    receiver.say = lambda _: Answer(raw=TRICKLES[part])
    with pytest.raises(NoAnswer, match=r"no whole answer within 0.2 s"):
        channel(receiver.url, timeout_s=0.2).send(announced())


@pytest.mark.parametrize(
    "raw",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n", *[b"x"] * 500),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * 500),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\nx",),
    ],
)
def test_after_the_status_of_success_the_rest_does_not_matter(receiver: Receiver, raw: tuple[bytes, ...]) -> None:
    hook = channel(receiver.url, timeout_s=0.2)
    receiver.say = lambda _: Answer(raw=raw)
    hook.send(announced())
    receiver.say = lambda _: Answer()
    hook.send(announced(seq=2))
    assert (len(receiver.received), receiver.connections) == (2, 2)


def test_a_long_answer_is_not_read_to_its_end(receiver: Receiver) -> None:
    hook = channel(receiver.url)
    receiver.say = lambda _: Answer(200, b"x" * (1000 * MOST_ANSWER_BYTES))
    hook.send(announced())
    receiver.say = lambda _: Answer()
    hook.send(announced())
    assert receiver.connections == 2, "the rest of the first answer is left with its connection"


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ((b"",), "it closed the connection without an answer"),
        ((b"SSH-2.0-OpenSSH_9.2\r\n",), "its answer is not HTTP"),
        ((b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,), "its answer is not HTTP"),
    ],
)
def test_what_is_no_answer_is_sent_again(receiver: Receiver, raw: tuple[bytes, ...], why: str) -> None:
    receiver.say = lambda _: Answer(raw=raw)
    with pytest.raises(NoAnswer, match=why):
        channel(receiver.url).send(announced())


def test_a_connection_that_the_receiver_has_closed_meanwhile_is_made_anew(receiver: Receiver) -> None:
    hook = channel(receiver.url)
    hook.send(announced())
    receiver.stop()
    receiver.start()
    hook.send(announced(seq=2))
    assert len(receiver.received) == 2
    assert receiver.connections == 2


def test_an_answer_that_ends_the_connection_is_read_to_its_end(receiver: Receiver) -> None:
    receiver.say = lambda _: Answer(400, b"why not", {"Connection": "close"})
    hook = channel(receiver.url)
    for _ in range(2):
        with pytest.raises(Undeliverable, match="Bad Request: why not"):
            hook.send(announced())


def test_cookies_and_proxies_of_the_environment_play_no_part(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    receiver.say = lambda _: Answer(headers={"Set-Cookie": "a=b"})
    hook = channel(receiver.url)
    for seq in (1, 2):
        hook.send(announced(seq=seq))
    assert not any("cookie" in each.headers for each in receiver.received)
