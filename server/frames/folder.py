"""Pictures in a folder, for this user alone: `ab/abcdef...`, named by the SHA-256 of their bytes (hex).

A small view of a picture lies beside it (`.small`). A file appears whole or not at all, also after a power cut.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from server.domain.files.private_files import PRIVATE_FILE, make_private_folder
from server.frames.names import LEFT_AFTER_S, OWNER, SMALL, digest_of

log = logging.getLogger(__name__)

RESERVE_BYTES = 512 * 1024 * 1024
"""Pictures leave so much of a disk to the database, which may need it for bursts."""


class Folder:
    """The pictures of one database. Every method raises OSError where the disk refuses."""

    def __init__(self, root: Path) -> None:
        self._root = root

    is_local = True

    @property
    def name(self) -> str:
        return str(self._root)

    def put(self, sha256: str, image: bytes) -> None:
        """Store a picture, unless it is stored."""
        path = self._path(sha256)
        with suppress(FileNotFoundError):
            if path.stat().st_size == len(image):
                return
        if self.free_bytes() < RESERVE_BYTES:
            raise OSError(f"the disk of {self._root} has less than {RESERVE_BYTES >> 20} MiB left")
        self._write(path, image)

    def has(self, sha256: str) -> bool:
        return self._path(sha256).is_file()

    def get(self, sha256: str) -> bytes | None:
        """A picture's bytes, which have this SHA-256; None for one that is not here, or is damaged."""
        image = _read(self._path(sha256))
        if image is None or hashlib.sha256(image).hexdigest() == sha256:
            return image
        log.error("a kept picture is damaged", extra={"sha256": sha256, "file": str(self._path(sha256))})
        return None

    def remove(self, digests: Sequence[str]) -> None:
        """Delete pictures with their small views. Raises OSError for the first that cannot be deleted."""
        if not self._root.is_dir():  # its disk is away: the pictures are not gone
            raise FileNotFoundError(f"there is no folder {self._root}; is its disk mounted?")
        for sha256 in digests:
            path = self._path(sha256)
            path.unlink(missing_ok=True)
            self._small(path).unlink(missing_ok=True)  # after the picture: see put_small

    def get_small(self, sha256: str) -> bytes | None:
        """The small view of a picture; None before it was made."""
        return _read(self._small(self._path(sha256))) or None

    def put_small(self, sha256: str, image: bytes) -> None:
        """Store a small view; nothing stays of it where the picture is being deleted meanwhile."""
        path = self._path(sha256)
        if not path.is_file():
            return
        self._write(self._small(path), image)
        if not path.is_file():
            self._small(path).unlink(missing_ok=True)

    def left(self) -> Iterator[list[tuple[str, str]]]:
        """All files that are older than LEFT_AFTER_S, in portions: the SHA-256 that each is of, and its name."""
        if not self._root.is_dir():
            return
        old = time.time() - LEFT_AFTER_S
        for shard in sorted(self._root.iterdir()):
            if shard.is_dir():
                yield [(digest_of(file.name), f"{shard.name}/{file.name}") for file in _old_files(shard, old)]

    def discard(self, names: Sequence[str]) -> None:
        """Delete files that `left` named."""
        for name in names:
            (self._root / name).unlink(missing_ok=True)

    def owner(self) -> bytes | None:
        """The mark of the database that keeps the pictures."""
        return _read(self._root / OWNER)

    def set_owner(self, mark: bytes) -> None:
        """Write that mark."""
        self._write(self._root / OWNER, mark)

    def beside(self) -> list[tuple[str, bytes | None]]:
        """The other folders in the same place, each with its mark."""
        place = self._root.parent
        others = sorted(each for each in place.iterdir() if each.is_dir()) if place.is_dir() else []
        return [(str(each), _read(each / OWNER)) for each in others if each != self._root]

    def free_bytes(self) -> int:
        """What the disk has left."""
        return shutil.disk_usage(next(each for each in (self._root, *self._root.parents) if each.exists())).free

    def try_out(self) -> None:
        """Raises OSError where no picture can be stored."""
        if self.free_bytes() < RESERVE_BYTES:
            raise OSError(f"the disk of {self._root} has less than {RESERVE_BYTES >> 20} MiB left")
        there = next(each for each in (self._root, *self._root.parents) if each.exists())
        with tempfile.TemporaryFile(dir=there) as probe:  # no folder is made: who tries may be another user
            probe.write(b"probe")

    def _path(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256

    @staticmethod
    def _small(path: Path) -> Path:
        return path.with_name(path.name + SMALL)

    def _write(self, path: Path, content: bytes) -> None:
        if not path.parent.is_dir():
            if not self._root.parent.exists():  # one that is there may be shared on purpose
                make_private_folder(self._root.parent)
            make_private_folder(self._root)
            make_private_folder(path.parent)
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        handle = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_FILE)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(handle)  # the name may come later: a power cut loses a picture, and leaves no half one
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _old_files(folder: Path, before_s: float) -> Iterator[Path]:
    for file in folder.iterdir():
        with suppress(FileNotFoundError):
            if file.stat().st_mtime < before_s:
                yield file
