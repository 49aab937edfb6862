"""Provisional events: told while their burst is still being judged, then confirmed by the same id or withdrawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.delivery.channels import json_line, text_line
from server.delivery.dispatcher import Dispatcher
from server.domain.errors import Unprocessable
from server.domain.records import Announcement
from server.pipeline.pipeline import Pipeline
from server.store import Store
from tests.server.scenes import START_US, Yard, across, burst
from tests.stand_ins import ManualClock, RecordingChannel


@pytest.fixture
def early() -> list[Announcement]:
    """What was told before its burst was judged, in order."""
    return []


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock, early: list[Announcement]) -> Yard:
    yard = Yard(tmp_path / "sites", store, clock)
    yard.pipeline = Pipeline(yard.ensemble, store, yard.sites, clock, foretell=early.extend)
    return yard


def ids(announcements: list[Announcement]) -> list[str]:
    return [one.logged.event.id for one in announcements]


def test_every_event_of_an_orderly_run_is_foretold_and_then_confirmed_word_for_word(
    yard: Yard, early: list[Announcement]
) -> None:
    for one in yard.walked(across, 26, per_burst=8):
        before = len(early)
        receipt = yard.pipeline.process(one)
        assert [a.logged.event for a in early[before:]] == [logged.event for logged in receipt.burst.events]
    assert {one.what for one in early} == {"provisional"}
    assert ids(early) == [logged.event.id for logged in yard.store.events()] != []


def test_an_event_is_foretold_by_the_frames_that_settle_it_before_the_rest_is_answered(
    yard: Yard, early: list[Announcement]
) -> None:
    frames = {}
    one = yard.walk(0, lambda t: 0.25, 0, frames=20)
    answer = yard.ensemble.answer

    def listening(images, crops=None, early_=None):  # type: ignore[no-untyped-def]
        def heard(said):  # type: ignore[no-untyped-def]
            early_(said)
            frames.setdefault(len(early), len(said))

        return answer(images, crops, heard)

    yard.ensemble.answer = listening  # type: ignore[method-assign]
    yard.pipeline.process(one)
    assert [e.logged.event.kind for e in early] == ["entered", "presence_started"]
    assert frames[2] < 6, "six frames of twenty are three seconds"


def test_what_is_foretold_is_in_no_log_and_no_outbox(yard: Yard, early: list[Announcement]) -> None:
    broken = yard.ensemble.break_(b"half a picture")
    images = [yard.picture(0.25, at_s=i * 0.5) for i in range(10)]
    with pytest.raises(Unprocessable):
        yard.pipeline.process(burst(1, [*images, broken], 0))
    assert [one.what for one in early] == ["provisional", "provisional", "withdrawn", "withdrawn"]
    assert ids(early[:2]) == ids(early[2:])
    assert yard.store.events(withdrawn=True) == []
    assert yard.store.last_seq() == 0


def test_a_burst_that_comes_again_after_a_crash_tells_the_same_ids(yard: Yard, early: list[Announcement]) -> None:
    class Crash(BaseException):
        pass

    one = yard.walk(0, lambda t: 0.25, 0, frames=12)
    answer, yard.ensemble.answer = yard.ensemble.answer, None  # type: ignore[assignment, method-assign]

    def dies(images, crops=None, early_=None):  # type: ignore[no-untyped-def]
        answer(images, crops, early_)
        raise Crash

    yard.ensemble.answer = dies  # type: ignore[method-assign]
    with pytest.raises(Crash):
        yard.pipeline.process(one)
    foretold = [a for a in early if a.what == "provisional"]
    yard.ensemble.answer = answer  # type: ignore[method-assign]
    yard.pipeline.process(one)
    assert [logged.event.id for logged in yard.store.events()] == ids(foretold)


def test_a_late_burst_foretells_nothing_since_it_may_change_what_was_told(
    yard: Yard, early: list[Announcement]
) -> None:
    bursts = yard.walked(across, 26)
    for one in [*bursts[:3], *bursts[4:]]:
        yard.pipeline.process(one)
    early.clear()
    assert yard.pipeline.process(bursts[3]).burst.late
    assert early == []


def test_a_burst_ahead_of_the_clock_foretells_nothing(yard: Yard, early: list[Announcement]) -> None:
    yard.clock.now_us = START_US - 400_000_000
    assert yard.pipeline.process(yard.walk(0, lambda t: 0.25, 0, frames=12)).burst.status == "held"
    assert early == []


def test_what_another_burst_forestalled_is_withdrawn(yard: Yard, early: list[Announcement]) -> None:
    """While one burst is being judged, another of its camera, from before it, comes in and changes the past."""
    late, slow = yard.walk(0, lambda t: 0.25, 0, frames=12), yard.walk(1, lambda t: 0.25, 6.2, frames=12)
    answer = yard.ensemble.answer

    def overtaken(images, crops=None, early_=None):  # type: ignore[no-untyped-def]
        said = answer(images, crops, early_)
        yard.ensemble.answer = answer  # type: ignore[method-assign]
        yard.pipeline.process(late)
        return said

    yard.ensemble.answer = overtaken  # type: ignore[method-assign]
    yard.pipeline.process(slow)
    held = {logged.event.id for logged in yard.store.events()}
    told = {one.logged.event.id for one in early if one.what == "provisional"}
    assert {one.logged.event.id for one in early if one.what == "withdrawn"} == told - held != set()


def test_a_provisional_event_says_so_and_so_does_its_withdrawal(yard: Yard, early: list[Announcement]) -> None:
    images = [yard.picture(0.25, at_s=i * 0.5) for i in range(10)]
    with pytest.raises(Unprocessable):
        yard.pipeline.process(burst(1, [*images, yard.ensemble.break_(b"half a picture")], 0))
    first, last = early[0], early[-1]
    assert " provisional=true event=" in text_line(first.logged)
    assert " provisional=true said=withdrawn event=" in text_line(last.logged, last.what)
    assert '"provisional":true,"withdrawn":false' in json_line(first.logged)
    assert '"provisional":true,"withdrawn":true' in json_line(last.logged)


def test_a_channel_is_told_early_before_what_was_committed_after(yard: Yard, early: list[Announcement]) -> None:
    yard.pipeline.process(yard.walk(0, lambda t: 0.25, 0, frames=12))
    channel = RecordingChannel()
    dispatcher = Dispatcher(yard.store, [channel])
    dispatcher.tell_early(early)
    dispatcher.drain_once()
    assert [one.what for one in channel.sent] == ["provisional", "provisional", "event", "event"]
    assert ids(channel.sent[:2]) == ids(channel.sent[2:])


def test_a_channel_that_fails_is_spared_what_is_provisional_and_gets_all_that_is_not(
    yard: Yard, early: list[Announcement]
) -> None:
    yard.pipeline.process(yard.walk(0, lambda t: 0.25, 0, frames=12))
    channel = RecordingChannel()
    channel.fail_next = 2
    dispatcher = Dispatcher(yard.store, [channel])
    dispatcher.tell_early(early)
    dispatcher.drain_once()
    dispatcher.tell_early(early)
    dispatcher.drain_once()
    assert channel.sent == []
    yard.clock.advance(5)
    dispatcher.drain_once()
    assert [one.what for one in channel.sent] == ["event", "event"]


def test_without_the_setting_nothing_is_told_early(tmp_path: Path, store: Store, clock: ManualClock) -> None:
    yard = Yard(tmp_path / "sites", store, clock)
    asked = yard.ensemble.answer
    listeners: list[object] = []

    def noting(images, crops=None, early_=None):  # type: ignore[no-untyped-def]
        listeners.append(early_)
        return asked(images, crops, early_)

    yard.ensemble.answer = noting  # type: ignore[method-assign]
    yard.pipeline.process(yard.walk(0, lambda t: 0.25, 0, frames=12))
    assert listeners == [None]
