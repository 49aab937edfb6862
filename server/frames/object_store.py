"""Pictures in an object store, by fsspec: several servers share it. An object appears whole or not at all."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cached_property
from typing import Any

from server.domain.errors import ConfigurationError
from server.domain.secrets_in_text import without_secrets
from server.frames.names import LEFT_AFTER_S, OWNER, SMALL, digest_of

log = logging.getLogger(__name__)

_WHOLE = frozenset({"memory", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci"})
"""Stores in which an object appears whole. In others it is written beside its place, and moved there."""


@contextmanager
def _as_os_error() -> Iterator[None]:
    """The libraries of object stores raise errors of their own."""
    try:
        yield
    except (OSError, ConfigurationError):
        raise
    except Exception as error:
        raise OSError(without_secrets(f"the object store does not answer: {type(error).__name__}: {error}")) from error


class ObjectStore:
    """As `Folder`, in an object store. Every method raises OSError where the store refuses."""

    def __init__(self, url: str) -> None:
        self._url = url

    is_local = False

    @property
    def name(self) -> str:
        return without_secrets(self._url)

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """The file system and the path in it; opened in the process that uses it, after Gunicorn's fork."""
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise ConfigurationError("pictures in an object store need fsspec: pip install fsspec") from None
        try:
            files, root = url_to_fs(self._url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(
                f"frames_url: {without_secrets(str(error))} (sectorwatch[s3] has what s3:// needs)"
            ) from None
        return files, str(root)

    def put(self, sha256: str, image: bytes) -> None:
        with _as_os_error():
            if not self.has(sha256):
                self._write(self._path(sha256), image)

    def has(self, sha256: str) -> bool:
        with _as_os_error():
            return bool(self._opened[0].exists(self._path(sha256)))

    def get(self, sha256: str) -> bytes | None:
        image = self._read(self._path(sha256))
        if image is None or hashlib.sha256(image).hexdigest() == sha256:
            return image
        log.error("a kept picture is damaged", extra={"sha256": sha256, "place": self.name})
        return None

    def remove(self, digests: Sequence[str]) -> None:
        paths = [self._path(sha256) for sha256 in digests]
        self._delete(paths)
        self._delete([path + SMALL for path in paths])  # after the pictures: see put_small

    def get_small(self, sha256: str) -> bytes | None:
        return self._read(self._path(sha256) + SMALL) or None

    def put_small(self, sha256: str, image: bytes) -> None:
        with _as_os_error():
            if not self.has(sha256):
                return
            self._write(self._path(sha256) + SMALL, image)
            if not self.has(sha256):
                self._delete([self._path(sha256) + SMALL])

    def left(self) -> Iterator[list[tuple[str, str]]]:
        files, root = self._opened
        with _as_os_error():
            folders = files.ls(root, detail=True) if files.exists(root) else []
        for folder in folders:
            if folder["type"] == "directory":
                with _as_os_error():
                    yield [
                        (digest_of(name), found["name"])
                        for found in files.ls(folder["name"], detail=True)
                        if _age_s(found) > LEFT_AFTER_S and (name := found["name"].rpartition("/")[2])
                    ]

    def discard(self, names: Sequence[str]) -> None:
        self._delete(names)

    def owner(self) -> bytes | None:
        return self._read(f"{self._opened[1]}/{OWNER}")

    def set_owner(self, mark: bytes) -> None:
        with _as_os_error():
            self._write(f"{self._opened[1]}/{OWNER}", mark)

    def beside(self) -> list[tuple[str, bytes | None]]:
        files, root = self._opened
        place = root.rpartition("/")[0]
        with _as_os_error():
            found = files.ls(place, detail=True) if files.exists(place) else []
        others = [each["name"] for each in found if each["type"] == "directory"]
        return [(each, self._read(f"{each}/{OWNER}")) for each in others if each.strip("/") != root.strip("/")]

    def try_out(self) -> None:
        with _as_os_error():
            self._write(self._path("0" * 64), b"probe")
            self._delete([self._path("0" * 64)])

    def _path(self, sha256: str) -> str:
        return f"{self._opened[1]}/{sha256[:2]}/{sha256}"

    def _write(self, path: str, content: bytes) -> None:
        files = self._opened[0]
        if {files.protocol} & _WHOLE if isinstance(files.protocol, str) else set(files.protocol) & _WHOLE:
            files.pipe_file(path, content)
            return
        files.makedirs(path.rpartition("/")[0], exist_ok=True)
        files.pipe_file(f"{path}.part", content)
        files.mv(f"{path}.part", path)

    def _read(self, path: str) -> bytes | None:
        try:
            with _as_os_error():
                return bytes(self._opened[0].cat_file(path))
        except FileNotFoundError:
            return None

    def _delete(self, paths: Sequence[str]) -> None:
        for path in paths:
            with suppress(FileNotFoundError), _as_os_error():
                self._opened[0].rm_file(path)


def _age_s(found: dict[str, Any]) -> float:
    """How long ago an object was written; infinite where the store does not tell."""
    at = found.get("LastModified") or found.get("created") or found.get("mtime") or found.get("updated")
    if isinstance(at, datetime):
        return time.time() - at.timestamp()
    return time.time() - float(at) if isinstance(at, int | float) else float("inf")
