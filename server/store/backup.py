"""A copy of a SQLite database while servers write to it: one moment of it, whole."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import Engine

from server.domain.errors import ConfigurationError, Conflict
from server.store.engine import BUSY_TIMEOUT_S, sqlite_file


def backup(engine: Engine, file: Path) -> None:
    """Write the copy to `file`, which appears once it is complete and on the disk.

    Raises ConfigurationError for another database, which has a program of its own for that, and where there is nothing
    to copy or no room for the copy; Conflict for a file that is there already.
    """
    source = sqlite_file(engine)
    if source is None:
        raise ConfigurationError("only SQLite is copied here; for PostgreSQL use pg_dump")
    if not source.is_file():
        raise ConfigurationError(f"there is no database {source}")
    if file.exists():
        raise Conflict(f"{file} is there already; it is not written over")
    partial = file.with_name(f"{file.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(source, timeout=BUSY_TIMEOUT_S)) as connection:
            connection.execute("VACUUM INTO ?", (str(partial),))
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        partial.replace(file)
    except (sqlite3.Error, OSError) as error:
        raise ConfigurationError(f"no copy was made: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
