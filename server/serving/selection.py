"""Which models to serve: those of the settings, unless a running server was told others since (`models swap`).

The choice is a file in `data_dir`, so that a restart goes on with what was served and does not fall back unnoticed.
It holds until the settings say something else than they said when it was made: the later word counts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

from server.domain.errors import ConfigurationError
from server.settings import ServerSettings

FILE = "ensemble.json"


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """These `models` are served `instead_of` those that the settings named when it was made."""

    models: tuple[str, ...]
    instead_of: tuple[str, ...]


def chosen_models(settings: ServerSettings) -> tuple[str, ...]:
    """The models to serve. Raises ConfigurationError when the file is there and cannot be read: nothing else may be
    served.
    """
    path = settings.data_dir / FILE
    try:
        choice = msgspec.json.decode(path.read_bytes(), type=Choice)
    except FileNotFoundError:
        return settings.models
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path}, the models last swapped in, cannot be read: {error}; delete it, or mend it"
        ) from error
    return choice.models if choice.instead_of == settings.models else settings.models


def choose(models: Sequence[str], settings: ServerSettings) -> None:
    """Serve these from now on, after a restart too. Raises ConfigurationError when that cannot be kept."""
    path = settings.data_dir / FILE
    try:
        if tuple(models) == settings.models:
            path.unlink(missing_ok=True)
            return
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".new")
        with aside.open("wb") as file:
            file.write(msgspec.json.encode(Choice(tuple(models), settings.models)))
            file.flush()
            os.fsync(file.fileno())  # or a power cut leaves an empty file, with which no server starts
        aside.replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: the choice of models cannot be kept there: {error.strerror}") from error
