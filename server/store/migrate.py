"""Migrates a database to this version's schema, with the migrations in the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from server.domain.errors import ConfigurationError
from server.domain.private_files import PRIVATE_FOLDER, make_private_database
from server.store.engine import reading, sqlite_file, writing

_MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class Revision:
    """The schema of a database (None: no tables yet) and the one this version needs."""

    present: str | None
    wanted: str

    @property
    def is_current(self) -> bool:
        return self.present == self.wanted


def upgrade(engine: Engine) -> Revision:
    """Run all pending migrations in one transaction. Several processes may do so at once.

    Raises ConfigurationError where the file cannot be made, and as `revision`.
    """
    revision(engine)
    file = sqlite_file(engine)
    if file is not None:
        try:
            file.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"cannot make the folder {file.parent}: {error.strerror}") from None
        if file.name != ":memory:":
            make_private_database(file)
    with writing(engine, lock="schema") as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return revision(engine)


def revision(engine: Engine) -> Revision:
    """The schema of the database. It creates no file. Raises ConfigurationError for a schema newer than this
    version.
    """
    scripts = ScriptDirectory.from_config(_config())
    wanted = scripts.get_current_head()
    assert wanted is not None
    file = sqlite_file(engine)
    if file is not None and not file.exists():
        return Revision(None, wanted)
    with reading(engine) as connection:
        present = MigrationContext.configure(connection).get_current_revision()
    if present is not None and present not in {script.revision for script in scripts.walk_revisions()}:
        raise ConfigurationError(
            f"the database has schema {present}, and this version knows none after {wanted}: a newer Sectorwatch made "
            "it; run that version, or choose another database"
        )
    return Revision(present, wanted)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config
