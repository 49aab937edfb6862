"""Weights on disk: where they are, how they come there, and whether they are the right ones."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Protocol, cast

import platformdirs
import requests

from server.catalogue.card import SHIPPED, FileSource, ModelCard, PackageSource, Source, UrlSource
from server.catalogue.package_index import opened_member
from server.domain.atomic_files import replacing
from server.domain.errors import ConfigurationError, SectorwatchError

_log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 18
_ANSWER_WITHIN_S = 30


class Progress(Protocol):
    def __call__(self, done_bytes: int, total_bytes: int, /) -> None:
        """Called now and then while bytes arrive, and once at the end with the two equal."""


def cache_dir() -> Path:
    """The user's cache: `SECTORWATCH_CACHE_DIR`, or the platform's usual place. It need not exist yet."""
    chosen = os.environ.get("SECTORWATCH_CACHE_DIR")
    return Path(chosen) if chosen else platformdirs.user_cache_path("sectorwatch")


def locate(card: ModelCard, cache: Path) -> Path | None:
    """The file with this model's weights, unverified; None when they have not been pulled, or it has none."""
    if card.sha256 is None:
        return None
    candidates = [Path(card.folder, source.path).resolve() for source in card.sources if isinstance(source, FileSource)]
    candidates.append(_place(card, cache))
    return next((path for path in candidates if path.is_file()), None)


def verify(card: ModelCard, path: Path) -> None:
    """Hash the file. Raises ConfigurationError with both digests when it is not the one the card names."""
    try:
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise ConfigurationError(f"the weights of {card.name} cannot be read: {error}") from error
    if digest != card.sha256:
        is_own = Path(card.folder) != SHIPPED
        meant = f", or if that is meant put it into {card.folder}/card.toml" if is_own else ""
        raise ConfigurationError(f"{_wrong(card, str(path), digest)}; run `sectorwatch models pull {card.name}`{meant}")


def pull(card: ModelCard, cache: Path, progress: Progress | None = None, *, is_terminal: bool = False) -> Path | None:
    """Have this model's weights on disk and verified; gives their file, or None for a model without weights.

    Right ones that are already there are used, and no network is touched. Otherwise the sources are tried in
    order until one gives bytes of the right digest. A file appears in the cache whole or not at all.
    Raises ConfigurationError, saying what became of each source, when none did.
    """
    if card.sha256 is None:
        return None
    present = locate(card, cache)
    failures: list[str] = []
    if present is not None:
        try:
            verify(card, present)
        except ConfigurationError as error:
            failures.append(error.detail)
        else:
            return present
    for source in card.sources:
        try:
            return _fetch(card, source, _place(card, cache), progress, is_terminal=is_terminal)
        except (SectorwatchError, OSError) as error:
            _log.debug("weights_source_failed model=%s source=%s", card.name, source, exc_info=True)
            failures.append(str(error))
    raise ConfigurationError(f"no weights for {card.name}: " + "; ".join(failures))


def _place(card: ModelCard, cache: Path) -> Path:
    """Named by digest: cards that share weights share the file, and a newer card never meets an older file."""
    return cache / "weights" / f"{card.sha256}.weights"


def _wrong(card: ModelCard, where: str, digest: str) -> str:
    return f"the weights of {card.name} are not the right ones: {where} has sha256 {digest}, its card {card.sha256}"


def _fetch(card: ModelCard, source: Source, place: Path, progress: Progress | None, *, is_terminal: bool) -> Path:
    """Stream `source` beside its place, hashing; only the right bytes are moved there."""
    assert card.size_bytes is not None
    if isinstance(source, FileSource):
        raise ConfigurationError(f"{Path(card.folder, source.path)} is missing or wrong")
    place.parent.mkdir(parents=True, exist_ok=True)
    hasher = hashlib.sha256()
    done_bytes = 0
    # Weights are no secret, and the server may run as another user.
    with _opened(source, is_terminal=is_terminal) as content, replacing(place, 0o644) as path, path.open("wb") as aside:
        while done_bytes <= card.size_bytes and (chunk := content.read(_CHUNK_BYTES)):
            hasher.update(chunk)
            aside.write(chunk)
            done_bytes += len(chunk)
            if progress is not None:
                progress(min(done_bytes, card.size_bytes), card.size_bytes)
        if done_bytes > card.size_bytes:
            raise ConfigurationError(f"{_named(source)} has more than the {card.size_bytes} bytes its card says")
        if hasher.hexdigest() != card.sha256:
            raise ConfigurationError(_wrong(card, _named(source), hasher.hexdigest()))
    return place


def _opened(source: UrlSource | PackageSource, *, is_terminal: bool) -> AbstractContextManager[IO[bytes]]:
    if isinstance(source, PackageSource):
        return opened_member(source, is_terminal=is_terminal)
    return _opened_url(source.url)


@contextmanager
def _opened_url(url: str) -> Iterator[IO[bytes]]:
    with requests.get(url, stream=True, timeout=_ANSWER_WITHIN_S, headers={"Accept-Encoding": "identity"}) as answer:
        answer.raise_for_status()
        yield cast("IO[bytes]", answer.raw)


def _named(source: Source) -> str:
    if isinstance(source, PackageSource):
        return f"{source.package}=={source.version}"
    return source.url if isinstance(source, UrlSource) else source.path
