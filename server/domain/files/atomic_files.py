"""Writing a file so that readers see the old content or the new one, also after a power cut."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp, mkstemp


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


@contextmanager
def filling(folder: Path, mode: int = 0o700) -> Iterator[Path]:
    """Gives an empty folder beside `folder`, which is new or empty. It takes its place once the block has ended well.

    Nothing is left behind when the block raises. Raises OSError: ENOTEMPTY where something is in the folder.
    """
    folder = folder.resolve()
    folder.parent.mkdir(mode=mode, parents=True, exist_ok=True)
    if folder.is_dir() and any(folder.iterdir()):
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(folder))
    aside = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield aside
        aside.chmod(mode)
        for path in aside.rglob("*"):
            _sync(path)
        _sync(aside)
        aside.replace(folder)
        _sync(folder.parent)
    finally:
        rmtree(aside, ignore_errors=True)


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
