"""Connections to the database, and how a turn locks: the only thing that the two databases do differently."""

from __future__ import annotations

import hashlib
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from sqlalchemy import URL, Connection, Engine, ExceptionContext, NullPool, create_engine, event, exc, make_url, text

from server.domain.errors import (
    ConfigurationError,
    DatabaseDamaged,
    DatabaseUnavailable,
    RetryLater,
    SectorwatchError,
    Unprocessable,
)
from server.domain.secrets_in_text import without_secrets
from server.store.sqlite_files import access_fault, connect_to_read, is_read_only, prepare_to_write

BUSY_TIMEOUT_S = 30.0
"""How long a transaction waits for another of its process, and for those of others."""

IDLE_TIMEOUT_S = 60.0
"""How long PostgreSQL allows an idle transaction: a server paused in the middle of one must not block all."""

CONNECTIONS = 15
"""To PostgreSQL: so many stay open once they were needed, and a process that serves nothing opens no more."""

_WRITES = "sectorwatch_writes"

_SQLITE_REFUSALS = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
_POSTGRESQL_REFUSALS = {"53100", "58030", "25006"}
"""Disk full, failure of input or output, read-only."""

_refusals: WeakKeyDictionary[Engine, str] = WeakKeyDictionary()
_took_at_s: WeakKeyDictionary[Engine, float] = WeakKeyDictionary()
_writers: WeakKeyDictionary[Engine, threading.Lock] = WeakKeyDictionary()
"""Of SQLite: the writers of a process take turns. SQLite's own wait is a poll whose intervals grow: whoever has waited
for long would have the least chance, and could wait for half a minute beside twenty others.
"""

_besides: WeakKeyDictionary[Engine, Engine] = WeakKeyDictionary()
"""Of PostgreSQL: each connection is a new one, so that no transaction waits for those that others took from the pool.
"""

_waits = threading.local()
"""Of each thread, `waited_s`: how long it has waited for locks of `writing`."""

_DAMAGED = "the database is damaged ({}): `sectorwatch doctor` names the way back"
_NO_ACCESS = ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")
_NO_TEXT = "Could not decode to UTF-8"

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

_UNCLEAR = (
    "database_url cannot be taken apart: in user and password write @ as %40, / as %2F, ? as %3F, # as %23, "
    ": as %3A and % as %25"
)


def open_engine(url: str, connections: int = CONNECTIONS) -> Engine:
    """An engine for `url` (sqlite:///... or postgresql://...), not yet connected. Raises ConfigurationError.

    To PostgreSQL it opens so many connections at most. A thread that waits for a lock keeps its own: with fewer than
    there are threads, those of one slow camera could keep all others waiting.
    """
    try:
        parsed = make_url(url)
    except exc.ArgumentError as error:
        raise ConfigurationError(f"not a database URL: {error}") from None
    except ValueError:  # it names what it took for the port
        raise ConfigurationError(_UNCLEAR) from None
    is_server = parsed.get_backend_name() != "sqlite"
    if is_server and url.partition("://")[2].count("@") > 1:  # a part of the password would be shown as another part
        raise ConfigurationError(_UNCLEAR)
    if parsed.get_backend_name() in _OPENS:
        engine = _OPENS[parsed.get_backend_name()](parsed, connections)
        event.listen(engine, "handle_error", _note_refusal)
        return engine
    raise ConfigurationError(f"no database `{parsed.get_backend_name()}` here: use sqlite:///PATH or postgresql://...")


def open_to_read(file: Path) -> Engine:
    """An engine that reads a SQLite file, and writes neither to it nor beside it."""
    return create_engine(
        URL.create("sqlite", database=str(file)), creator=lambda: connect_to_read(file, BUSY_TIMEOUT_S)
    )


def shown_url(engine: Engine) -> str:
    """The database's URL without passwords."""
    bare = engine.url.difference_update_query(["password", "sslpassword"])
    return without_secrets(bare.render_as_string(hide_password=True))


def sqlite_file(engine: Engine) -> Path | None:
    """The file of a SQLite database; None for another engine."""
    return Path(engine.url.database) if engine.dialect.name == "sqlite" and engine.url.database else None


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees one instant of the database. It ends without a commit, which SQLite refuses once a
    damaged page was met.
    """
    with _translated_errors(engine), engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin() as transaction:
            yield connection
            transaction.rollback()


@contextmanager
def writing(engine: Engine, lock: str, wait_s: float | None = None) -> Iterator[Connection]:
    """A transaction that excludes others with the same `lock`. It is committed as a whole or not at all.

    SQLite has one writer: BEGIN IMMEDIATE locks at the start, so nothing read inside is outdated; the writers of one
    process take turns. PostgreSQL locks the name until the commit. A transaction waits at most `wait_s` (None:
    BUSY_TIMEOUT_S) for its lock, on SQLite as long for its turn. It raises DatabaseUnavailable, with that it is not
    known, where the answer to the commit is lost. Both kinds of transaction raise RetryLater when the database does not
    answer, Unprocessable for a value that it cannot store (a number of more than 64 bits; on PostgreSQL a text with a
    NUL), DatabaseDamaged, and ConfigurationError for a file that is no database or not accessible.
    """
    asked_s = time.monotonic()
    patience_s = BUSY_TIMEOUT_S if wait_s is None else wait_s
    with _in_turn(engine, patience_s), _translated_errors(engine), engine.connect() as connection:
        connection = connection.execution_options(**{_WRITES: wait_s})
        with _named_refusal(engine), _begun(connection):
            if connection.dialect.name == "postgresql":
                connection.execute(_BOUNDS, {"busy": _ms(patience_s), "idle": _ms(IDLE_TIMEOUT_S)})
                also_lock(connection, lock)
            _waits.waited_s = _waited_s() + time.monotonic() - asked_s
            yield connection


@contextmanager
def _begun(connection: Connection) -> Iterator[None]:
    """A transaction that is committed at the end. Raises DatabaseUnavailable where nobody knows whether it is."""
    commits = False
    try:
        with connection.begin():
            yield
            commits = True
    except exc.DBAPIError as error:
        if not (commits and connection.dialect.name == "postgresql" and _is_unanswered(error.orig)):
            raise
        what = f"the database has not confirmed this change ({_line(error.orig)})"
        raise DatabaseUnavailable(f"{what}: it may be made or not, so look before you make it again") from error


def _is_unanswered(error: BaseException | None) -> bool:
    """Whether PostgreSQL did not say what became of a statement: it names a state, but for broken connections (08)."""
    return (getattr(error, "sqlstate", None) or "08").startswith("08")


@contextmanager
def _in_turn(engine: Engine, wait_s: float) -> Iterator[None]:
    lock = _writers.get(engine)
    if lock is None:
        yield
        return
    if not lock.acquire(timeout=wait_s):
        raise DatabaseUnavailable(
            "the database does not answer (this process writes to it for long); nothing was changed"
        )
    try:
        yield
    finally:
        lock.release()


def refusal(engine: Engine) -> str | None:
    """Why the disk did not take the last write, until `takes` says otherwise; None: nothing is known against it."""
    return _refusals.get(engine)


def takes(engine: Engine) -> None:
    """The disk has taken as much as a burst."""
    _refusals.pop(engine, None)
    _took_at_s[engine] = time.monotonic()


def took_ago_s(engine: Engine) -> float:
    """How many seconds ago `takes` was called; infinite: never."""
    return time.monotonic() - _took_at_s.get(engine, -math.inf)


@contextmanager
def _named_refusal(engine: Engine) -> Iterator[None]:
    """Raises DatabaseUnavailable with the reason where the disk refused a write: what follows it says less."""
    try:
        yield
    except exc.DBAPIError as error:
        if (why := refusal(engine)) is None or _access_fault(engine, error) is not None:
            raise
        raise DatabaseUnavailable(f"the database cannot be written ({why}); nothing was changed") from error


def _note_refusal(context: ExceptionContext) -> None:
    """Of any statement, as a savepoint that is gone with its transaction hides the reason from whoever began it."""
    connection = context.connection
    is_write = connection is not None and _WRITES in connection.get_execution_options()
    if connection is not None and is_write and _is_refusal(context.original_exception):
        _refusals[connection.engine] = _line(context.original_exception)


def _is_refusal(error: BaseException | None) -> bool:
    code = getattr(error, "sqlite_errorcode", None)  # its low byte is the kind of error
    if code is not None:
        return code & 0xFF in _SQLITE_REFUSALS
    return getattr(error, "sqlstate", None) in _POSTGRESQL_REFUSALS


def also_lock(connection: Connection, name: str, *, is_shared: bool = False) -> None:
    """Within `writing`: exclude others with this name too, until the commit. On SQLite nobody else writes anyway.

    `is_shared`: exclude only those that do not share it.
    """
    if connection.dialect.name == "postgresql":
        kind = "_shared" if is_shared else ""
        connection.execute(text(f"SELECT pg_advisory_xact_lock{kind}(:key)"), {"key": _lock_key(name)})


@contextmanager
def at_once(connection: Connection) -> Iterator[Connection]:
    """Within `writing`: a connection on which each statement is committed at once, so that no other transaction waits
    for the end of this one. It stays written if this one fails. On SQLite, which has one writer, a savepoint of this
    one.
    """
    beside = _besides.get(connection.engine)
    if beside is None:
        with connection.begin_nested():
            yield connection
        return
    with beside.connect() as another:
        yield another


@contextmanager
def despite_damage(connection: Connection) -> Iterator[None]:
    """A part of a transaction of `reading` that raises DatabaseDamaged for a damaged page; then it may go on."""
    with connection.begin_nested() if connection.dialect.name == "postgresql" else nullcontext():
        try:
            yield
        except exc.DBAPIError as error:
            if is_damage(error.orig):
                raise DatabaseDamaged(_DAMAGED.format(_line(error.orig))) from error
            raise


def busy_s() -> float:
    """A clock of this thread (s), which stands still while the thread waits for a lock of `writing`."""
    return time.monotonic() - _waited_s()


def _waited_s() -> float:
    return float(getattr(_waits, "waited_s", 0.0))


def leave_to_others(wait: Callable[[float], object], begun_s: float, share: float = 0.2) -> None:
    """Wait so long that what this thread did since `begun_s` (of `busy_s`) took this share of the time.

    Its own waiting for locks is no work: others were at work then.
    """
    wait((busy_s() - begun_s) * (1 / share - 1))


@contextmanager
def _translated_errors(engine: Engine) -> Iterator[None]:
    try:
        yield
    except exc.IntegrityError:
        raise
    except exc.TimeoutError as error:
        raise RetryLater("all connections to the database are in use; nothing was changed") from error
    except OverflowError as error:
        raise Unprocessable(f"the database cannot hold this ({_line(error)}); nothing was changed") from error
    except msgspec.DecodeError as error:
        raise DatabaseDamaged(_DAMAGED.format(f"a stored value cannot be read: {error}")) from error
    except exc.DBAPIError as error:
        raise _translated(engine, error) from error


def _translated(engine: Engine, error: exc.DBAPIError) -> SectorwatchError:
    what = _line(error.orig)
    if is_damage(error.orig):
        return DatabaseDamaged(_DAMAGED.format(what))
    if isinstance(error, exc.DataError):
        return Unprocessable(f"the database cannot hold this ({what}); nothing was changed")
    if not isinstance(error, exc.OperationalError | exc.InterfaceError | exc.InternalError):
        return ConfigurationError(f"the database cannot be used ({what}); nothing was changed")
    if (fault := _access_fault(engine, error)) is not None:
        return ConfigurationError(f"{fault}; nothing was changed")
    return DatabaseUnavailable(f"the database does not answer ({what}); nothing was changed")  # also a read-only one


def _access_fault(engine: Engine, error: exc.DBAPIError) -> str | None:
    """Why this process may not use the file of a SQLite database, if that is the cause of the error."""
    file = sqlite_file(engine)
    return None if file is None or not _sqlite_code(error.orig).startswith(_NO_ACCESS) else access_fault(file)


def is_damage(error: BaseException | None) -> bool:
    """Whether it names damage, in SQLite's codes or PostgreSQL's (XX001 and XX002: data or an index)."""
    is_of_sqlite = _sqlite_code(error).startswith("SQLITE_CORRUPT") or str(error).startswith(_NO_TEXT)
    return is_of_sqlite or getattr(error, "sqlstate", None) in ("XX001", "XX002")


def _sqlite_code(error: BaseException | None) -> str:
    return getattr(error, "sqlite_errorname", None) or ""


def _line(error: BaseException | None) -> str:
    return " ".join(str(error).split())


def _ms(seconds: float) -> str:
    return f"{round(1000 * seconds)}ms"


def _lock_key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def _sqlite(url: URL, _connections: int) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ConfigurationError("SQLite in memory keeps nothing: use a file, sqlite:///PATH")
    # Any number of connections: threads that wait to write must not keep others from reading.
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, max_overflow=-1)
    event.listen(engine, "do_connect", partial(_connect_sqlite, Path(url.database)))
    event.listen(engine, "begin", _begin_sqlite)
    _writers[engine] = threading.Lock()
    return engine


def _connect_sqlite(file: Path, dialect: Any, _record: Any, args: Any, named: Any) -> sqlite3.Connection:
    if is_read_only(file):
        return connect_to_read(file, BUSY_TIMEOUT_S)
    connection: sqlite3.Connection = dialect.loaded_dbapi.connect(*args, **named)
    prepare_to_write(connection)
    return connection


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if (wait_s := options.get(_WRITES)) is not None:
        _begin_soon(connection, wait_s)
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if _WRITES in options else "BEGIN")


def _begin_soon(connection: Connection, wait_s: float) -> None:
    """Begin to write with another wait than that of the pool's connections, which keep theirs."""
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {round(1000 * wait_s)}")
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {round(1000 * BUSY_TIMEOUT_S)}")


def _postgresql(url: URL, connections: int) -> Engine:
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    timeouts = {key: value for key, value in _TIMEOUTS.items() if key not in url.query}
    try:
        engine = create_engine(
            url,
            pool_pre_ping=True,
            pool_size=min(connections, CONNECTIONS),
            max_overflow=max(0, connections - CONNECTIONS),
            pool_timeout=BUSY_TIMEOUT_S,
            connect_args=timeouts,
        )
        _besides[engine] = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=timeouts)
        return engine
    except (exc.NoSuchModuleError, ModuleNotFoundError) as error:
        raise ConfigurationError(f"{error}: install sectorwatch[postgres]") from None


_OPENS = {"sqlite": _sqlite, "postgresql": _postgresql}
