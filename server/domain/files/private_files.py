"""Files and folders that only their user may read: the data folder, the database and its copies, files with secrets."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
_BESIDE = ("", "-wal", "-shm", "-journal")
"""What SQLite keeps beside a database. It makes these files as open as the database is."""
_PASSWORD = re.compile(r"://[^:@/\s]*:\S*@|[?&]\w*(?:password|passwd|pwd)=", re.I)


def make_private_folder(folder: Path) -> bool:
    """Make the folder for this user alone, and close an existing one to others; whether it was open to them.

    A folder of another user, or one that all users share (/tmp), stays as it is. Raises OSError.
    """
    folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & stat.S_ISVTX or not found.st_mode & 0o077:
        return False
    folder.chmod(PRIVATE_FOLDER)
    return True


def make_private_database(file: Path) -> None:
    """Make the file of a SQLite database for this user alone, and close an existing one and what lies beside it.

    Does nothing where it cannot: opening the database then says why.
    """
    with suppress(OSError):
        os.close(os.open(file, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, PRIVATE_FILE))
    for ending in _BESIDE:
        with suppress(OSError):
            file.with_name(file.name + ending).chmod(PRIVATE_FILE)


def readable_by_others(path: Path) -> bool:
    """Whether users beside the owner and the group can read the file or folder: its mode and its folders allow it."""
    try:
        place = path.resolve(strict=True)
        is_open = bool(place.stat().st_mode & stat.S_IROTH)
        return is_open and all(folder.stat().st_mode & stat.S_IXOTH for folder in place.parents)
    except OSError:
        return False


def holds_password(text: str) -> bool:
    """Whether a text, for instance the content of a settings file, has an address with a password."""
    return _PASSWORD.search(text) is not None
