"""Writing a file so that readers see the old content or the new one, also after a power cut."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp


@contextmanager
def replacing(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """Gives an empty file beside `path` to write to. It takes the place of `path` once the block has ended well.

    Nothing is left behind when the block raises. Raises OSError.
    """
    handle, name = mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        aside.chmod(mode)
        _sync(aside)
        aside.replace(path)
        _sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


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
