"""Copies a SQLite database, at one instant, while servers write to it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import Engine

from server.domain.atomic_files import replacing
from server.domain.errors import ConfigurationError, Conflict
from server.store.engine import BUSY_TIMEOUT_S, sqlite_file


def backup(engine: Engine, file: Path) -> None:
    """Write the copy to `file`, which appears once it is complete and on the disk.

    Raises ConfigurationError for a database other than SQLite, a missing one, or a copy that cannot be written, and
    Conflict for a file that exists.
    """
    source = sqlite_file(engine)
    if source is None:
        raise ConfigurationError("only SQLite is copied here; for PostgreSQL use pg_dump")
    if not source.is_file():
        raise ConfigurationError(f"there is no database {source}")
    if file.exists():
        raise Conflict(f"{file} is there already; it is not written over")
    try:
        with replacing(file) as aside, closing(sqlite3.connect(source, timeout=BUSY_TIMEOUT_S)) as connection:
            connection.execute("VACUUM INTO ?", (str(aside),))
    except (sqlite3.Error, OSError) as error:
        raise ConfigurationError(f"no copy was made: {error}") from error
