"""Which models a server loads at its start: those that all replicas are to serve, else those of its settings.

A version before kept the choice of `models swap` in a file in `data_dir`. It counts until the database has its first
generation, and goes then.
"""

from __future__ import annotations

import logging

import msgspec

from server.domain.errors import ConfigurationError
from server.domain.files.text_files import UnreadableText, read_text
from server.domain.fleet import Standing, models_at_start
from server.settings import ServerSettings

log = logging.getLogger(__name__)

FILE = "ensemble.json"


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`models` are served `instead_of` those that the settings named at that time."""

    models: tuple[str, ...]
    instead_of: tuple[str, ...]


_choice = msgspec.json.Decoder(Choice)


def chosen_models(settings: ServerSettings, standing: Standing | None = None) -> tuple[str, ...]:
    """The models to load; `standing` None: the database does not exist yet.

    Raises ConfigurationError when the file of a version before counts, and cannot be read.
    """
    if standing is not None and standing.wanted is not None:
        return models_at_start(standing, settings.replica, settings.models)
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


def forget_file(settings: ServerSettings) -> None:
    """Delete the file of a version before: the database has the choice now."""
    path = settings.data_dir / FILE
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("a file counts no more and stays", extra={"file": str(path), "cause": error.strerror})
