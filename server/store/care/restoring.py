"""Putting a backup in the place of a SQLite database. The database of before is kept beside it, whole."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from server.domain.errors import ConfigurationError, Conflict
from server.domain.files.atomic_files import replacing
from server.domain.files.private_files import PRIVATE_FILE, PRIVATE_FOLDER
from server.store.care.copying import vacuum_into
from server.store.sqlite_files import BESIDE, beside

_RUNS = "is in use: stop the server (`sudo systemctl stop sectorwatch`), and other commands on it, then try again"


def restore_sqlite(backup: Path, file: Path) -> Path | None:
    """Put a checked backup in the place of the database `file`. Returns where the database of before is now.

    A copy of the backup is made first, so a full disk changes nothing. At any instant there is a whole database at
    `file`, or what was there. It belongs to the user of the one before, or of the folder. Raises Conflict while another
    process has it open, and ConfigurationError.
    """
    try:
        file.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        with _alone(file), replacing(file, PRIVATE_FILE) as aside:
            vacuum_into(backup, aside)
            _give_to_owner(aside, file)
            return _keep_aside(file)
    except (sqlite3.Error, OSError) as error:
        raise ConfigurationError(f"{file} was not replaced: {error}") from error


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Makes sure that no other process has the database open, and that what is in its log is in the file.

    A process that has a database open holds a shared lock on its file, which a writer without a log excludes. A file
    that is no database is open to nobody.
    """
    if file.exists():
        with closing(sqlite3.connect(file, timeout=0.0, isolation_level=None)) as connection:
            try:
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                connection.execute("BEGIN EXCLUSIVE")
                connection.execute("ROLLBACK")
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorname.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                    raise Conflict(f"{file} {_RUNS}") from None
    yield


def _give_to_owner(aside: Path, file: Path) -> None:
    """The file's owner is who owned the database before: an administrator may restore it for the server's user."""
    before = (file if file.exists() else file.parent).stat()
    if os.geteuid() == 0:
        os.chown(aside, before.st_uid, before.st_gid)


def _keep_aside(file: Path) -> Path | None:
    """Give the database and its log other names. The file itself also stays until the new one takes its place."""
    if not file.exists():
        for end in BESIDE:  # the log of a database that is gone would be taken for the new one's
            if beside(file, end).exists():
                beside(file, end).rename(_free_name(file, end))
        return None
    kept = _free_name(file, "")
    _link(file, kept)
    for end in BESIDE:
        if beside(file, end).exists():
            _link(beside(file, end), beside(kept, end))
            beside(file, end).unlink()
    return kept


def _free_name(file: Path, end: str) -> Path:
    at, number = datetime.now(UTC), 0
    while True:
        more = f"-{number}" if number else ""
        name = file.with_name(f"{file.name}.before-{at:%Y%m%dT%H%M%SZ}{more}{end}")
        if not name.exists():
            return name
        number += 1


def _link(file: Path, name: Path) -> None:
    """A second name for a file or, on a file system that has no such names, a copy."""
    with suppress(OSError):
        os.link(file, name)
        return
    shutil.copy2(file, name)
