"""A database with damaged pages, for the tests of damage."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from policies.events import Event
from server.domain.burst import Burst
from server.domain.errors import RetryLater
from server.store import Store
from tests.server.scenes import Yard


def file_of(store: Store) -> Path:
    return Path(store.name.removeprefix("sqlite:///"))


def leaves_of(file: Path, table: str) -> list[int]:
    """The pages of a table or an index that hold its rows or keys."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        query = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY pageno"
        return [page for (page,) in connection.execute(query, (table,))]


def overwrite(file: Path, pages: list[int], filling: bytes = b"\xa5") -> None:
    """Damage these pages: a byte pattern takes the place of all that they hold."""
    with closing(sqlite3.connect(file)) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with file.open("r+b") as content:
        for page in pages:
            content.seek((page - 1) * size)
            content.write(filling * size)


def told(store: Store) -> list[Event]:
    return [logged.event for logged in store.events()]


def sent(yard: Yard, burst: Burst) -> int:
    """How many times an agent has to send a burst until it is stored."""
    for times in range(1, 4):
        try:
            yard.pipeline.process(burst)
        except RetryLater:
            continue
        return times
    raise AssertionError("it is never stored")
