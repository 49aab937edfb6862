"""Bursts of an earlier version become records a few at a time, whatever interrupts it, beside turns."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import delete, insert, select, update
from sqlalchemy.event import listen

from policies.observation import Observation
from server.domain.errors import RetryLater
from server.domain.keeping import Keep
from server.domain.records import BurstFacts, KeptBurst
from server.store import Store, open_store
from server.store.bursts.burst_log import read_facts
from server.store.bursts.packing import unpack
from server.store.schema import burst_records, bursts, contexts, decisions, observations
from tests.server.old_events import unpack_bodies
from tests.server.scenes import START_US, Yard, across, there_and_back
from tests.server.store.test_store import Interrupted, Interruption
from tests.stand_ins import ManualClock


def age(store: Store, every: int = 1) -> list[str]:
    """Put every n-th burst into the form of before, and all events; the ids of the bursts."""
    unpack_bodies(store)
    with store._engine.begin() as connection:
        rows = connection.execute(select(burst_records).order_by(burst_records.c.number)).all()[::every]
        kept = [store.kept(_facts_of(store, row).burst_id) for row in rows]
        for row, burst in zip(rows, kept, strict=True):
            packed = unpack(row.record)
            shared = connection.execute(select(contexts).where(contexts.c.number == row.context)).one()
            names = {column.name for column in bursts.columns}
            facts = {name: getattr(burst, name) for name in BurstFacts.__slots__ if name in names}
            facts |= {"agent_version": shared.agent_version, "clock_synced": shared.clock_synced}
            facts |= {"image_bytes": packed.image_bytes, "uncertainty_s": packed.uncertainty_s, "late": row.late}
            connection.execute(insert(bursts), facts)
            connection.execute(insert(observations), [_old(frame) for frame in burst.observations])
            body = msgspec.json.encode(burst.judgements, order="deterministic").decode()
            connection.execute(insert(decisions), {"burst_id": burst.burst_id, "body": body})
            connection.execute(delete(burst_records).where(burst_records.c.number == row.number))
    return [burst.burst_id for burst in kept]


def _facts_of(store: Store, row: object) -> BurstFacts:
    [found] = [
        facts
        for facts in store.past.bursts("yard", "gate", 0, 1 << 60)
        if facts.first_at_us == row.first_at_us  # type: ignore[attr-defined]
    ]
    return found


def _old(seen: Observation) -> dict[str, object]:
    return {
        "burst_id": seen.burst_id,
        "frame": seen.index,
        "site": seen.site,
        "camera": seen.camera,
        "at_us": seen.at_us,
        "frame_sha256": seen.frame_sha256,
        "width_px": seen.size[0],
        "height_px": seen.size[1],
        "brightness": seen.brightness,
        "answers": msgspec.json.encode(seen.answers, order="deterministic").decode(),
    }


def everything(store: Store) -> tuple[list[Observation], list[KeptBurst], list[BurstFacts]]:
    store.last_seq()  # events get their numbers
    seen = list(store.observations("yard", "gate"))
    return (
        seen,
        [store.kept(i) for i in sorted({each.burst_id for each in seen})],
        store.past.before("yard", "gate", 1 << 60, 9),
    )


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock) -> Yard:
    yard = Yard(tmp_path / "sites", store, clock)
    for one in yard.walked(across, 26):
        yard.pipeline.process(one)
    return yard


@pytest.mark.parametrize("every", [1, 2, 3])
def test_both_forms_give_the_same_before_and_after(yard: Yard, every: int) -> None:
    before, old = everything(yard.store), age(yard.store, every)
    assert everything(yard.store) == before
    middle = START_US + 7_250_000
    assert list(yard.store.observations("yard", "gate", middle)) == [o for o in before[0] if o.at_us >= middle]
    assert yard.store.convert() == len(old)
    assert everything(yard.store) == before
    assert yard.store.counts()["decisions"] == 0


def test_a_conversion_that_is_interrupted_at_any_statement_loses_nothing_and_goes_on(yard: Yard) -> None:
    before, old = everything(yard.store), age(yard.store)
    statement, is_done = 0, False
    while not is_done:
        statement += 7
        try:
            with Interruption(yard.store, statement):
                yard.store.convert()
            is_done = True
        except Interrupted:
            assert everything(yard.store) == before
    assert statement > len(old)
    assert yard.store.counts()["decisions"] == 0
    assert everything(yard.store) == before


def test_a_stopped_conversion_goes_on_where_it_stopped(yard: Yard) -> None:
    before, old = everything(yard.store), age(yard.store)
    stops = chain([False], repeat(True))
    first = yard.store.convert(lambda: next(stops))
    assert 0 < first < len(old)
    assert everything(yard.store) == before
    assert yard.store.convert() == len(old) - first


def test_turns_go_on_while_half_is_converted(yard: Yard, tmp_path: Path, new_sqlite: Callable[[], str]) -> None:
    clean = Yard(tmp_path / "clean", open_store(new_sqlite(), yard.clock), yard.clock)
    for one in clean.walked(across, 26):
        clean.pipeline.process(one)
    age(yard.store, 2)
    for each in (yard, clean):
        for n in range(100, 110):
            each.pipeline.process(each.walk(n, there_and_back, 30 + 2 * n - 200))
        each.pipeline.process(each.walk(200, across, 26))
    assert [e.event for e in yard.store.events()] == [e.event for e in clean.store.events()]
    yard.store.convert()
    assert list(yard.store.observations("yard", "gate")) == list(clean.store.observations("yard", "gate"))


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_bursts_that_events_come_to_refer_to_are_not_deleted_meanwhile(
    yard: Yard, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.store.engine.BUSY_TIMEOUT_S", 0.1)
    before = yard.store.events()
    unpack_bodies(yard.store)
    other = open_store(database_url, yard.clock)
    keep = Keep(observations_days=3 / 86_400)
    refused: list[str] = []

    def sweep(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if statement.startswith("UPDATE events") and not refused:
            with pytest.raises(RetryLater) as refusal:
                other.retention.sweep(lambda _site: keep)
            refused.append(str(refusal.value))

    listen(yard.store._engine, "after_cursor_execute", sweep)
    yard.store.convert()
    assert len(refused) == 1
    assert other.retention.sweep(lambda _site: keep).bursts > 5
    assert other.events() == before
    other.close()


def test_a_burst_whose_frames_are_damaged_stays_as_it_is(yard: Yard) -> None:
    old = age(yard.store)
    with yard.store._engine.begin() as connection:
        broken = observations.c.burst_id == old[3]
        connection.execute(update(observations).where(broken, observations.c.frame == 1).values(answers="{"))
    assert yard.store.convert() == len(old) - 1
    with yard.store._engine.begin() as connection:
        assert connection.execute(select(bursts.c.burst_id)).scalars().all() == [old[3]]
        assert read_facts(connection, yard.store._versions, old[3]) is not None
