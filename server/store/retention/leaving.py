"""Pictures that are to be deleted from their place: noted with the deletion of the last row that names them.

No transaction waits for the place of the pictures. The note outlives a crash and a place that does not answer; whoever
sweeps next goes on with it. No picture is noted that a row names, and none is kept while it is noted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from sqlalchemy import Connection, Engine, delete, func, insert, select

from server.domain.errors import ConfigurationError
from server.store.engine import reading, writing
from server.store.schema import kept_frames, leaving_frames

T = TypeVar("T")

AT_ONCE = 200
LOCK = "frames"
"""Whoever deletes rows or notes pictures has it alone; those that keep pictures share it."""


class Shelf(Protocol):
    @property
    def name(self) -> str: ...
    def remove(self, digests: Sequence[str]) -> None: ...


def let_leave(connection: Connection, digests: Sequence[bytes]) -> None:
    """Note those of these pictures that no row names. The caller holds LOCK, or a transaction that also takes it."""
    for some in portions(sorted(unnamed(connection, digests))):
        noted = noted_of(connection, some)
        rows = [{"sha256": each} for each in some if each not in noted]
        if rows:
            connection.execute(insert(leaving_frames), rows)


def noted_of(connection: Connection, digests: Sequence[bytes]) -> set[bytes]:
    """Those of these pictures that are to be deleted."""
    found: set[bytes] = set()
    for some in portions(digests):
        query = select(leaving_frames.c.sha256).where(leaving_frames.c.sha256.in_(some))
        found |= {bytes(each) for each in connection.execute(query).scalars()}
    return found


def is_any_noted(engine: Engine) -> bool:
    """Whether a picture is to be deleted."""
    with reading(engine) as connection:
        return connection.execute(select(leaving_frames.c.sha256).limit(1)).first() is not None


def remove_noted(engine: Engine, shelf: Shelf) -> None:
    """Delete the noted pictures, outside any transaction. Raises ConfigurationError where their place refuses."""
    while True:
        with reading(engine) as connection:
            query = select(leaving_frames.c.sha256).order_by(leaving_frames.c.sha256).limit(AT_ONCE)
            digests = [bytes(each) for each in connection.execute(query).scalars()]
            count = connection.execute(select(func.count()).select_from(leaving_frames)).scalar_one()
        if not digests:
            return
        try:
            shelf.remove([each.hex() for each in digests])
        except OSError as error:
            what = f"{count} pictures cannot be deleted from {shelf.name} ({error})"
            raise ConfigurationError(
                f"{what}: the first is {digests[0].hex()}; a running server tries again every minute"
            ) from error
        with overwriting(engine, LOCK) as connection:
            connection.execute(delete(leaving_frames).where(leaving_frames.c.sha256.in_(digests)))


def unnamed(connection: Connection, digests: Sequence[bytes]) -> set[bytes]:
    """Those of these pictures that no row names."""
    named: set[bytes] = set()
    for some in portions(digests):
        query = select(kept_frames.c.sha256).where(kept_frames.c.sha256.in_(some))
        named |= {bytes(each) for each in connection.execute(query).scalars()}
    return {*digests} - named


@contextmanager
def overwriting(engine: Engine, lock: str) -> Iterator[Connection]:
    """As `writing`; SQLite overwrites what is deleted, so that the file does not hold it any more."""
    with writing(engine, lock=lock) as connection:
        is_sqlite = engine.dialect.name == "sqlite"
        if is_sqlite:
            connection.exec_driver_sql("PRAGMA secure_delete = ON")
        try:
            yield connection
        finally:
            if is_sqlite:
                connection.exec_driver_sql("PRAGMA secure_delete = OFF")


def portions(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items, AT_ONCE at a time."""
    return (items[begin : begin + AT_ONCE] for begin in range(0, len(items), AT_ONCE))
