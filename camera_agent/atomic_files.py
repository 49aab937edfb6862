"""Files that exist as a whole or not at all, even if the process is killed or the power fails.

A file is written under a name ending in `.part` and renamed (`rename(2)`); the rename is the moment at which it exists.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

PART = ".part"


def write(path: Path, pieces: Iterable[bytes], *, is_durable: bool = True, mode: int = 0o600) -> None:
    """Replace `path` with the joined pieces. Raises `OSError`, leaving `path` as it was.

    With `is_durable`, the file survives a power cut from here on. Without it, nothing is forced to the disk: for files
    that are rewritten every few seconds. `mode` sets the permissions, before anything is written.
    """
    part = path.with_name(path.name + PART)
    try:
        with part.open("wb") as file:
            os.fchmod(file.fileno(), mode)
            for piece in pieces:
                file.write(piece)
            if is_durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    if is_durable:
        flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make the file names in `folder` survive a power cut (`fsync(2)`)."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_private(folder: Path) -> None:
    """Make a folder that only this user can read, for pictures of people. An existing one is closed to others, unless
    it is another user's or, as /tmp, everybody's.

    Raises `OSError`.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid == os.getuid() and found.st_mode & 0o077 and not found.st_mode & stat.S_ISVTX:
        folder.chmod(0o700)


def remove_leftovers(folder: Path) -> None:
    """Delete the half-written files in `folder`. Raises `OSError`."""
    for leftover in folder.glob(f"*{PART}"):
        leftover.unlink()
