"""Connections to the database, and the one thing the two databases do differently: how a turn locks."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from server.domain.errors import ConfigurationError, DatabaseUnavailable, RetryLater, Unprocessable

BUSY_TIMEOUT_S = 30.0
"""How long a turn waits for another's."""

IDLE_TIMEOUT_S = 60.0
"""How long PostgreSQL lets a turn say nothing: a server that was paused in the middle of one must not hold up all."""

_WRITES = "sectorwatch_writes"

_BOUNDS = text(
    "SELECT set_config('lock_timeout', :busy, true), set_config('idle_in_transaction_session_timeout', :idle, true)"
)

# A database whose machine is gone says nothing: libpq would wait two minutes for a connection, and a quarter of an hour
# for an answer. What the URL says counts instead.
_PATIENCE = {
    "connect_timeout": 10,  # s
    "tcp_user_timeout": 20_000,  # ms
    "keepalives_idle": 10,  # s
    "keepalives_interval": 5,  # s
    "keepalives_count": 3,
}


def open_engine(url: str) -> Engine:
    """An engine for `url` (sqlite:///... or postgresql://...); connects to nothing yet. Raises ConfigurationError."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError(f"not a database URL: {error}") from None
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    if parsed.get_backend_name() == "postgresql":
        return _postgresql(parsed)
    raise ConfigurationError(f"no database `{parsed.get_backend_name()}` here: use sqlite:///PATH or postgresql://...")


def sqlite_file(engine: Engine) -> Path | None:
    """The file of a SQLite database; None for another engine."""
    return Path(engine.url.database) if engine.dialect.name == "sqlite" and engine.url.database else None


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees one moment of the database (SQLite) or what is committed (PostgreSQL)."""
    with _answering(), engine.begin() as connection:
        yield connection


@contextmanager
def writing(engine: Engine, lock: str) -> Iterator[Connection]:
    """A transaction that nobody else runs at once under the same `lock`; committed as a whole or not at all.

    SQLite has one writer: BEGIN IMMEDIATE takes its place at the start, so nothing read inside can be outdated.
    PostgreSQL takes a lock on the name, until commit. Nobody waits longer than BUSY_TIMEOUT_S for his place. Both here
    raise RetryLater when the database does not answer, Unprocessable for a value that it has no room for (a number of
    more than 64 bits; on PostgreSQL a text with a NUL), and ConfigurationError for what is no database, is damaged, or
    is not ours to use.
    """
    with _answering(), engine.connect() as connection:
        connection = connection.execution_options(**{_WRITES: True})
        with connection.begin():
            if connection.dialect.name == "postgresql":
                connection.execute(_BOUNDS, {"busy": _ms(BUSY_TIMEOUT_S), "idle": _ms(IDLE_TIMEOUT_S)})
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _lock_key(lock)})
            yield connection


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, InternalError) as error:  # the last: PostgreSQL's, one that only reads
        raise DatabaseUnavailable(f"the database does not answer ({_line(error.orig)}); nothing was changed") from error
    except NoConnectionFree as error:
        raise RetryLater("all connections to the database are in use; nothing was changed") from error
    except (DataError, OverflowError) as error:
        cause = error.orig if isinstance(error, DataError) else error
        raise Unprocessable(f"the database cannot hold this ({_line(cause)}); nothing was changed") from error
    except IntegrityError:
        raise
    except DatabaseError as error:
        raise ConfigurationError(f"the database cannot be used ({_line(error.orig)}); nothing was changed") from error


def _line(error: BaseException | None) -> str:
    return " ".join(str(error).split())


def _ms(seconds: float) -> str:
    return f"{round(1000 * seconds)}ms"


def _lock_key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def _sqlite(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ConfigurationError("SQLite in memory keeps nothing: give a file, sqlite:///PATH")
    # As many connections as threads ask for: those who wait to write must not keep the others from reading.
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, max_overflow=-1)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # the driver's own BEGIN comes too late and is never IMMEDIATE
    connection.execute("PRAGMA journal_mode = WAL")
    # FULL: an answer of 201 makes the agent discard its copy, so the commit must be on the disk before it.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgresql(url: URL) -> Engine:
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    try:
        unsaid = {key: value for key, value in _PATIENCE.items() if key not in url.query}
        return create_engine(url, pool_pre_ping=True, connect_args=unsaid)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise ConfigurationError(f"{error}: install sectorwatch[postgres]") from None
