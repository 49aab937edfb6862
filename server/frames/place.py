"""The place of pictures that `frames_url` names: a folder, or an object store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from server.domain.errors import ConfigurationError
from server.domain.secrets_in_text import without_secrets
from server.frames.folder import Folder
from server.frames.object_store import ObjectStore

_FILE = "file://"
Shelf = Folder | ObjectStore


def open_place(url: str) -> Callable[[str], Shelf]:
    """Gives the shelf of a database, by its name, in the place at `url`. Nothing is made or connected yet."""

    def shelf(name: str) -> Shelf:
        if "://" in url and not url.startswith(_FILE):
            return ObjectStore(f"{url.rstrip('/')}/{name}")
        return Folder(Path(url.removeprefix(_FILE)).expanduser() / name)

    return shelf


class TriedOut(Protocol):
    def try_out(self) -> None: ...


def place_fault(shelf: TriedOut) -> str | None:
    """Why the place takes no picture; None where it does. It writes a few bytes and deletes them."""
    try:
        shelf.try_out()
    except (OSError, ConfigurationError) as error:
        return without_secrets(str(error))
    return None
