"""Saving what can be read of a damaged SQLite database, row by row, into a new one.

SQLite's own way is `.recover` of its command line program. Debian's program lacks it: its library is built without the
table of pages that `.recover` reads. Python's SQLite reads a damaged table from both sides of each damaged page, which
gives all rows but those on such a page, or below one that leads to others.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from server.domain.errors import ConfigurationError, Conflict
from server.domain.files.atomic_files import replacing
from server.domain.files.private_files import PRIVATE_FILE
from server.store.engine import BUSY_TIMEOUT_S
from server.store.sqlite_files import connect_to_read, set_page_layout

Row = tuple[object, ...]

_LAST = 2**63 - 1
_TRIES = 200_000
"""Most unreadable spans of one table that are looked into."""
_CHILDREN = {
    "observations": {"bursts"},
    "decisions": {"bursts"},
    "contexts": {"cameras", "panels", "policies"},
    "burst_records": {"cameras", "contexts"},
    "events": {"origins", "cameras"},
    "kept_frames": {"cameras"},
    "grants": {"users"},
    "sessions": {"users"},
}
"""Tables whose rows mean nothing without the rows of others that they refer to. Events stay without their burst."""
_NUMBERED = (
    ("outbox", "seq"),
    ("events", "seq"),
    ("notices", "seq"),
    ("channels", "delivered_seq"),
    ("dead_letters", "seq"),
)


@dataclass(frozen=True, slots=True)
class Saved:
    """The rows of a table that were saved, and how many an index of it counts; None where none can be read."""

    rows: int
    of: int | None


def salvage_sqlite(source: Path, target: Path) -> dict[str, Saved]:
    """Write what can be read of `source` into a new database. Returns what was saved of each table.

    Raises ConfigurationError where nothing can be read, and Conflict for a target that exists.
    """
    if target.exists():
        raise Conflict(f"{target} is there already; it is not written over")
    if not source.is_file():
        raise ConfigurationError(f"there is no database {source}")
    try:
        with (
            closing(connect_to_read(source, BUSY_TIMEOUT_S)) as old,
            replacing(target, PRIVATE_FILE) as aside,
            closing(sqlite3.connect(aside, isolation_level=None)) as new,
        ):
            set_page_layout(new)
            found = _schema(old)
            new.execute("BEGIN")
            saved = {name: _save_table(old, new, name, sql) for kind, name, sql in found if kind == "table"}
            for sql in (sql for kind, _, sql in found if kind == "index"):
                new.execute(sql)
            _name_cameras(old, new, saved)
            for name in (name for name in _CHILDREN if name in saved):
                saved[name] = replace(saved[name], rows=saved[name].rows - _drop_orphans(new, name))
            _forget_lost_bursts(new)
            _count_on(new)
            new.execute("COMMIT")
    except (sqlite3.Error, OSError) as error:
        raise ConfigurationError(f"nothing can be saved of {source} ({error}): restore a backup") from error
    return saved


def _schema(old: sqlite3.Connection) -> list[tuple[str, str, str]]:
    query = (
        "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
    )
    return old.execute(query).fetchall()


def _save_table(old: sqlite3.Connection, new: sqlite3.Connection, name: str, sql: str) -> Saved:
    new.execute(sql)
    rows = 0
    of, newest = _extent(old, name)
    for row in _rows(old, name, newest):
        with suppress(sqlite3.Error, UnicodeError):  # damage may have made it a row that the table cannot hold
            new.execute(f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(row))})', row)  # noqa: S608
            rows += 1
    return Saved(rows, of)


def _extent(old: sqlite3.Connection, name: str) -> tuple[int | None, int]:
    """How many rows a table has, and the largest number of one, which SQLite reads from an index where there is one."""
    try:
        count, newest = old.execute(f'SELECT count(*), max(rowid + 0) FROM "{name}"').fetchone()  # noqa: S608
    except sqlite3.DatabaseError:
        return None, _LAST
    return count, newest or 0


def _rows(old: sqlite3.Connection, name: str, newest: int) -> Iterator[Row]:
    """The rows of a table that can be read: from both ends, then in the same way from the middle of what is left."""
    spans, tries = [(1, newest)], 0
    while spans and tries < _TRIES:
        low, high = spans.pop()
        first, is_whole = low, True
        for order in ("ASC", "DESC"):
            is_whole = True
            for row in _read(old, name, low, high, order):
                if row is None:
                    is_whole = False
                    break
                low, high = (int(str(row[0])) + 1, high) if order == "ASC" else (low, int(str(row[0])) - 1)
                yield row[1:]
            if is_whole:
                break
        tries += low == first
        if not is_whole and low < high:
            middle = (low + high) // 2
            spans += [(middle + 1, high), (low, middle)]


def _read(old: sqlite3.Connection, name: str, low: int, high: int, order: str) -> Iterator[Row | None]:
    """Number and columns of the rows in a span, up to one that cannot be read, for which None is given."""
    query = f'SELECT rowid, * FROM "{name}" NOT INDEXED WHERE rowid BETWEEN ? AND ? ORDER BY rowid {order}'  # noqa: S608
    try:
        yield from old.execute(query, (low, high))
    except sqlite3.DatabaseError:
        yield None


def _name_cameras(old: sqlite3.Connection, new: sqlite3.Connection, saved: dict[str, Saved]) -> None:
    """Write cameras whose row is lost anew: an index has their names, and their bursts say how long these last."""
    if "cameras" not in saved or "burst_records" not in saved:
        return
    try:
        names = old.execute("SELECT number, site, camera FROM cameras INDEXED BY sqlite_autoindex_cameras_1").fetchall()
    except sqlite3.DatabaseError:
        return
    longest = "SELECT coalesce(max(lasts_us), 0) FROM burst_records WHERE camera = ?"
    anew = f"INSERT OR IGNORE INTO cameras (number, site, camera, longest_us) VALUES (?, ?, ?, ({longest}))"  # noqa: S608
    count = new.executemany(anew, [(*name, name[0]) for name in names]).rowcount
    saved["cameras"] = replace(saved["cameras"], rows=saved["cameras"].rows + count)


def _drop_orphans(new: sqlite3.Connection, name: str) -> int:
    """Remove rows that refer to a row that is lost; how many there were."""
    orphans = {(row[1],) for row in new.execute(f"PRAGMA foreign_key_check('{name}')") if row[2] in _CHILDREN[name]}
    new.executemany(f'DELETE FROM "{name}" WHERE rowid = ?', sorted(orphans))  # noqa: S608
    return len(orphans)


def _forget_lost_bursts(new: sqlite3.Connection) -> None:
    """Events stay without their bursts: `verify` says that they are not whole."""
    tables = {name for (name,) in new.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    columns = {row[1] for row in new.execute("PRAGMA table_info('events')")}
    if "burst_records" in tables and "burst" in columns:
        for column in ("burst", "before"):  # no record has the number 0
            new.execute(
                f'UPDATE events SET "{column}" = 0 WHERE "{column}" NOT IN (SELECT number FROM burst_records)'  # noqa: S608
            )


def _count_on(new: sqlite3.Connection) -> None:
    """Let announcements go on after the newest number that is known: clients remember it."""
    tables = {name for (name,) in new.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    newest = 0
    for table, column in _NUMBERED:
        columns = {row[1] for row in new.execute(f"PRAGMA table_info('{table}')")} if table in tables else set()
        if column in columns:
            query = f"SELECT coalesce(max({column}), 0) FROM {table}"  # noqa: S608
            newest = max(newest, new.execute(query).fetchone()[0])
    if "counters" in tables:
        new.execute("INSERT OR IGNORE INTO counters (name, value) VALUES ('outbox', 0)")
        new.execute("UPDATE counters SET value = max(value, ?) WHERE name = 'outbox'", (newest,))
