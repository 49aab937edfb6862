"""Events refer to the records of their bursts: what they need of a record stays when it goes or cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs
from sqlalchemy import select, update

from server.domain.announcements import Announcement
from server.domain.keeping import Keep
from server.store import Store
from server.store.bursts import delete_bursts
from server.store.events.event_rows import spell_out
from server.store.schema import burst_records, events
from tests.server.scenes import START_US, Yard, across
from tests.stand_ins import ManualClock

DAY_S = 86_400.0


def referred(store: Store) -> set[int]:
    """The numbers of all records that events refer to."""
    with store._engine.connect() as connection:
        rows = connection.execute(select(events.c.burst, events.c.before)).all()
    return {number for row in rows for number in row if number is not None}


def stored(store: Store) -> set[int]:
    with store._engine.connect() as connection:
        return set(connection.execute(select(burst_records.c.number)).scalars())


def test_an_event_late_in_a_long_burst_keeps_what_it_needs_of_the_burst_before(
    tmp_path: Path, store: Store, clock: ManualClock
) -> None:
    yard = Yard(tmp_path / "sites", store, clock)
    for number, at_s, frames in ((0, 0.0, 1), (1, 595.0, 20)):
        yard.pipeline.process(yard.walk(number, lambda t: 0.2 if t <= 1210 else 0.8, at_s, frames, 40.0))
    before = store.events()
    assert referred(store) == {1, 2}
    assert store.retention.sweep(lambda _site: Keep(observations_days=1300 / DAY_S)).bursts == 1
    assert store.events() == before
    assert referred(store) <= stored(store) == {2}


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock) -> Yard:
    """A yard through which somebody has walked, with a channel to which nothing was sent yet."""
    yard = Yard(tmp_path / "sites", store, clock)
    for one in yard.walked(across, 26):
        yard.pipeline.process(one)
    store.add_channel("all")
    return yard


def make_unreadable(store: Store, column: str) -> int:
    """Damage the record that the newest event with one has in a column."""
    assert store.last_seq() > 0, "all events have their numbers"
    of_event = select(events.c[column]).where(events.c[column].is_not(None)).order_by(events.c.seq.desc()).limit(1)
    with store._engine.begin() as connection:
        number: int = connection.execute(of_event).scalar_one()
        mine = burst_records.c.number == number
        connection.execute(update(burst_records).where(mine).values(record=bytes.fromhex("93010203")))
    return number


@pytest.mark.parametrize("column", ["burst", "before"])
def test_the_log_is_read_and_sent_beside_a_record_that_cannot_be_read(
    yard: Yard, column: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = yard.store
    before = {each.seq: each for each in store.events()}
    number = make_unreadable(store, column)
    with store._engine.connect() as connection:
        named = (events.c.burst == number) | (events.c.before == number)
        lost = set(connection.execute(select(events.c.seq).where(named)).scalars())
    found = store.events()
    assert {each.seq for each in found if each != before[each.seq]} == lost
    for each in found:
        then = before[each.seq].event
        assert structs.replace(each.event, provenance=then.provenance) == then
        assert ("" in each.event.provenance.burst_ids) == (each.seq in lost)
        [record] = store.past.events_like(each.event.id)
        assert record.is_intact == (each.seq not in lost)
    by_seq = sorted(found, key=lambda each: each.seq)
    assert sorted(store.begun(), key=lambda each: each.seq) == by_seq == store.events(after_seq=0)
    claimed = store.claim("all", "a test", 1, 100)
    assert [each.logged for each in claimed if isinstance(each, Announcement)] == by_seq
    assert f"burst record {number} cannot be read" in " ".join(str(vars(record)) for record in caplog.records)


def test_an_erasure_deletes_the_events_of_a_record_that_cannot_be_read(yard: Yard) -> None:
    make_unreadable(yard.store, "burst")
    done = yard.store.retention.erase("yard", "gate", START_US, START_US + 26_000_000, author="ann")
    assert done.note == "1 of its bursts could not be read"
    assert yard.store.events(withdrawn=True) == []


def test_an_event_that_lost_a_burst_is_found_to_have_when_the_bursts_go(yard: Yard) -> None:
    make_unreadable(yard.store, "burst")
    before = yard.store.events()
    [newest] = [each for each in before if each.burst_id == ""]
    with yard.store._engine.begin() as connection:
        assert delete_bursts(connection, "yard", "gate", START_US, START_US + 30_000_000, spell_out) == 13
    assert yard.store.events() == before
    assert referred(yard.store) <= {0}
    [record] = yard.store.past.events_like(newest.event.id)
    assert not record.is_intact
