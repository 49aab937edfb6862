"""The live parts of open pages: built once for all who ask for the same within a moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from server.console.pages import LiveParts
from server.console.pages.sharing import MOST_KEPT, WAIT_S
from server.domain.errors import DatabaseUnavailable, RetryLater
from tests.server.web_client import NOW_US
from tests.stand_ins import ManualClock

KEY = ("/day/2027-01-14?site=north-yard", (("*", "viewer"),))


class Desk:
    """Live parts with a clock and news that are given. Each building gives its number; `asks` counts who has come."""

    def __init__(self, wait_s: float = WAIT_S) -> None:
        self.now = ManualClock(NOW_US)
        self.newest = 7
        self.built = 0
        self.asks = threading.Semaphore(0)
        self.parts = LiveParts(self._clock, lambda: self.newest, wait_s)

    def _clock(self) -> int:
        now_us = self.now()
        self.asks.release()
        return now_us

    def ask(self, key: object = KEY, heard: int = 0, build: Callable[[], bytes] | None = None) -> int:
        return int(self.parts.of(key, heard, build or self.build))

    def build(self) -> bytes:
        self.built += 1
        return str(self.built).encode()


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


class Held:
    """A building that goes on until it is released, in a thread of its own."""

    def __init__(self, desk: Desk, threads: ThreadPoolExecutor) -> None:
        self._desk, self._goes_on, self._begun = desk, threading.Event(), threading.Event()
        self.asked: Future[int] = threads.submit(desk.ask, build=self._build)
        assert self._begun.wait(60)
        while desk.asks.acquire(blocking=False):
            pass

    def _build(self) -> bytes:
        self._begun.set()
        assert self._goes_on.wait(60)
        return self._desk.build()

    def other(self, threads: ThreadPoolExecutor) -> Future[int]:
        """Somebody who asks meanwhile."""
        asked = threads.submit(self._desk.ask)
        assert self._desk.asks.acquire(timeout=60)
        return asked

    def release(self) -> None:
        self._goes_on.set()


def test_who_asks_within_two_seconds_gets_what_was_built(desk: Desk) -> None:
    assert desk.ask() == 1
    desk.now.advance(1.9)
    assert desk.ask() == 1


def test_two_seconds_later_it_is_built_anew(desk: Desk) -> None:
    assert desk.ask() == 1
    desk.now.advance(2)
    assert desk.ask() == 2


def test_the_age_counts_from_the_begin_of_the_building(desk: Desk) -> None:
    def slowly() -> bytes:
        desk.now.advance(1.5)
        return desk.build()

    assert desk.ask(build=slowly) == 1
    desk.now.advance(0.5)
    assert desk.ask() == 2


def test_a_clock_that_is_set_back_keeps_nothing_for_longer(desk: Desk) -> None:
    assert desk.ask() == 1
    desk.now.advance(-3600)
    assert desk.ask() == 2


def test_who_has_heard_of_newer_news_gets_them(desk: Desk) -> None:
    assert desk.ask(heard=7) == 1
    desk.newest = 9
    assert desk.ask(heard=7) == 1
    assert desk.ask(heard=8) == 2
    assert desk.ask(heard=9) == 2


def test_another_key_is_built_by_itself(desk: Desk) -> None:
    assert desk.ask() == 1
    assert desk.ask(("/now?", KEY[1])) == 2
    assert desk.ask((KEY[0], (("*", "operator"),))) == 3
    assert desk.ask() == 1


def test_a_change_makes_all_be_built_anew(desk: Desk) -> None:
    assert desk.ask() == 1
    desk.parts.forget()
    assert desk.ask() == 2


def test_a_fault_is_that_of_its_asker_and_is_not_remembered(desk: Desk) -> None:
    def fails() -> bytes:
        raise DatabaseUnavailable("gone")

    with pytest.raises(DatabaseUnavailable):
        desk.ask(build=fails)
    assert desk.ask() == 1


def test_many_keys_are_not_all_remembered(desk: Desk) -> None:
    for number in range(MOST_KEPT + 1):
        desk.ask(number)
    assert desk.ask(MOST_KEPT) == MOST_KEPT + 1
    assert desk.ask(0) == MOST_KEPT + 2


def test_two_who_ask_at_once_get_one_building(desk: Desk, threads: ThreadPoolExecutor) -> None:
    first = Held(desk, threads)
    second = first.other(threads)
    first.release()
    assert (first.asked.result(60), second.result(60), desk.built) == (1, 1, 1)


def test_who_waits_for_a_slow_building_takes_it_however_long_it_took(desk: Desk, threads: ThreadPoolExecutor) -> None:
    first = Held(desk, threads)
    second = first.other(threads)
    desk.now.advance(10)
    first.release()
    assert (first.asked.result(60), second.result(60), desk.built) == (1, 1, 1)


def test_who_comes_late_to_a_slow_building_gets_a_newer_one(desk: Desk, threads: ThreadPoolExecutor) -> None:
    first = Held(desk, threads)
    desk.now.advance(10)
    second = first.other(threads)
    first.release()
    assert (first.asked.result(60), second.result(60)) == (1, 2)


def test_who_has_waited_for_too_long_is_told_to_come_again(threads: ThreadPoolExecutor) -> None:
    desk = Desk(wait_s=0)
    first = Held(desk, threads)
    with pytest.raises(RetryLater):
        desk.ask()
    first.release()
    assert first.asked.result(60) == 1


def test_a_building_that_began_before_a_change_is_not_given_after_it(desk: Desk, threads: ThreadPoolExecutor) -> None:
    first = Held(desk, threads)
    desk.parts.forget()
    assert desk.ask() == 1
    first.release()
    assert first.asked.result(60) == 2
    assert desk.ask() == 1
