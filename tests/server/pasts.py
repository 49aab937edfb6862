"""Databases with a past: it is made once in a process and on each engine, and copied for each test."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from sqlalchemy.engine import make_url

from tests.server import databases, new_sqlite


class Past(NamedTuple):
    """`make` gives it to the migrated database at a URL, and may put files into an empty folder. It closes its store.

    `name` is a word of small letters, one of its own for each past.
    """

    name: str
    make: Callable[[str, Path], None]


def provide_sqlite(past: Past, file: Path) -> None:
    """Put a database with this past there."""
    made = folder_of(past, "sqlite") / "made.sqlite"
    if not made.exists():
        unfinished = made.with_name("unfinished.sqlite")
        new_sqlite.provide(unfinished)
        past.make(f"sqlite:///{unfinished}", files_of(past, "sqlite"))
        unfinished.rename(made)
    shutil.copy(made, file)


def provide_postgresql(past: Past, url: str) -> None:
    """Make the database at `url`, which `databases.postgresql_database` made, one with this past."""
    if not databases.has_copy(url, past.name):
        databases.renew(url, is_migrated=True)
        past.make(url, files_of(past, "postgresql"))
        databases.keep_copy(url, past.name)
    databases.renew(url, copy=past.name)


def files_of(past: Past, engine: str) -> Path:
    """The files that the past has left, to be copied."""
    files = folder_of(past, engine) / "files"
    files.mkdir(exist_ok=True)
    return files


def folder_of(past: Past, engine: str) -> Path:
    folder = _root() / f"{past.name}-{engine}"
    folder.mkdir(exist_ok=True)
    return folder


def engine_of(url: str) -> str:
    return make_url(url).get_backend_name()


@cache
def _root() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="sectorwatch-pasts-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
