"""Copies of a SQLite database, made while servers write to it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlalchemy import Engine

from server.domain.errors import ConfigurationError, Conflict, DatabaseDamaged
from server.domain.files.atomic_files import replacing
from server.domain.files.private_files import PRIVATE_FILE
from server.store.care.integrity import check_integrity
from server.store.engine import BUSY_TIMEOUT_S, sqlite_file
from server.store.sqlite_files import connect_to_read, is_read_only

CHECK_S = 600.0
"""How long a copy may wait for the check of its source."""


def copy_sqlite(engine: Engine, file: Path) -> str:
    """Copy a SQLite database, at one instant, while servers write to it. The copy appears as `file` once it is
    complete and on the disk, for its user only. Returns what was checked before.

    Raises ConfigurationError for a database other than SQLite, a missing one, or a copy that cannot be written,
    DatabaseDamaged, and Conflict for a file that exists.
    """
    source = sqlite_file(engine)
    if source is None:
        raise ConfigurationError("only SQLite is copied here; for PostgreSQL use pg_dump")
    if not source.is_file():
        raise ConfigurationError(f"there is no database {source}")
    if file.exists():
        raise Conflict(f"{file} is there already; it is not written over")
    integrity = check_integrity(engine, CHECK_S)
    assert integrity is not None
    if integrity.faults:
        raise DatabaseDamaged(
            f"no copy was made: {source} is damaged ({integrity.faults[0]}): `sectorwatch doctor` names the way back"
        )
    try:
        with replacing(file, PRIVATE_FILE) as aside:
            vacuum_into(source, aside)
    except (sqlite3.Error, OSError) as error:
        raise ConfigurationError(f"no copy was made: {error}") from error
    return integrity.checked


def vacuum_into(source: Path, target: Path) -> None:
    """Write all of a database into an empty file, without free pages. Raises sqlite3.Error."""
    connection = (
        connect_to_read(source, BUSY_TIMEOUT_S)
        if is_read_only(source)
        else sqlite3.connect(source, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    )
    try:
        connection.execute("PRAGMA query_only = OFF")
        connection.execute("VACUUM INTO ?", (str(target),))
    finally:
        connection.close()
