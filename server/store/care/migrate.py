"""Migrates a database to this version's schema, with the migrations in the package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine, inspect, text

from server.domain.errors import ConfigurationError, DatabaseDamaged
from server.domain.files.private_files import PRIVATE_FOLDER, make_private_database
from server.store.engine import reading, shown_url, sqlite_file, writing
from server.store.schema import metadata
from server.store.sqlite_files import is_cut_off

if TYPE_CHECKING:
    from alembic.config import Config

_MIGRATIONS = Path(__file__).parents[1] / "migrations"
_NUMBERS = "alembic_version"


@dataclass(frozen=True, slots=True)
class Revision:
    """The schema of a database (None: no tables yet) and the one this version needs.

    `is_empty_file`: there is a file of SQLite without a byte in it.
    """

    present: str | None
    wanted: str
    is_empty_file: bool = False

    @property
    def is_current(self) -> bool:
        return self.present == self.wanted


def upgrade(engine: Engine) -> Revision:
    """Run all pending migrations in one transaction. Several processes may do so at once.

    Raises ConfigurationError where the file cannot be made, and as `revision`.
    """
    from alembic import command  # a sixth of the start of every command, and few migrate

    revision(engine)
    file = sqlite_file(engine)
    if file is not None:
        try:
            file.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"cannot make the folder {file.parent}: {error.strerror}") from None
        make_private_database(file)
    with writing(engine, lock="schema") as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return revision(engine)


def revision(engine: Engine) -> Revision:
    """The schema of the database. It creates no file.

    Raises ConfigurationError for a schema newer than this version, for tables without the number of their schema, and
    for an empty file beside a log that is not empty.
    """
    known = _known()
    wanted = known[-1]
    file = sqlite_file(engine)
    if file is not None and not file.exists():
        return Revision(None, wanted)
    if file is not None and is_cut_off(file):
        raise DatabaseDamaged(
            f"{file} is empty, and its log {file.name}-wal is not: `sectorwatch db restore FILE` keeps both and puts a "
            "backup in their place"
        )
    if file is not None and file.stat().st_size == 0:  # reading would write a first page
        return Revision(None, wanted, is_empty_file=True)
    with reading(engine) as connection:
        tables = inspect(connection).get_table_names()
        number = text(f"SELECT version_num FROM {_NUMBERS}")  # noqa: S608 - a name of this file
        present: str | None = connection.execute(number).scalar_one_or_none() if _NUMBERS in tables else None
    if present is None and (strange := _strange(engine, tables)):
        raise ConfigurationError(
            f"the database {shown_url(engine)} holds tables ({', '.join(strange)}), but no number of their schema: "
            "another program made them, or a version before 0.1.0; choose another database, or restore a backup "
            "(`sectorwatch db restore FILE`)"
        )
    if present is not None and present not in known:
        raise ConfigurationError(
            f"the database has schema {present}, and this version knows none after {wanted}: a newer Sectorwatch made "
            "it; run that version, or choose another database"
        )
    return Revision(present, wanted)


def _strange(engine: Engine, tables: Sequence[str]) -> list[str]:
    """The tables of a database without a schema that are in the way: on PostgreSQL those with names of ours."""
    found = sorted(set(tables) - {_NUMBERS})
    return found if engine.dialect.name == "sqlite" else [name for name in found if name in metadata.tables]


def _known() -> list[str]:
    """The numbers of all schemas: each migration is a file that begins with its own."""
    return sorted(file.name.partition("_")[0] for file in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config
