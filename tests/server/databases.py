"""The databases that the tests of the store run on: SQLite, and PostgreSQL in a cluster of our own.

`SECTORWATCH_TEST_POSTGRES` names a server to use instead (a URL whose user may create databases).
`python -m tests.server.databases` ends with 1, and a line that says what to do, where PostgreSQL is missing.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url

from server.store import open_store

VARIABLE = "SECTORWATCH_TEST_POSTGRES"
NAMES = ("sqlite", "postgresql")
_MIGRATED = "_migrated"
_copies: set[str] = set()
_PROGRAMS = ("initdb", "pg_ctl", "postgres")
_DEBIAN = Path("/usr/lib/postgresql")


def search_path() -> str:
    """Where the server's programs are looked for: on PATH, then where Debian's packages put them, newest first."""
    folders = sorted(_DEBIAN.glob("*/bin"), key=lambda folder: (len(folder.parent.name), folder.parent.name))
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, reversed(folders))])


def missing_postgresql() -> str | None:
    """What the tests on PostgreSQL lack, and how to get it, in one line; None where nothing is missing."""
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed: run deploy/test, or pip install -e '.[postgres]'"
    return None if os.environ.get(VARIABLE) else missing_programs()


def missing_programs() -> str | None:
    """As `missing_postgresql`, for tests that stop and start a server of their own."""
    missing = [program for program in _PROGRAMS if shutil.which(program, path=search_path()) is None]
    if not missing:
        return None
    return (
        f"PostgreSQL's {', '.join(missing)} not found: run deploy/test as root, which installs it, or "
        f"`sudo apt-get install postgresql`, or name a server in {VARIABLE}"
    )


@contextmanager
def postgresql_database() -> Iterator[str]:
    """URL of a new database on the server that is given, or on a fresh one; gone afterwards."""
    missing = missing_postgresql()
    if missing:
        pytest.fail(missing)
    name = f"sectorwatch_test_{os.getpid()}"
    with _server() as server:
        _execute(server, f"CREATE DATABASE {name}{_MIGRATED}")
        with closing(open_store(_shown(server.set(database=name + _MIGRATED)))) as store:
            store.upgrade()
        _execute(server, f"CREATE DATABASE {name}")
        try:
            yield _shown(server.set(database=name))
        finally:
            copies = [copy for copy in _copies if copy.startswith(f"{name}_")]
            _execute(server, *(f"DROP DATABASE {each}" for each in (f"{name} WITH (FORCE)", name + _MIGRATED, *copies)))
            _copies.difference_update(copies)


def renew(url: str, *, is_migrated: bool = False, copy: str | None = None) -> None:
    """Make the database that `postgresql_database` made anew: without a table, as migrations leave it, or as a copy."""
    name = make_url(url).database
    template = f"{name}{_MIGRATED}" if is_migrated else "template0"
    template = template if copy is None else f"{name}_{copy}"
    another = make_url(url).set(database="postgres")
    _execute(another, f"DROP DATABASE {name} WITH (FORCE)", f"CREATE DATABASE {name} TEMPLATE {template}")


def has_copy(url: str, copy: str) -> bool:
    return f"{make_url(url).database}_{copy}" in _copies


def keep_copy(url: str, copy: str) -> None:
    """Keep the database as it is, for `renew`. Nothing may be connected to it."""
    name = make_url(url).database
    _execute(make_url(url).set(database="postgres"), f"CREATE DATABASE {name}_{copy} TEMPLATE {name}")
    _copies.add(f"{name}_{copy}")


def _shown(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def _execute(url: URL, *statements: str) -> None:
    engine = create_engine(url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


class Cluster:
    """A PostgreSQL server of our own, which can be stopped and started again. It has data in `folder`."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.url = make_url(f"postgresql://tester@/postgres?host={folder}")
        self._folder = folder
        self._user = _unprivileged()
        self._options = f"-k {folder} -c listen_addresses='' -c max_connections=40 " + " ".join(options)
        shutil.chown(folder, self._user)
        self._run("initdb", "-D", self._data, "-U", "tester", "-A", "trust", "-N", "-E", "UTF8", "--locale=C.UTF-8")

    def start(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-w", "-l", str(self._folder / "log"), "-o", self._options, "start")

    def stop(self, mode: str) -> None:
        """`fast`: end all connections in order; `immediate`: as after a crash."""
        self._run("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _run(self, *command: str) -> None:
        program = shutil.which(command[0], path=search_path()) or command[0]
        subprocess.run(
            [program, *command[1:]], check=True, cwd=self._folder, user=self._user, capture_output=True, timeout=120
        )


@contextmanager
def cluster(*options: str) -> Iterator[Cluster]:
    """A fresh PostgreSQL server that runs, with these options; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="sw-pg-"))
    try:
        started = Cluster(folder, *options)
        started.start()
        try:
            yield started
        finally:
            started.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def durable_database(*options: str) -> Iterator[tuple[Cluster, str]]:
    """A server of our own with these options that writes to the disk before it answers, and the URL of a migrated
    database on it.
    """
    if missing := missing_programs():
        pytest.fail(missing)
    with cluster(*options) as started:
        _execute(started.url, "CREATE DATABASE sectorwatch")
        url = _shown(started.url.set(database="sectorwatch"))
        with closing(open_store(url)) as store:
            store.upgrade()
        yield started, url


@contextmanager
def _server() -> Iterator[URL]:
    given = os.environ.get(VARIABLE)
    if given:
        yield make_url(given)
        return
    with cluster("-c fsync=off") as started:
        yield started.url


def _unprivileged() -> str:
    """A user who may run PostgreSQL, which refuses to run as root."""
    me = pwd.getpwuid(os.geteuid()).pw_name
    return "nobody" if me == "root" else me


if __name__ == "__main__":
    sys.exit(missing_postgresql())
