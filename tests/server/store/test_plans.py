"""What is asked for every burst, poll or request goes by an index, however much is stored: SQLite says how it would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from server.delivery.dispatcher import Dispatcher
from server.pipeline.advancing import Advancing
from server.store import Store, open_store
from tests.server.scenes import START_US, Yard, across
from tests.stand_ins import ManualClock, RecordingChannel

GROWING = ("burst_records", "bursts", "observations", "decisions", "events", "outbox")


@contextmanager
def plans(store: Store) -> Iterator[list[str]]:
    """Every step of the plans of what is asked of the store inside the block."""
    asked: list[tuple[str, Any]] = []
    steps: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            asked.append((statement, parameters[0] if many else parameters))

    event.listen(store._engine, "before_cursor_execute", note)
    yield steps
    event.remove(store._engine, "before_cursor_execute", note)
    with store._engine.begin() as connection:
        for statement, parameters in asked:
            steps += [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]


@pytest.fixture
def yard(tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock) -> Iterator[Yard]:
    """A yard whose SQLite store holds the first half of a walk."""
    store = open_store(new_sqlite(), clock)
    yard = Yard(tmp_path / "sites", store, clock)
    for one in yard.walked(across, 12):
        yard.pipeline.process(one)
    yield yard
    store.close()


def test_a_burst_and_its_delivery_read_no_table_from_end_to_end(yard: Yard) -> None:
    dispatcher = Dispatcher(yard.store, [RecordingChannel()])
    with plans(yard.store) as steps:
        for one in yard.walked(across, 20):
            yard.pipeline.process(one)
        Advancing(yard.store, yard.clock).release_held()
        while dispatcher.drain_once():
            pass
    assert [step for step in steps if step.startswith("SCAN")] == []


def test_the_heads_of_cameras_are_folded_again_only_after_another_burst(yard: Yard) -> None:
    quiet = [yard.walk(number, lambda _: None, number * 2.0) for number in range(40, 44)]
    yard.pipeline.process(quiet[0])
    yard.pipeline.process(quiet[1])
    (first,) = yard.store.cameras()
    with plans(yard.store) as steps:
        assert yard.store.cameras() == [first]
    assert [step for step in steps if step.startswith(("SCAN", "SEARCH"))] == [
        "SCAN camera_states USING INDEX sqlite_autoindex_camera_states_1",
        "SEARCH cameras USING INDEX sqlite_autoindex_cameras_1 (site=? AND camera=?) LEFT-JOIN",
        *["SEARCH burst_records USING INDEX ix_burst_records_camera (camera=? AND first_at_us>?)"] * 3,
    ]
    yard.pipeline.process(quiet[2])
    (second,) = yard.store.cameras()
    assert second.last_at_us == first.last_at_us + 2_000_000
    with closing(open_store(str(yard.store._engine.url))) as anew:
        assert anew.cameras() == [second]


@pytest.mark.parametrize(
    ("ask", "step"),
    [
        (lambda store: store.events(after_seq=3, limit=9), "events USING INTEGER PRIMARY KEY (rowid>?)"),
        (
            lambda store: store.events(START_US, None, "yard", "gate", "left", after_seq=3, limit=9),
            "events USING INTEGER PRIMARY KEY (rowid>?)",
        ),
        (
            lambda store: store.events(START_US, after_seq=0, limit=9),
            "events USING COVERING INDEX ix_events_confirmed (confirmed_at_us>?)",
        ),
        (lambda store: store.past.events_like("ab"), "events USING INDEX sqlite_autoindex_events_1 (id>? AND id<?)"),
        (
            lambda store: store.annotations.about("ab"),
            "annotations USING COVERING INDEX ix_annotations_subject (subject>? AND subject<?)",
        ),
        (
            lambda store: store.past.bursts("yard", "gate", START_US, START_US + 1),
            "bursts USING INDEX ix_bursts_camera (site=? AND camera=? AND first_at_us>? AND first_at_us<?)",
        ),
        (
            lambda store: store.past.before("yard", "gate", START_US, 9),
            "bursts USING INDEX ix_bursts_camera (site=? AND camera=? AND first_at_us<?)",
        ),
        (
            lambda store: store.past.bursts("yard", "gate", START_US, START_US + 1),
            "burst_records USING INDEX ix_burst_records_camera (camera=? AND first_at_us>? AND first_at_us<?)",
        ),
        (
            lambda store: list(store.history("yard", "gate", START_US, START_US + 1)),
            "burst_records USING INDEX ix_burst_records_camera (camera=? AND first_at_us>? AND first_at_us<?)",
        ),
        (
            lambda store: store.past.before("yard", "gate", START_US, 9),
            "burst_records USING INDEX ix_burst_records_camera (camera=? AND first_at_us<?)",
        ),
        (
            lambda store: store.heartbeats.activities(),
            "burst_records USING INDEX ix_burst_records_camera (camera=? AND first_at_us<?)",
        ),
        (
            lambda store: store.events(0, START_US, "yard", "gate", withdrawn=True),
            "events USING INDEX ix_events_camera (camera=? AND confirmed_at_us>? AND confirmed_at_us<?)",
        ),
        (lambda store: store.known("burst-00001"), "burst_records USING INDEX ix_burst_records_id (id_key=?)"),
        (lambda store: store.held(START_US), "burst_records USING INDEX ix_burst_records_held (late=?)"),
    ],
)
def test_a_question_goes_by_its_index(yard: Yard, ask: Callable[[Store], object], step: str) -> None:
    with plans(yard.store) as steps:
        ask(yard.store)
    assert f"SEARCH {step}" in steps
    assert [one for one in steps if one.startswith(tuple(f"SCAN {table}" for table in GROWING))] == []


def test_a_follower_sorts_nothing(yard: Yard) -> None:
    with plans(yard.store) as steps:
        yard.store.events(START_US, None, "yard", "gate", "left", after_seq=3, limit=9)
    assert steps
    assert [step for step in steps if "B-TREE" in step] == []


@pytest.mark.parametrize("where", [{}, {"site": "yard"}, {"site": "yard", "camera": "gate"}, {"kind": "left"}])
def test_a_page_of_the_log_in_order_of_time_is_not_sorted_out_of_the_whole_log(
    yard: Yard, where: dict[str, Any]
) -> None:
    with plans(yard.store) as steps:
        yard.store.events(START_US, limit=10, **where)
    assert [step for step in steps if step == "USE TEMP B-TREE FOR ORDER BY"] == []
    assert any("confirmed_at_us>?" in step for step in steps), steps


@pytest.mark.parametrize("where", [{}, {"site": "yard", "camera": "gate"}, {"kind": "left", "backwards": True}])
def test_a_page_of_the_log_in_the_order_of_beginnings_is_read_as_it_lies_in_its_index(
    yard: Yard, where: dict[str, Any]
) -> None:
    last = yard.store.begun()[3]
    with plans(yard.store) as steps:
        yard.store.begun(limit=10, beyond=last, **where)
        yard.store.past.short_ids([last.event.id])
    assert [step for step in steps if step == "USE TEMP B-TREE FOR ORDER BY" or "SCAN events" in step] == []
    assert any("ix_events_started" in step for step in steps), steps
