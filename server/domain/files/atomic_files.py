"""Writing a file so that readers see the old content or the new one, also after a power cut."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp


class ForeignOwner(Exception):
    """A file belongs to another user, or group, and this process may not give it to them again."""


@contextmanager
def replacing(path: Path, mode: int = 0o644, owner: tuple[int, int] | None = None) -> Iterator[Path]:
    """Gives an empty file beside `path` to write to. It takes the place of `path` once the block has ended well.

    `owner` (user and group ids) is the new file's owner; None: this process's user. Nothing is left behind when the
    block raises. Raises OSError, and ForeignOwner where this process may not give the file to that owner.
    """
    handle, name = mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        _give(aside, owner)
        aside.chmod(mode)
        _sync(aside)
        aside.replace(path)
        _sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def _give(aside: Path, owner: tuple[int, int] | None) -> None:
    has = aside.stat()
    if owner is None or owner == (has.st_uid, has.st_gid):
        return
    try:
        os.chown(aside, *owner)
    except OSError as error:
        raise ForeignOwner(f"it belongs to {owner[0]}:{owner[1]}: {error.strerror}") from None


def _sync(path: Path) -> None:
    """Put a file's content, or a folder's names, on the disk, where the platform can open them."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
