"""Whose pictures a place holds: a copy of a database knows the same pictures, and must not delete those of the other.

A file in the place names the database that keeps them: by its file (host and path, or the number that its file system
gives it), or by the numbers of a PostgreSQL cluster and database. A backup that `db restore` puts in the place of its
database has its path, and goes on. A copy elsewhere reads pictures, and neither keeps nor deletes any.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Protocol

import msgspec
from sqlalchemy import Engine, text

from server.domain.errors import ConfigurationError
from server.store.engine import reading, shown_url, sqlite_file


class Owner(msgspec.Struct, frozen=True):
    """A database: where it is, and what else names it and no copy."""

    place: str
    number: str

    def is_same(self, other: Owner) -> bool:
        """Whether it may be the same database, also after it was moved or restored."""
        return self.place == other.place or self.number == other.number


_owner = msgspec.json.Decoder(Owner)


class Marked(Protocol):
    @property
    def name(self) -> str: ...
    def owner(self) -> bytes | None: ...
    def set_owner(self, mark: bytes) -> None: ...


_CLUSTER = text(
    "SELECT (SELECT system_identifier FROM pg_control_system()), (SELECT oid FROM pg_database"
    " WHERE datname = current_database())"
)


def owner_of(engine: Engine) -> Owner:
    """What names a database."""
    file = sqlite_file(engine)
    if file is None:
        with reading(engine) as connection:
            cluster, database = connection.execute(_CLUSTER).one()
        return Owner(f"PostgreSQL {cluster}/{database}", f"{cluster}/{database}")
    whole = Path(file).resolve()
    number = whole.stat().st_ino if whole.exists() else 0
    return Owner(f"{platform.node()}:{whole}", f"file {number}" if number else shown_url(engine))


def owner_in(mark: bytes | None) -> Owner | None:
    """The database of a mark; None: there is no mark, or it cannot be read."""
    try:
        return None if mark is None else _owner.decode(mark)
    except msgspec.DecodeError:
        return None


def own(shelf: Marked, mine: Owner) -> None:
    """Write the mark: from now on the place is that of this database."""
    shelf.set_owner(msgspec.json.encode(mine))


def check_owner(shelf: Marked, mine: Owner, *, claims: bool) -> None:
    """Raises ConfigurationError for a place of another database. With `claims` one that is nobody's is this one's."""
    found = owner_in(shelf.owner())
    if found is None:
        if claims:
            own(shelf, mine)
    elif not found.is_same(mine):
        raise ConfigurationError(
            f"the pictures in {shelf.name} are kept by the database {found.place}, of which this one is a copy: it "
            "neither keeps nor deletes any there. Set another frames_url; or, if that database is no more, run "
            "sectorwatch frames own"
        )
    elif claims and found != mine:
        own(shelf, mine)
