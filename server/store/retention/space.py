"""How much room the database takes, how it grows, how it is given back, and whether the disk takes anything."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing

from sqlalchemy import Connection, Engine, delete, func, insert, select, text

from server.domain.errors import ConfigurationError, DatabaseDamaged, DatabaseUnavailable, RetryLater
from server.domain.keeping import DAY_US, Space
from server.domain.times.clock import SECOND_US
from server.store.engine import BUSY_TIMEOUT_S, is_damage, reading, refusal, sqlite_file, takes, took_ago_s, writing
from server.store.schema import removals, space_samples

log = logging.getLogger(__name__)

INCREMENTAL = 2
_HOUR_US = 3600 * SECOND_US
_RATE_US = 7 * DAY_US
_SAMPLES_US = 30 * DAY_US
_RESERVE = 500
"""Free pages that stay in the file: new rows take them."""
_PAGES = 200
_LEAST_BYTES = 64 * 1024
"""A disk with less takes no burst, whatever room the write-ahead log may still have."""
_PROBE_BYTES = 64 * 1024
_PROBE_EVERY_S = 8.0
SMALL_BYTES = 64 * 1024 * 1024


def read_space(engine: Engine) -> Space:
    """The room of the database now, and its growth in the last week."""
    with reading(engine) as connection:
        used, reusable, gives_back = _sizes(connection)
        newest = connection.execute(select(func.max(space_samples.c.at_us))).scalar_one()
        rate = None if newest is None else _rate(connection, newest)
    file = sqlite_file(engine)
    if file is None:
        return Space(used, reusable, None, None, rate, gives_back)
    disk = shutil.disk_usage(file.parent)
    return Space(used, reusable, disk.free + reusable, disk.total, rate, gives_back)


def sample(engine: Engine, now_us: int, more_bytes: int = 0) -> None:
    """Note the size once an hour, with `more_bytes` beside the database, for the growth; samples of last month are
    dropped.
    """
    with reading(engine) as connection:
        newest = connection.execute(select(func.max(space_samples.c.at_us))).scalar_one()
        used, _, _ = _sizes(connection)
    if newest is not None and newest <= now_us < newest + _HOUR_US:
        return
    with writing(engine, lock="space") as connection:
        outdated = (space_samples.c.at_us < now_us - _SAMPLES_US) | (space_samples.c.at_us >= now_us)
        connection.execute(delete(space_samples).where(outdated))  # also those of a clock that was set back since
        connection.execute(insert(space_samples), {"at_us": now_us, "used_bytes": used + more_bytes})


def give_back(engine: Engine, is_stopped: Callable[[], bool], wait: Callable[[float], object]) -> int:
    """Let a SQLite file shrink by its free pages, some at a time; how many pages went. PostgreSQL does so by itself."""
    if engine.dialect.name != "sqlite":
        return 0
    given = 0
    while not is_stopped():
        with reading(engine) as connection:
            mode, free = _pragma(connection, "auto_vacuum"), _pragma(connection, "freelist_count")
        if mode != INCREMENTAL or free <= _RESERVE:
            break
        with writing(engine, lock="space") as connection:
            pages = min(_PAGES, free - _RESERVE)
            driver = connection.connection.driver_connection  # SQLAlchemy takes one step of it, and one page goes
            assert isinstance(driver, sqlite3.Connection)
            try:
                driver.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
            except sqlite3.DatabaseError as error:  # a damaged page that nothing uses (`server.store.care.derived`)
                if not is_damage(error):
                    raise
                log.warning("free pages stay in the file: sectorwatch db compact", extra={"cause": str(error)})
                break
        given += pages
        wait(0.05)
    return given


def compact(engine: Engine) -> None:
    """Write a SQLite file anew, without free pages; from then on it shrinks by itself. Nobody else writes meanwhile.

    Raises ConfigurationError for another database, DatabaseDamaged, and DatabaseUnavailable where there is no room, or
    no quiet moment.
    """
    file = sqlite_file(engine)
    if file is None:
        raise ConfigurationError("only SQLite is compacted here; PostgreSQL does so by itself (autovacuum)")
    try:
        with closing(sqlite3.connect(file, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        if is_damage(error):
            raise DatabaseDamaged(f"the database was not compacted, as it is damaged ({error})") from error
        raise DatabaseUnavailable(f"the database was not compacted ({error}); nothing was changed") from error


def is_compactable(engine: Engine) -> bool:
    """Whether it is a small SQLite file of an earlier version, which does not shrink and is quickly written anew."""
    file = sqlite_file(engine)
    if file is None or not file.is_file() or file.stat().st_size > SMALL_BYTES:
        return False
    with reading(engine) as connection:
        return _pragma(connection, "auto_vacuum") != INCREMENTAL


def forget_log(engine: Engine) -> None:
    """Empty SQLite's write-ahead log, which may hold pages of before; as far as readers allow."""
    file = sqlite_file(engine)
    if file is not None:
        with closing(sqlite3.connect(file, timeout=BUSY_TIMEOUT_S)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def check_disk(engine: Engine) -> None:
    """Raises DatabaseUnavailable while the disk takes nothing, as far as the last write and the free space tell."""
    if (why := refusal(engine)) is not None:
        raise DatabaseUnavailable(f"the database cannot be written ({why}): no burst is accepted")
    file = sqlite_file(engine)
    folder = None if file is None else next((f for f in file.absolute().parents if f.is_dir()), None)
    if folder is not None and shutil.disk_usage(folder).free < _LEAST_BYTES:
        raise DatabaseUnavailable(f"the disk of {folder} is full: no burst is accepted")


def try_disk(engine: Engine) -> None:
    """Write something as a burst would, and delete it, so that `check_disk` knows; not where a burst has just shown it.

    A lock that is held tells nothing.
    """
    if refusal(engine) is None and took_ago_s(engine) < _PROBE_EVERY_S:
        return
    try:
        with writing(engine, lock="space") as connection:
            row = {"site": "", "camera": "", "until_us": -(2**62), "state": " " * _probe_bytes(engine)}
            connection.execute(insert(removals), row)
            connection.execute(delete(removals).where(removals.c.site == "", removals.c.camera == ""))
    except RetryLater:
        return
    takes(engine)


def _probe_bytes(engine: Engine) -> int:
    """After a refusal it must find room for new pages; else a small row shows enough, and wears the disk less."""
    return 1 if refusal(engine) is None else _PROBE_BYTES


def _sizes(connection: Connection) -> tuple[int, int, bool]:
    """Bytes in use, bytes of free pages, and whether these are given back."""
    if connection.dialect.name == "postgresql":
        used = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
        return int(used), 0, True
    page = _pragma(connection, "page_size")
    free = _pragma(connection, "freelist_count")
    used = (_pragma(connection, "page_count") - free) * page
    return used, free * page, _pragma(connection, "auto_vacuum") == INCREMENTAL


def _pragma(connection: Connection, name: str) -> int:
    return int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())


def _rate(connection: Connection, newest_us: int) -> float | None:
    """Growth in bytes a day since the oldest sample of the last week; None where there is none of an hour ago."""
    first = connection.execute(
        select(space_samples.c.at_us, space_samples.c.used_bytes)
        .where(space_samples.c.at_us >= newest_us - _RATE_US)
        .order_by(space_samples.c.at_us)
        .limit(1)
    ).one()
    last = connection.execute(select(space_samples.c.used_bytes).where(space_samples.c.at_us == newest_us)).scalar_one()
    span_us = newest_us - first.at_us
    return None if span_us < _HOUR_US else (last - first.used_bytes) / span_us * DAY_US
