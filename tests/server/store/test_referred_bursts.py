"""Events refer to the records of their bursts: what they need of a record stays when it goes or cannot be read."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select

from server.domain.keeping import Keep
from server.store import Store
from server.store.schema import burst_records, events
from tests.server.scenes import Yard
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
