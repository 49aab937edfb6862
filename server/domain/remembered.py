"""The settings of the last start, kept in the data folder, so that every command there means the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from server.domain.files.atomic_files import replacing
from server.domain.files.private_files import holds_password

FILE = "settings.json"

_RELATIVE = re.compile(r"sqlite:///([^/:{][^:]*)")


class Remembered(msgspec.Struct, frozen=True):
    """`settings` are those that were given at the last start. `config` is the settings file that it read.

    `left_out` names settings that were given and are not kept, since they hold a password.
    """

    settings: dict[str, Any] = {}
    config: str | None = None
    left_out: tuple[str, ...] = ()


_remembered = msgspec.json.Decoder(Remembered)


def remember(folder: Path, settings: Mapping[str, Any], config: Path | None) -> None:
    """Keep these for the other commands. Only the folder's user can read them. Raises OSError."""
    settings = {name: _wherever(value) for name, value in settings.items() if name != "data_dir"}
    left_out = tuple(name for name, value in settings.items() if holds_password(_as_text(value)))
    kept = {name: value for name, value in settings.items() if name not in left_out}
    remembered = Remembered(kept, None if config is None else str(config.resolve()), left_out)
    with replacing(folder / FILE, mode=0o600) as aside:
        aside.write_bytes(msgspec.json.encode(remembered, enc_hook=str))


def recall(folder: Path) -> Remembered:
    """What was kept; nothing where the file is missing or cannot be read."""
    try:
        return _remembered.decode((folder / FILE).read_bytes())
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return Remembered()


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()


def _wherever(value: Any) -> Any:
    """A relative path in an SQLite URL counts from the working folder: made absolute, it means the same everywhere."""
    if isinstance(value, str) and (relative := _RELATIVE.fullmatch(value)):
        return f"sqlite:///{Path.cwd() / relative[1]}"
    return value
