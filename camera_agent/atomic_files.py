"""Files that exist as a whole or not at all, even if the process is killed or the power fails.

A file is written under a name ending in `.part` and renamed (`rename(2)`); the rename is the moment at which it exists.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

PART = ".part"


def write(path: Path, pieces: Iterable[bytes], *, is_durable: bool = True, mode: int | None = None) -> None:
    """Replace `path` with the joined pieces. Raises `OSError`, leaving `path` as it was.

    With `is_durable`, the file survives a power cut from here on. Without it, nothing is forced to the disk: for files
    that are rewritten every few seconds. `mode` sets the permissions.
    """
    part = path.with_name(path.name + PART)
    try:
        with part.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            if is_durable:
                file.flush()
                os.fsync(file.fileno())
        if mode is not None:
            part.chmod(mode)
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
    """Make a folder that only this user can read, for pictures of people. An existing one is left as it is.

    Raises `OSError`.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete the half-written files in `folder`. Raises `OSError`."""
    for leftover in folder.glob(f"*{PART}"):
        leftover.unlink()
