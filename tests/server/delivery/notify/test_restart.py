"""Killed at any instant, the channel repeats at most the message that it was sending, and forgets nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from server.delivery.care import ChannelCare
from server.delivery.dispatcher import Dispatcher
from server.delivery.notify.channel import make_notify
from server.delivery.notify.memory import Memory, decode, encode
from server.delivery.sender import LEASE_S
from server.store import Store, open_store
from tests.server.delivery.notify.house import House
from tests.server.delivery.notify.receivers import HttpReceiver, http_receiver
from tests.server.scenes import START_US, Yard, across
from tests.stand_ins import ManualClock


class Killed(BaseException):
    """The process dies here."""


class Mortal:
    """A store whose process dies at the n-th of its calls of some names, before or after it."""

    def __init__(self, store: Store, name: str, number: int, *, before: bool) -> None:
        self._store = store
        self._name, self._number, self._before = name, number, before

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name != self._name:
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            self._number -= 1
            if self._number == 0 and self._before:
                raise Killed
            result = method(*args, **kwargs)
            if self._number == 0:
                raise Killed
            return result

        return call


@pytest.fixture
def yard(tmp_path: Path, new_sqlite: Callable[[], str]) -> Iterator[Yard]:
    """Somebody walks through both halves of the yard; the channel is in service before."""
    clock = ManualClock(START_US + 30_000_000)
    with closing(open_store(new_sqlite(), clock)) as store:
        store.add_channel("phones")
        yard = Yard(tmp_path / "sites", store, clock)
        for burst in yard.walked(across, 26):
            yard.pipeline.process(burst)
        yield yard


def drain(store: Any, yard: Yard) -> None:
    """A process that sends until nothing is left."""
    h = House()
    h.clock = yard.clock
    dispatcher = Dispatcher(store, [make_notify("phones", h.settings, h.around)])
    for _ in range(8):
        dispatcher.drain_once()


def test_one_of_several_receivers_that_fails_is_seen_where_channels_stand_and_counted_until_it_takes_a_message(
    yard: Yard, receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[str] = []

    def standing(times: int) -> tuple[str, str | None, int]:
        h = House(urls=["env:PHONE", "env:TABLET"])
        h.clock = yard.clock
        channel = make_notify("phones", h.settings, h.around)
        dispatcher = Dispatcher(yard.store, [channel], on_failed=failed.append)
        for _ in range(times):
            dispatcher.drain_once()
        care = ChannelCare(yard.store, {"phones": h.settings}, lambda: h.around)
        found = care.standing("phones")
        yard.clock.advance(LEASE_S + 1)
        return found.state, found.error, found.backlog

    with http_receiver() as other:
        monkeypatch.setenv("TABLET", other.url())
        other.status = 401
        for _ in range(2):  # the second time after a restart
            state, error, backlog = standing(8)
            assert (state, backlog) == ("failing", 0)
            assert error is not None
            assert error.startswith("env:TABLET (json): ")
            assert "env:PHONE" not in error
        assert failed == ["phones", "phones"]
        assert len(receiver.posts) == 4
        other.status = 200
        assert standing(8) == ("sending", None, 0)
        assert other.lines == receiver.lines


def test_the_visits_of_a_walk_are_told_once_each(yard: Yard, receiver: HttpReceiver) -> None:
    drain(yard.store, yard)
    assert receiver.lines == [
        "08:00 person at gate/west (yard)",
        "08:00 person at gate/east (yard)",
        "person left gate/west after 9 s (yard)",
        "person left gate/east after 8 s (yard)",
    ]
    drain(yard.store, yard)
    assert len(receiver.posts) == 4


def test_killed_at_any_write_it_repeats_at_most_the_message_that_it_was_sending(
    yard: Yard, receiver: HttpReceiver
) -> None:
    drain(yard.store, yard)
    once = receiver.lines
    assert len(once) == 4
    writes = [("delivered", 1), *(("remember", n) for n in (1, 2, 4))]
    for (name, number), before in product(writes, (True, False)):
        receiver.posts.clear()
        renew(yard.store)
        with pytest.raises(Killed):
            drain(Mortal(yard.store, name, number, before=before), yard)
        yard.clock.advance(LEASE_S + 1)
        drain(yard.store, yard)
        assert list(dict.fromkeys(receiver.lines)) == once, (name, number, before)
        assert len(receiver.posts) <= len(once) + 1, (name, number, before)


def test_a_receiver_that_is_away_is_seen_in_the_state_of_the_channel_and_gets_each_message_once(
    yard: Yard, receiver: HttpReceiver
) -> None:
    receiver.status = 503
    for _ in range(3):
        drain(yard.store, yard)
        yard.clock.advance(10)
    (state,) = yard.store.channel_states()
    assert state.failures == 3
    assert "NotSent: env:PHONE (json): " in (state.error or "")
    assert "Pass-Word" not in (state.error or "")
    receiver.status = 200
    drain(yard.store, yard)
    (state,) = yard.store.channel_states()
    assert (state.failures, state.error, state.backlog) == (0, None, 0)
    assert len(receiver.lines) == len(set(receiver.lines)) == 4


def renew(store: Store) -> None:
    """The channel has sent nothing yet."""
    with store._engine.begin() as connection:
        connection.execute(text("DELETE FROM channels WHERE name = 'phones'"))
    store.add_channel("phones")


def test_restarts_in_a_flood_change_neither_the_limit_nor_the_digest(
    house: Callable[..., House], receiver: HttpReceiver
) -> None:
    h = house(most_an_hour=5, cooldown_s=0, ends=False)
    for n in range(100):
        h.say(h.came(sector=("table", "door")[n % 2]))
        h.pass_(1)
        h.restarted(h.channel.memory)
    h.pass_(3600, 20)
    assert len(receiver.posts) == 6
    assert receiver.lines[5].startswith("95 more from 18:12 to 18:13: gate/door person 48, gate/table person 47")


def test_cooldown_and_the_visit_that_waits_for_its_end_outlive_a_restart(
    house: Callable[..., House], receiver: HttpReceiver
) -> None:
    h = house()
    h.say(h.came())
    h.pass_(2)
    h.restarted(h.channel.memory)
    h.say(h.came(1))
    h.say(h.left(0, 60))
    h.pass_(5)
    assert receiver.lines[1:] == ["person left gate/table after 60 s (north-yard)"]


def test_what_is_remembered_is_bounded(house: Callable[..., House], receiver: HttpReceiver) -> None:
    h = house(most_an_hour=1000, cooldown_s=3600, max_age_s=10**9)
    for n in range(700):
        h.say(h.came(n, camera=f"camera-{n}", sector=f"sector-{n % 7}"))
    assert len(h.channel.memory) < 400_000


def test_what_another_version_remembered_is_left_aside(
    house: Callable[..., House], receiver: HttpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    h = house()
    h.restarted(encode(Memory(version=99)))
    assert "another version wrote what the channel remembers" in caplog.text
    h.say(h.came())
    h.pass_(1)
    assert len(receiver.posts) == 1


def test_the_form_of_what_is_remembered_stays_readable() -> None:
    text = (
        '{"version":1,"letters":[{"text":"t","site":"s","at_us":1,"made_us":2,"urls":["env:A"],"place":"p",'
        '"event_id":"e","frames":["f"],"camera":"c","is_digest":false}],"reported":{"e":{"line":"l","key":"k","site":"s",'
        '"kind":"presence_started","started_us":1,"at_us":1,"is_open":true,"withdrawn_us":null}},"heard":["e"],'
        '"rests":{"k":{"since_us":1,"until_us":2,"more":3}},"sent_us":[1],"tallies":[{"reason":"more","site":null,'
        '"first_us":1,"last_us":2,"since_us":3,"added_us":4,"counts":{"p":1},"ids":{"e":"p"},"remarks":["r"],'
        '"further":0}],"digest_us":{"s":1},"unwatched":{"s/c":{"since_us":1,"is_reported":true,"is_known":false}},'
        '"has_looked":true,"is_unapproved":false}'
    )
    memory = decode(text)
    assert memory is not None
    new = text.replace('"is_digest":false}', '"is_digest":false,"about":"","counted":[]}')
    assert encode(memory) == new.replace('"remarks":["r"],', '"remarks":["r"],"remark_ids":{},')


def test_a_letter_to_a_url_that_is_no_longer_in_the_settings_is_dropped(
    house: Callable[..., House], receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABLET", receiver.url("tablet"))
    h = house(urls=["env:PHONE", "env:TABLET"])
    h.say(h.came())
    memory = h.channel.memory
    h = House(urls=["env:TABLET"])
    h.restarted(memory)
    h.pass_(2)
    assert [post.path for post in receiver.posts] == ["/tablet"]
