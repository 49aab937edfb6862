"""A migrated, empty SQLite database: a copy, since that is ten times quicker than migrating."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

from server.domain.files.private_files import make_private_database
from server.store import open_store

_VARIABLE = "TESTS_NEW_SQLITE"
"""Where the processes that a test starts find the one to copy."""


def provide(file: Path) -> None:
    """Put one there, unless there is a file already."""
    if not file.exists():
        make_private_database(file)
        file.write_bytes(template().read_bytes())


@cache
def template() -> Path:
    """The one to copy, made by the first process that asks."""
    if _VARIABLE not in os.environ:
        folder = Path(tempfile.mkdtemp(prefix="sectorwatch-new-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        with closing(open_store(f"sqlite:///{folder}/new.sqlite")) as store:
            store.upgrade()
        os.environ[_VARIABLE] = str(folder / "new.sqlite")
    return Path(os.environ[_VARIABLE])
