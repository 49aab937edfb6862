"""The files of a SQLite database: who may read and write them, and reading them where nobody may write."""

from __future__ import annotations

import os
import pwd
import shutil
import sqlite3
import tempfile
from pathlib import Path

BESIDE = ("-wal", "-shm")
"""Ends of the names of the files that SQLite keeps beside a database: its log, and the index of the log."""


def beside(file: Path, end: str) -> Path:
    return file.with_name(file.name + end)


def is_read_only(file: Path) -> bool:
    """Whether there is a database that this process may read, and not write: its folder, too, must be written."""
    return os.access(file, os.R_OK) and not all(os.access(path, os.W_OK) for path in (file, file.parent))


def access_fault(file: Path) -> str | None:
    """Why this process cannot open or write a database that is there, and what mends it; None where it can."""
    needed = os.R_OK | os.W_OK
    there = [path for path in (file, *(beside(file, end) for end in BESIDE)) if path.exists()]
    for path in there:
        if not os.access(path, needed):
            verb = "written" if os.access(path, os.R_OK) else "read"
            return (
                f"{path} cannot be {verb} by {_name(os.geteuid())}; it belongs to {_name(path.stat().st_uid)}: "
                "run this as that user, or `chown` the database's files"
            )
    if there and not os.access(file.parent, needed | os.X_OK):
        return (
            f"the folder {file.parent} cannot be written by {_name(os.geteuid())}, and SQLite writes its log there: "
            "run this as the user of the server"
        )
    return None


def is_cut_off(file: Path) -> bool:
    """Whether the file is empty beside a log that is not: SQLite would throw the log away."""
    log = beside(file, "-wal")
    return file.stat().st_size == 0 and log.exists() and log.stat().st_size > 0


def set_page_layout(connection: sqlite3.Connection) -> None:
    """Choose size and order of the pages. Only a new file takes them."""
    # A quiet burst changes a few hundred bytes in each of a few pages: half of SQLite's page halves what is written.
    connection.execute("PRAGMA page_size = 2048")
    if connection.execute("PRAGMA page_count").fetchone() == (0,):  # it would write to a file that is not new
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # server.store.retention gives space back


def prepare_to_write(connection: sqlite3.Connection) -> None:
    """Make a new connection one that writes to a write-ahead log, and begins transactions only when it is told to."""
    connection.isolation_level = None  # the driver's own BEGIN is late and never IMMEDIATE
    set_page_layout(connection)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 2000")
    # FULL: after a 201 the agent discards its copy, so the commit must be on the disk.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def connect_to_read(file: Path, timeout_s: float) -> sqlite3.Connection:
    """A connection that reads a database in which nothing can be written, all that is committed in its log included.

    SQLite reads a log only together with an index of it. Where that index is not there, or cannot be used, a log that
    holds something is read from a copy of both files, which is gone when the connection is. Raises sqlite3.Error.
    """
    log = beside(file, "-wal")
    if not log.exists() or not log.stat().st_size:
        return _opened(file, timeout_s, "immutable=1" if not _has_index(file) else "mode=ro")
    try:
        return _opened(file, timeout_s, "mode=ro")
    except sqlite3.OperationalError:
        return _opened_copy(file, timeout_s)


def _has_index(file: Path) -> bool:
    return beside(file, "-shm").exists()


def _opened(file: Path, timeout_s: float, how: str) -> sqlite3.Connection:
    uri = f"{file.resolve().as_uri()}?{how}"
    connection = sqlite3.connect(uri, uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


class _OfCopy(sqlite3.Connection):
    """A connection to a database in a folder of its own, which goes when the connection does."""

    folder: tempfile.TemporaryDirectory[str]


def _opened_copy(file: Path, timeout_s: float) -> sqlite3.Connection:
    folder = tempfile.TemporaryDirectory(prefix="sectorwatch-read-")
    copy = Path(folder.name) / file.name
    for path in (file, beside(file, "-wal")):
        shutil.copyfile(path, copy.with_name(path.name))
    connection = sqlite3.connect(
        copy, timeout=timeout_s, isolation_level=None, check_same_thread=False, factory=_OfCopy
    )
    connection.folder = folder
    connection.execute("PRAGMA query_only = ON")
    return connection


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
