"""Other shapes of the largest tables, over the same rows: bursts in partitions by time, and block ranges (BRIN).

The table as it is, and a copy in eight partitions of equal time: what a burst costs to insert, how it is found by its
id, its number and its camera, and what it costs to delete. Block ranges over instants: how large they are, and what the
newest events and the events of a stretch cost with them in place of the B-tree.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence

from sqlalchemy import Connection, Engine, text

from server.domain.times.clock import SECOND_US
from tests.benchmarks.fleet.databases import Postgresql

_PARTS = 8
_TRIED = 2000
_DELETED = 20_000
_SLICE = 50
_COLUMNS = "number, id_key, camera, context, first_at_us, lasts_us, is_held, late, record"


def _make_parts(connection: Connection, begin_us: int, lasts_us: int) -> None:
    run = connection.exec_driver_sql
    run("CREATE TABLE parted (LIKE burst_records) PARTITION BY RANGE (first_at_us)")
    step_us = lasts_us // _PARTS
    for number in range(_PARTS):
        since_us = begin_us + number * step_us if number else -(2**62)
        until_us = begin_us + (number + 1) * step_us if number < _PARTS - 1 else 2**62
        run(f"CREATE TABLE part_{number} PARTITION OF parted FOR VALUES FROM ({since_us}) TO ({until_us})")
    run(f"INSERT INTO parted ({_COLUMNS}) SELECT {_COLUMNS} FROM burst_records ORDER BY number")
    run("ALTER TABLE parted ADD PRIMARY KEY (number, first_at_us)")
    run("CREATE INDEX ON parted (id_key)")
    run("CREATE INDEX ON parted (camera, first_at_us)")
    run("CREATE INDEX ON parted (late, camera, number) WHERE is_held = 1")


def _deleted(table: str, engine: Engine, numbers: Sequence[int]) -> None:
    """As retention deletes: some bursts of one camera in a transaction."""
    for first in range(0, len(numbers), _SLICE):
        with engine.begin() as connection:
            these = list(numbers[first : first + _SLICE])
            connection.execute(text(f"DELETE FROM {table} WHERE number = ANY(:these)"), {"these": these})


def _works(table: str, engine: Engine, begin_us: int, lasts_us: int) -> dict[str, tuple[Callable[[], None], int]]:
    """What is tried on a table, and how many times each does it."""
    chance = random.Random(1)
    with engine.connect() as connection:
        there = connection.execute(text("SELECT count(*) FROM burst_records")).scalar_one()
        every_nth = text(f"SELECT {_COLUMNS} FROM burst_records WHERE number % :nth = 0 LIMIT {_TRIED}")
        some = connection.execute(every_nth, {"nth": max(1, there // _TRIED - 1)}).all()
        oldest = text(
            f"SELECT number FROM burst_records WHERE first_at_us < :until_us "
            f"ORDER BY camera, first_at_us LIMIT {_DELETED}"
        )
        numbers = connection.execute(oldest, {"until_us": begin_us + lasts_us // _PARTS}).scalars().all()
    newest_us = begin_us + lasts_us

    def insert() -> None:
        row = text(
            f"INSERT INTO {table} ({_COLUMNS}) VALUES (:number, :id_key, :camera, :context, :first_at_us, :lasts_us, "
            ":is_held, :late, :record)"
        )
        for place, each in enumerate(some):
            with engine.begin() as connection:
                connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
                new = {"number": 10**9 + place, "id_key": 2**61 + place, "first_at_us": newest_us + place}
                connection.execute(row, {**each._mapping, **new})

    def find(where: str, give: Callable[[object], dict[str, object]]) -> Callable[[], None]:
        query = text(f"SELECT number, record FROM {table} WHERE {where}")

        def work() -> None:
            with engine.connect() as connection:
                for each in some:
                    connection.execute(query, give(each)).all()

        return work

    def newest() -> None:
        query = text(
            f"SELECT max(first_at_us + lasts_us) FROM {table} WHERE camera = :camera AND is_held = 0 "
            "AND first_at_us > :since_us"
        )
        with engine.connect() as connection:
            for each in some:
                since_us = newest_us - chance.randrange(60) * SECOND_US
                connection.execute(query, {"camera": each.camera, "since_us": since_us}).scalar_one()

    return {
        "insert a burst": (insert, len(some)),
        "find a burst by its id": (find("id_key = :id_key", lambda row: {"id_key": row.id_key}), len(some)),  # type: ignore[attr-defined]
        "find a burst by its number": (find("number = :number", lambda row: {"number": row.number}), len(some)),  # type: ignore[attr-defined]
        "the newest burst of a camera": (newest, len(some)),
        f"delete a burst, {_SLICE} at a time": (lambda: _deleted(table, engine, numbers), len(numbers)),
    }


def shapes(engine: Engine, database: Postgresql, begin_ms: int, lasts_s: int) -> Iterator[str]:
    """The table as it is, and a copy in partitions; then block ranges. The database is of no use afterwards."""
    begin_us, lasts_us = 1000 * begin_ms, lasts_s * SECOND_US
    with engine.begin() as connection:
        _make_parts(connection, begin_us, lasts_us)
    _vacuum(engine, "VACUUM ANALYZE burst_records", "VACUUM ANALYZE parted")
    for table in ("burst_records", "parted"):
        for name, (work, count) in _works(table, engine, begin_us, lasts_us).items():
            cpu_s, log = database.cpu_s(), database.log_bytes()
            work()
            cpu_s, log = database.cpu_s() - cpu_s, database.log_bytes() - log
            yield f"{table}: {name}: {1e6 * cpu_s / count:.0f} us of CPU of PostgreSQL, {log / count:.0f} bytes of log"
    yield from _emptied(engine, database)
    yield from _block_ranges(engine, database)


def _emptied(engine: Engine, database: Postgresql) -> Iterator[str]:
    """What is left to do after rows are deleted, and a partition that is dropped instead."""
    for table in ("burst_records", "part_0"):
        cpu_s, log, begun_s = database.cpu_s(), database.log_bytes(), time.monotonic()
        _vacuum(engine, f"VACUUM {table}")
        yield (
            f"{table}: vacuum after it: {database.cpu_s() - cpu_s:.2f} s of CPU, {time.monotonic() - begun_s:.1f} s, "
            f"{(database.log_bytes() - log) / 1e6:.1f} MB of log"
        )
    with engine.begin() as connection:
        count = connection.exec_driver_sql("SELECT count(*) FROM part_1").scalar_one()
        cpu_s, begun_s = database.cpu_s(), time.monotonic()
        connection.exec_driver_sql("DROP TABLE part_1")
    yield f"a partition of {count} bursts is dropped in {time.monotonic() - begun_s:.2f} s"
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE parted")


def _block_ranges(engine: Engine, database: Postgresql) -> Iterator[str]:
    """The events' indexes of instants as block ranges, on a copy."""
    with engine.begin() as connection:
        run = connection.exec_driver_sql
        run("CREATE TABLE told AS SELECT * FROM events ORDER BY confirmed_at_us")
        run("CREATE INDEX told_started ON told USING brin (started_at_us) WITH (pages_per_range = 16)")
        run("CREATE INDEX told_confirmed ON told USING brin (confirmed_at_us) WITH (pages_per_range = 16)")
        run("CREATE INDEX brin_bursts ON burst_records USING brin (first_at_us)")
        names = "'told_started', 'ix_events_started', 'told_confirmed', 'ix_events_confirmed', 'brin_bursts'"
        query = f"SELECT relname, pg_relation_size(oid) FROM pg_class WHERE relname IN ({names}) ORDER BY 1"
        yield ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in run(query))
        run("DROP INDEX brin_bursts")
    _vacuum(engine, "VACUUM ANALYZE told")
    asked = {
        "the newest 100 events": "SELECT * FROM {} ORDER BY started_at_us DESC LIMIT 100",
        "events of ten minutes": "SELECT * FROM {} WHERE confirmed_at_us BETWEEN (SELECT max(confirmed_at_us) FROM {}) "
        "- 7200000000 AND (SELECT max(confirmed_at_us) FROM {}) - 6600000000",
    }
    for name, query in asked.items():
        for table, kind in (("events", "B-tree"), ("told", "block ranges")):
            with engine.connect() as connection:
                statement = query.replace("{}", table)
                cpu_s = database.cpu_s()
                for _ in range(5):
                    connection.exec_driver_sql(statement).all()
                yield f"{name}, {kind}: {1000 * (database.cpu_s() - cpu_s) / 5:.1f} ms of CPU of PostgreSQL"
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE told")


def _vacuum(engine: Engine, *statements: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
