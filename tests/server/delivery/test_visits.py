"""The ends of visits are looked up together, and not while the state of their camera says that they go on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import delete
from sqlalchemy.event import listen, remove

from policies.events import microseconds
from server.delivery import visits as visits_module
from server.delivery.visit_log import Stretch
from server.delivery.visits import begins_of, ends_of, visits
from server.domain.records import LoggedEvent
from server.store import Store
from server.store.schema import events
from tests.server.scenes import START_US, Yard, burst
from tests.stand_ins import ManualClock

PAUSE_S = 40


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock) -> Yard:
    return Yard(tmp_path / "sites", store, clock)


def came(yard: Yard, number: int) -> None:
    """Somebody stands in the yard for twelve seconds."""
    at_s = number * PAUSE_S
    pictures = [yard.picture(*([0.2] if i < 12 else []), at_s=at_s + i) for i in range(PAUSE_S)]
    for first in range(0, PAUSE_S, 20):
        yard.pipeline.process(burst(number * 1000 + first, pictures[first : first + 20], at_s + first, 1.0))


def forget_ends(store: Store) -> None:
    ids = [logged.event.id for logged in store.begun(kind="left")]
    with store._engine.begin() as connection:
        connection.execute(delete(events).where(events.c.id.in_(ids)))


def statements(store: Store, stretch: Stretch) -> int:
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        asked.append(statement)

    listen(store._engine, "before_cursor_execute", note)
    assert list(visits(store, stretch))
    remove(store._engine, "before_cursor_execute", note)
    return len(asked)


def test_more_visits_that_never_ended_take_no_more_statements(yard: Yard) -> None:
    counts = []
    for some in (range(2), range(2, 9)):
        for number in some:
            came(yard, number)
        forget_ends(yard.store)
        until_us = START_US + PAUSE_S * 20 * 1_000_000
        counts.append(statements(yard.store, Stretch(None, until_us)))
        assert all(visit.end is None for visit in visits(yard.store, Stretch(None, until_us)))
    assert counts[0] == counts[1]


def test_a_visit_that_keeps_others_waiting_is_asked_for_its_end_once_with_the_others_that_wait(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        came(yard, number)
    forget_ends(yard.store)
    monkeypatch.setattr(visits_module, "HELD", 3)
    asked: list[str] = []

    def watched(store: Store, entries: Sequence[LoggedEvent]) -> dict[str, LoggedEvent]:
        asked.extend(each.event.id for each in entries)
        return ends_of(store, entries)

    monkeypatch.setattr(visits_module, "ends_of", watched)
    assert len(list(visits(yard.store, Stretch(None, START_US + PAUSE_S * 20 * 1_000_000)))) == 9
    assert len(asked) == len(set(asked)) == 9


def test_every_visit_gets_its_own_end(yard: Yard) -> None:
    for number in range(3):
        came(yard, number)
    entries = yard.store.begun(kind="entered")
    ends = ends_of(yard.store, entries)
    lasted_us = [
        microseconds(ends[each.event.id].event.started_at) - microseconds(each.event.started_at) for each in entries
    ]
    assert len(lasted_us) == 3
    assert all(0 < each < PAUSE_S * 1_000_000 for each in lasted_us)
    assert ends_of(yard.store, []) == {}


def test_the_end_of_who_is_still_there_is_not_searched_for(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.pipeline.process(burst(1, [yard.picture(0.2, at_s=i) for i in range(12)], 0, 1.0))
    entries = yard.store.begun(kind="entered")
    assert entries
    monkeypatch.setattr(yard.store, "begun", None)
    assert ends_of(yard.store, entries) == {}


def test_every_end_gets_the_begin_of_its_own_visit(yard: Yard) -> None:
    for number in range(3):
        came(yard, number)
    entries = yard.store.begun(kind="entered")
    ends = ends_of(yard.store, entries)
    begins = begins_of(yard.store, [*ends.values()])
    assert {left: entered.event.id for left, entered in begins.items()} == {
        left.event.id: entered for entered, left in ends.items()
    }
    assert len(begins) == 3
    assert begins_of(yard.store, []) == {}
