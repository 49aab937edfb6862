"""Whether a SQLite database is whole, by SQLite's own checks, in bounded time."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, exc

from server.domain.errors import DatabaseDamaged
from server.store.engine import reading, sqlite_file

_MOST = 100_000
_UNUSED = "never used"
"""Of a page that belongs to nothing: lost space, and no damage."""
_OPERATIONS = 10_000
"""SQLite's steps between two looks at the clock."""
_THOROUGH = 20
"""So many times as long as `quick_check` may `integrity_check` take."""


@dataclass(frozen=True, slots=True)
class Integrity:
    """The faults that were found, and in words what was checked. None of both for an engine that checks itself."""

    faults: tuple[str, ...]
    checked: str


def check_integrity(engine: Engine, within_s: float = math.inf) -> Integrity | None:
    """SQLite's `quick_check` and, where it ends in `within_s` too, `integrity_check`, which also compares indexes.

    None for PostgreSQL. Raises what `reading` does.
    """
    file = sqlite_file(engine)
    if file is None:
        return None
    begun_s = time.monotonic()
    try:
        with reading(engine) as connection:
            faults = _faults(connection, "quick_check", within_s)
            took_s = time.monotonic() - begun_s
            left_s = within_s - took_s
            if faults is None:
                return Integrity((), f"quick_check did not end within {within_s:.0f} s")
            if faults or _THOROUGH * took_s > left_s:
                return Integrity(faults, _named("quick_check", file))
            thorough = _faults(connection, "integrity_check", left_s)
            if thorough is None:
                return Integrity((), _named("quick_check", file))
            return Integrity(thorough, _named("integrity_check", file))
    except DatabaseDamaged as error:
        return Integrity((str(getattr(error.__cause__, "orig", error.detail)),), "the schema")


def _named(check: str, file: Path) -> str:
    size = f"{check} of {file.stat().st_size / 1e6:.1f} MB"
    return size if check == "integrity_check" else f"{size}; indexes: `sectorwatch db check`"


def _faults(connection: Connection, check: str, within_s: float) -> tuple[str, ...] | None:
    """The faults that a check finds; None where it does not end in time."""
    driver: Any = connection.connection.driver_connection
    end_s = time.monotonic() + within_s
    driver.set_progress_handler(lambda: time.monotonic() > end_s, _OPERATIONS)
    try:
        rows = connection.exec_driver_sql(f"PRAGMA {check}({_MOST})").scalars().all()
    except exc.OperationalError as error:
        if getattr(error.orig, "sqlite_errorname", "") == "SQLITE_INTERRUPT":
            return None
        raise
    finally:
        driver.set_progress_handler(None, 0)
    lines = [line.strip() for row in rows for line in str(row).splitlines()]
    return tuple(line for line in lines if line not in ("ok", "*** in database main ***") and _UNUSED not in line)
