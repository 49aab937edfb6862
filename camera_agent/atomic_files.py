"""Files that are either wholly there or not there at all, whatever kills the process or, with `write`, the power.

Written aside under a name ending in `.part`, flushed to the disk, renamed, and the folder flushed too: the
rename is the moment at which the file exists (see `rename(2)` and `fsync(2)`). A `.part` that is found later was
never finished.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

PART = ".part"


def write(path: Path, pieces: Iterable[bytes]) -> None:
    """Put the joined pieces at `path`, replacing what was there. Raises `OSError`, leaving `path` as it was."""
    aside = path.with_name(path.name + PART)
    try:
        with aside.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def publish(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Replace the file at once, so that nobody reads half of it, without forcing it to the disk: for what is news, not
    memory. `mode` is of its permissions (None: as the process makes files). Raises `OSError`.
    """
    aside = path.with_name(path.name + PART)
    aside.write_bytes(content)
    if mode is not None:
        aside.chmod(mode)
    aside.replace(path)


def make_own(folder: Path) -> None:
    """Make a folder that no other user of the machine looks into: what waits in it are pictures of people. One that is
    there already is left as it is. Raises `OSError`.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def flush_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut, not only the contents of its files."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(folder: Path) -> int:
    """Delete every half-written file in `folder`; return how many there were."""
    leftovers = list(folder.glob(f"*{PART}"))
    for leftover in leftovers:
        leftover.unlink()
    return len(leftovers)
