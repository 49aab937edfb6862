"""What shows whether cameras are watched is read of all of them at once, and is what each alone would give."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.event import listen, remove

from server.domain.records import BurstSpan, CameraActivity, StoredHeartbeat
from server.store import Store
from tests.server.scenes import START_US, YARD, Yard, across, burst
from tests.server.store.test_conversion import age
from tests.stand_ins import ManualClock

CAMERAS = ("gate", "door", "shed", "lane", "silent")
DAY_S = 86_400
_MOST = 8
_AHEAD_US = 300_000_000


def policy() -> str:
    """The yard's policy with each camera as the gate."""
    head, _, tables = YARD.strip().partition("\n")
    return "\n".join([head, *(tables.replace("cameras.gate", f"cameras.{name}") for name in CAMERAS)])


def one_by_one(store: Store, camera: str, now_us: int) -> CameraActivity:
    """The activity of a camera, by the facts of each of its bursts."""
    facts = store.past.bursts("yard", camera, 0, 1 << 60)
    folded = [each for each in facts if each.status == "folded" and each.first_at_us < now_us + _AHEAD_US]
    newest = sorted(folded, key=lambda each: (each.first_at_us, each.burst_id))[::-1][:_MOST]
    return CameraActivity(
        "yard",
        camera,
        store.heartbeats.newest("yard", camera),
        tuple(BurstSpan(each.burst_id, each.first_at_us, each.last_at_us, each.received_at_us) for each in newest),
        next((head for head in store.cameras() if head.camera == camera), None),
        any(each.cause == "future" for each in facts),
        max((each.received_at_us for each in facts if each.status == "set_aside"), default=None),
    )


def statements(store: Store, ask: Callable[[], object]) -> int:
    """How many statements an answer takes."""
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        asked.append(statement)

    listen(store._engine, "before_cursor_execute", note)
    ask()
    remove(store._engine, "before_cursor_execute", note)
    return len(asked)


@pytest.mark.parametrize("old", [0, 2])
def test_the_activities_of_all_cameras_are_those_of_each(
    tmp_path: Path, store: Store, clock: ManualClock, old: int
) -> None:
    yard, chance = Yard(tmp_path / "sites", store, clock, policy()), random.Random(old)
    for one in yard.walked(across, 12):
        yard.pipeline.process(one)
    if old:
        age(store, old)
    number = 100
    for camera, count in (("gate", 4), ("door", 9), ("shed", 2), ("lane", 1)):
        for step in range(count):
            is_far = chance.random() < 0.3
            at_s = chance.choice([-9 * DAY_S, -30.0, 3500.0, 3601.5, 4200.0, 5 * 3600.0]) if is_far else 40.0 + 2 * step
            at_s += 0.25 * number
            images = [yard.picture(0.3, at_s=at_s + each) for each in range(4)]
            yard.pipeline.process(burst(number, images, at_s, camera=camera))
            clock.now_us += 1_000_000
            number += 1
    late = [yard.picture(at_s=-9 * DAY_S + each) for each in range(2)]
    assert yard.pipeline.process(burst(number, late, -9 * DAY_S, camera="door")).burst.status == "set_aside"
    ahead = [yard.picture(at_s=9 * 3600 + each) for each in range(2)]
    assert yard.pipeline.process(burst(number + 1, ahead, 9 * 3600, camera="shed")).burst.status == "held"
    store.heartbeats.keep(StoredHeartbeat("yard", "silent", START_US, START_US + 1, 0, "{}"))
    store.heartbeats.keep(StoredHeartbeat("yard", "gate", START_US, START_US + 1, 0, "{}"))
    for _ in range(2):  # the second time, it is remembered
        expected = [one_by_one(store, camera, clock.now_us) for camera in sorted(CAMERAS)]
        assert store.heartbeats.activities() == store.heartbeats.activities("yard") == expected
        clock.now_us += 700_000_000
    assert store.heartbeats.activities("other") == []


def test_the_activities_of_more_cameras_take_no_more_statements(
    tmp_path: Path, store: Store, clock: ManualClock
) -> None:
    yard, took = Yard(tmp_path / "sites", store, clock, policy()), []
    for number, camera in enumerate(CAMERAS):
        for step in range(2):
            images = [yard.picture(at_s=2.0 * step + each / 2) for each in range(4)]
            yard.pipeline.process(burst(10 * number + step, images, 2.0 * step, camera=camera))
        store.heartbeats.activities()
        took.append(statements(store, store.heartbeats.activities))
    assert len(store.heartbeats.activities()) == len(CAMERAS)
    assert took == [took[0]] * len(CAMERAS)
    assert took[0] < 9


def rows_read(store: Store, ask: Callable[[], object]) -> int:
    """How many rows of bursts, and entries of their indexes, PostgreSQL reads for an answer."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_more: object) -> None:
        if statement.startswith("SELECT"):
            asked.append((statement, parameters))

    listen(store._engine, "before_cursor_execute", note)
    ask()
    remove(store._engine, "before_cursor_execute", note)

    def read(node: dict[str, Any]) -> int:
        passed = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        here = passed * node["Actual Loops"] if node.get("Relation Name") == "burst_records" else 0
        return int(here) + sum(map(read, node.get("Plans", ())))

    with store._engine.begin() as connection:
        plans = [
            connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).scalar_one()
            for statement, parameters in asked
        ]
    return sum(read(plan[0]["Plan"]) for plan in plans)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_postgresql_reads_few_bursts_however_many_there_are(tmp_path: Path, store: Store, clock: ManualClock) -> None:
    yard = Yard(tmp_path / "sites", store, clock, policy())
    for number, camera in enumerate(CAMERAS[:2]):
        yard.pipeline.process(burst(number, [yard.picture(0.3, at_s=number + 0.1)], number, camera=camera))
    earlier = (
        "INSERT INTO burst_records (id_key, camera, context, first_at_us, lasts_us, is_held, late, record) "
        "SELECT id_key + n, camera, context, first_at_us - 10000000::bigint * n, lasts_us, is_held, late, record "
        "FROM burst_records, generate_series(1, 3000) AS n"
    )
    with store._engine.begin() as connection:
        connection.exec_driver_sql(earlier)
        connection.exec_driver_sql("ANALYZE")
    assert rows_read(store, store.heartbeats.activities) < 300
    assert rows_read(store, lambda: store.heartbeats.activities("yard")) < 300
    assert rows_read(store, store.cameras) < 100
