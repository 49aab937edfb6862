"""Which models to serve: those of the settings, unless `models swap` has chosen others since.

The choice is a file in `data_dir`, so that a restart serves the same models. A later change of the setting `models`
overrides it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from server.domain.errors import ConfigurationError
from server.domain.files.atomic_files import replacing
from server.domain.files.private_files import PRIVATE_FILE, PRIVATE_FOLDER
from server.domain.files.text_files import UnreadableText, read_text
from server.settings import ServerSettings

FILE = "ensemble.json"


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`models` are served `instead_of` those that the settings named at that time."""

    models: tuple[str, ...]
    instead_of: tuple[str, ...]


_choice = msgspec.json.Decoder(Choice)


def chosen_models(settings: ServerSettings) -> tuple[str, ...]:
    """The models to serve. Raises ConfigurationError when the file exists and cannot be read."""
    path = settings.data_dir / FILE
    if not path.exists():
        return settings.models
    try:
        choice = _choice.decode(read_text(path))
    except (UnreadableText, msgspec.MsgspecError) as error:
        raise ConfigurationError(
            f"{path}, the models last swapped in, cannot be read: {error}; delete it, or mend it"
        ) from error
    return choice.models if choice.instead_of == settings.models else settings.models


def choose(models: Sequence[str], settings: ServerSettings) -> None:
    """Keep this choice for the next start. Raises ConfigurationError when it cannot be written."""
    path = settings.data_dir / FILE
    try:
        if tuple(models) == settings.models:
            path.unlink(missing_ok=True)
            return
        settings.data_dir.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        with replacing(path, PRIVATE_FILE) as aside:
            aside.write_bytes(msgspec.json.encode(Choice(tuple(models), settings.models)))
    except OSError as error:
        raise ConfigurationError(f"{path}: the choice of models cannot be kept there: {error.strerror}") from error
