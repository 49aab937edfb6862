"""The presences of a stretch, as a store that remembers them gives them: those that one without a memory gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event

from server.domain.keeping import Keep
from server.domain.watching import Stay
from server.store import Store
from server.store.events import event_tally
from tests.server.late_walker import in_their_order
from tests.server.scenes import START_US, Yard, across, there_and_back
from tests.stand_ins import ManualClock

S = 1_000_000
DAY_S = 86_400.0
HOUR_US = (START_US, START_US + 3600 * S)


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock) -> Yard:
    """A yard without a past, on each database."""
    return Yard(tmp_path / "sites", store, clock)


def send(yard: Yard, path: Callable[[float], float | None], from_s: float, until_s: float) -> None:
    """Bursts of ten frames, two a second, without a gap."""
    for at_s in range(round(from_s), round(until_s), 5):
        yard.pipeline.process(yard.walk(at_s, path, at_s, 10))


def stays(yard: Yard) -> list[Stay]:
    """The presences of an hour, which are those that a store without a memory reads."""
    remembered = yard.store.stays("yard", *HOUR_US)
    fresh = Store(yard.store._engine, yard.clock)
    assert in_order(remembered) == in_order(fresh.stays("yard", *HOUR_US))
    return in_order(remembered)


def in_order(stays: list[Stay]) -> list[Stay]:
    return sorted(stays, key=lambda stay: (stay.from_us, stay.sector, stay.until_us or 0))


@contextmanager
def reads(yard: Yard) -> Iterator[list[str]]:
    """The statements that read presences meanwhile."""
    asked: list[str] = []

    def note(*given: object) -> None:
        if str(given[2]).startswith("SELECT events.camera, events.origin, max(events.kind)"):
            asked.append(str(given[2]))

    event.listen(yard.store._engine, "before_cursor_execute", note)
    yield asked
    event.remove(yard.store._engine, "before_cursor_execute", note)


def test_new_events_are_added_to_the_presences_that_are_remembered(yard: Yard) -> None:
    send(yard, across, 0, 20)
    before = stays(yard)
    send(yard, lambda t: there_and_back(t - 60), 60, 90)
    assert len(stays(yard)) > len(before) > 0


def test_a_presence_that_went_on_when_it_was_remembered_ends(yard: Yard) -> None:
    send(yard, across, 0, 10)
    [going_on] = [stay for stay in stays(yard) if stay.until_us is None]
    send(yard, across, 10, 60)
    ended = [stay for stay in stays(yard) if stay[:4] == going_on[:4]]
    assert [stay.until_us is None for stay in ended] == [False]


def test_late_bursts_that_correct_and_withdraw_presences_change_what_is_remembered(yard: Yard) -> None:
    send(yard, lambda t: there_and_back(t - 60), 60, 90)
    bursts = yard.walked(across, 26)
    for one in [*bursts[:3], *bursts[7:]]:
        yard.pipeline.process(one)
    before = stays(yard)
    for one in bursts[3:7]:
        yard.pipeline.process(one)
        stays(yard)
    yard.store.refolds.run()
    after = stays(yard)
    assert [stay for stay in before if stay not in after]
    assert [stay for stay in after if stay not in before]
    assert any(logged.is_withdrawn for logged in yard.store.events(withdrawn=True))


def test_presences_of_bursts_that_are_set_aside_are_remembered_no_more(yard: Yard) -> None:
    for one in in_their_order(yard.walked(across, 26)):
        yard.pipeline.process(one)
    yard.store.refolds.run()
    before = stays(yard)
    yard.store.set_aside("yard", "gate", START_US + 10 * S, START_US + 60 * S)
    assert len(stays(yard)) < len(before)
    yard.store.fold_in("yard", "gate", None, None)
    assert stays(yard) == before


def test_presences_that_retention_deletes_are_remembered_no_more(yard: Yard) -> None:
    send(yard, across, 0, 30)
    send(yard, lambda t: there_and_back(t - 60), 60, 90)
    before = stays(yard)
    assert yard.store.retention.sweep(lambda _site: Keep(events_days=40 / DAY_S)).events > 0
    send(yard, lambda t: across(t - 90), 90, 110)
    after = stays(yard)
    assert [stay for stay in before if stay not in after]
    assert [stay for stay in after if stay not in before]


def test_an_unchanged_stretch_is_not_read_again_and_of_a_changed_one_only_what_is_new(yard: Yard) -> None:
    send(yard, across, 0, 20)
    yard.store.stays("yard", *HOUR_US)
    with reads(yard) as again:
        yard.store.stays("yard", *HOUR_US)
    send(yard, across, 20, 40)
    with reads(yard) as more:
        yard.store.stays("yard", *HOUR_US)
    assert (len(again), len(more)) == (1, 2), "one is for what began before the stretch"
    assert ["events.seq >" in each for each in more] == [True, False]


def test_a_stretch_without_events_is_not_read_again(yard: Yard) -> None:
    send(yard, lambda _t: None, 0, 20)
    yard.store.stays("yard", *HOUR_US)
    with reads(yard) as again:
        yard.store.stays("yard", *HOUR_US)
    assert len(again) == 1, "it is for what began before the stretch"


def test_the_stretch_that_was_asked_for_longest_ago_is_forgotten_when_too_many_events_are_remembered(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_tally, "_MOST_REMEMBERED", 3)
    send(yard, across, 0, 30)
    stays(yard)
    yard.store.stays("yard", START_US - 3600 * S, START_US)
    assert len(yard.store._lanes._known) == 1
    assert stays(yard)
