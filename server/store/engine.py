"""Connections to the database, and how a turn locks: the only thing that the two databases do differently."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url, text

from server.domain.atomic_files import replacing
from server.domain.errors import ConfigurationError, Conflict, DatabaseUnavailable, RetryLater, Unprocessable

BUSY_TIMEOUT_S = 30.0
"""How long a transaction waits for another."""

IDLE_TIMEOUT_S = 60.0
"""How long PostgreSQL allows an idle transaction: a server paused in the middle of one must not block all."""

_SHARE = 0.2
_WRITES = "sectorwatch_writes"

_BOUNDS = text(
    "SELECT set_config('lock_timeout', :busy, true), set_config('idle_in_transaction_session_timeout', :idle, true)"
)

# When the database's machine is gone, libpq waits two minutes for a connection and a quarter of an hour for an answer.
# Values in the URL override these.
_TIMEOUTS = {
    "connect_timeout": 10,  # s
    "tcp_user_timeout": 20_000,  # ms
    "keepalives_idle": 10,  # s
    "keepalives_interval": 5,  # s
    "keepalives_count": 3,
}


def open_engine(url: str) -> Engine:
    """An engine for `url` (sqlite:///... or postgresql://...), not yet connected. Raises ConfigurationError."""
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError) as error:
        raise ConfigurationError(f"not a database URL: {error}") from None
    if "@" in (parsed.host or ""):  # a part of the password would be shown as the host's name
        raise ConfigurationError(
            "database_url cannot be taken apart: in user and password write @ as %40, / as %2F, ? as %3F, # as %23, "
            ": as %3A and % as %25"
        )
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    if parsed.get_backend_name() == "postgresql":
        return _postgresql(parsed)
    raise ConfigurationError(f"no database `{parsed.get_backend_name()}` here: use sqlite:///PATH or postgresql://...")


def shown_url(engine: Engine) -> str:
    """The database's URL without passwords."""
    return engine.url.difference_update_query(["password", "sslpassword"]).render_as_string(hide_password=True)


def sqlite_file(engine: Engine) -> Path | None:
    """The file of a SQLite database; None for another engine."""
    return Path(engine.url.database) if engine.dialect.name == "sqlite" and engine.url.database else None


def copy_sqlite(engine: Engine, file: Path) -> None:
    """Copy a SQLite database, at one instant, while servers write to it. The copy appears as `file` once it is
    complete and on the disk.

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


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees one instant of the database."""
    with _translated_errors(), engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection


@contextmanager
def writing(engine: Engine, lock: str) -> Iterator[Connection]:
    """A transaction that excludes others with the same `lock`. It is committed as a whole or not at all.

    SQLite has one writer: BEGIN IMMEDIATE locks at the start, so nothing read inside is outdated. PostgreSQL locks the
    name until the commit. A transaction waits at most BUSY_TIMEOUT_S for its lock. Both kinds of transaction raise
    RetryLater when the database does not answer, Unprocessable for a value that it cannot store (a number of more than
    64 bits; on PostgreSQL a text with a NUL), and ConfigurationError for a file that is no database, damaged or not
    accessible.
    """
    with _translated_errors(), engine.connect() as connection:
        connection = connection.execution_options(**{_WRITES: True})
        with connection.begin():
            if connection.dialect.name == "postgresql":
                connection.execute(_BOUNDS, {"busy": _ms(BUSY_TIMEOUT_S), "idle": _ms(IDLE_TIMEOUT_S)})
                also_lock(connection, lock)
            yield connection


def also_lock(connection: Connection, name: str) -> None:
    """Within `writing`: exclude others with this name too, until the commit. On SQLite nobody else writes anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _lock_key(name)})


def leave_to_others(wait: Callable[[float], object], begun_s: float) -> None:
    """Wait so long that what was done since `begun_s` (of time.monotonic) took a fifth of the time."""
    wait((time.monotonic() - begun_s) * (1 / _SHARE - 1))


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except (exc.OperationalError, exc.InterfaceError, exc.InternalError) as error:  # the last: a read-only PostgreSQL
        raise DatabaseUnavailable(f"the database does not answer ({_line(error.orig)}); nothing was changed") from error
    except exc.TimeoutError as error:
        raise RetryLater("all connections to the database are in use; nothing was changed") from error
    except (exc.DataError, OverflowError) as error:
        cause = error.orig if isinstance(error, exc.DataError) else error
        raise Unprocessable(f"the database cannot hold this ({_line(cause)}); nothing was changed") from error
    except exc.IntegrityError:
        raise
    except exc.DatabaseError as error:
        raise ConfigurationError(f"the database cannot be used ({_line(error.orig)}); nothing was changed") from error


def _line(error: BaseException | None) -> str:
    return " ".join(str(error).split())


def _ms(seconds: float) -> str:
    return f"{round(1000 * seconds)}ms"


def _lock_key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def _sqlite(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ConfigurationError("SQLite in memory keeps nothing: use a file, sqlite:///PATH")
    # Any number of connections: threads that wait to write must not keep others from reading.
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, max_overflow=-1)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # the driver's own BEGIN is late and never IMMEDIATE
    # A quiet burst changes a few hundred bytes in each of a few pages: half of SQLite's page halves what is written.
    # Only a new file takes it.
    connection.execute("PRAGMA page_size = 2048")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 2000")
    # FULL: after a 201 the agent discards its copy, so the commit must be on the disk.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")


def _postgresql(url: URL) -> Engine:
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    try:
        return create_engine(
            url,
            pool_pre_ping=True,
            connect_args={key: value for key, value in _TIMEOUTS.items() if key not in url.query},
        )
    except (exc.NoSuchModuleError, ModuleNotFoundError) as error:
        raise ConfigurationError(f"{error}: install sectorwatch[postgres]") from None
