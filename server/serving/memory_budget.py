"""How much memory a server may need at most, by its settings, and what to lower when that is more than there is.

The bound is a sum: libraries and models as they are in memory; per worker one frame of `max_pixels` being decoded and
what the networks need while they compute; the rows of frames that wait to be concluded; and the bodies of uploads.
What libraries and models take was measured when they were last loaded here, and is kept beside the server's data
(`remember`); before that it is estimated from the sizes of the weights.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from server.catalogue import ModelCard, card_named
from server.domain.errors import TooBig
from server.serving.machine import Machine
from server.settings import ServerSettings

log = logging.getLogger(__name__)

FILE = "footprint.json"
BODIES = 4
"""Bodies of the largest size that are taken in at once; usual ones are far smaller, so far more of them are."""

_MIB = 1024 * 1024
_LIBRARIES_BYTES = 750 * _MIB
"""Resident size of Python with torch, torchvision, flask and the rest, without models: measured, rounded up."""

_WEIGHTS_TIMES = 3
"""Weights as read, as parameters, and fused copies while loading."""

_COMPUTING_BYTES = 64 * _MIB
"""Of one worker, for one portion of the catalogue's models: measured, rounded up."""

_PIXEL_BYTES = 12
"""Of one pixel, from the decoder's own copy to the transformed row: measured, rounded up."""

_BODY_TIMES = 3
"""As text, as decoded text and as images: an inference request whose images are base64 in JSON."""

_ROW_CHANNELS = 3


class Models(msgspec.Struct, frozen=True):
    """What an ensemble takes: `resident_bytes` of the process that has loaded it, libraries included, and
    `computing_bytes` more for each worker that computes. `names` are its models, each with the digest of its weights.
    """

    names: tuple[str, ...]
    resident_bytes: int
    computing_bytes: int


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the bound; `lower` is the setting it grows with, None where fewer models are the only way."""

    what: str
    bytes: int
    lower: str | None = None


@dataclass(frozen=True, slots=True)
class Footprint:
    """The most that a server may need, by its parts."""

    parts: tuple[Part, ...]

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)

    def __str__(self) -> str:
        parts = ", ".join(f"{_mib(part.bytes)} for {part.what}" for part in self.parts)
        return f"up to {_mib(self.bytes)}: {parts}"


def footprint(settings: ServerSettings, models: Models, cards: Sequence[ModelCard], workers: int) -> Footprint:
    """The bound for a server of these settings whose ensemble has these `cards`."""
    waiting = (2 * workers + 1) * settings.max_frames  # of each request at most two rounds are in hands
    row_bytes = sum(card.input.size[0] * card.input.size[1] * _ROW_CHANNELS for card in cards if card.kind == "change")
    frame_bytes = workers * settings.max_pixels * _PIXEL_BYTES
    body_bytes = BODIES * settings.max_body_bytes * _BODY_TIMES
    computing_bytes = workers * models.computing_bytes + waiting * row_bytes
    return Footprint(
        (
            Part("libraries and models", models.resident_bytes),
            Part(f"frames of `max_pixels` in {workers} workers", frame_bytes, "max_pixels"),
            Part("bodies of `max_body_bytes`", body_bytes, "max_body_bytes"),
            Part("networks that compute", computing_bytes, "inference_threads"),
        )
    )


def expected(settings: ServerSettings, models: Sequence[str], machine: Machine) -> Footprint:
    """The bound for these models, as far as it is known before they are loaded. Raises ConfigurationError for an
    unknown one.
    """
    folders = [settings.models_dir] if settings.models_dir else []
    cards = [card_named(name, folders) for name in models]
    workers = settings.inference_threads or machine.processors
    return footprint(settings, remembered(cards, settings.data_dir), cards, workers)


def limit_bytes(settings: ServerSettings, machine: Machine) -> int | None:
    """What there is: as set, else all that the machine or container has; None where that is not told."""
    return settings.memory_limit_bytes or machine.memory_bytes


def check_fits(settings: ServerSettings, most: Footprint, limit: int | None) -> None:
    """Raises TooBig, naming the settings to lower and how far, when `most` is more than `limit` (None: not known)."""
    if limit is None or most.bytes <= limit:
        return
    room = {part.lower: limit - (most.bytes - part.bytes) for part in most.parts if part.lower}
    ways = [
        f"`{lower}` to {_lowered(settings, lower, room[lower], most)}"
        for lower in ("max_pixels", "max_body_bytes")
        if room[lower] > _MIB
    ]
    advice = (
        f"lower {' or '.join(ways)}"
        if ways
        else ("lower `max_pixels`, `max_body_bytes` and `inference_threads` together, or serve fewer or smaller models")
    )
    raise TooBig(f"this server may need {most}; there are {_mib(limit)}: {advice}, or give it more memory")


def estimated(cards: Sequence[ModelCard]) -> Models:
    """Before they were ever loaded here."""
    weights = sum(card.size_bytes or 0 for card in cards)
    return Models(_names(cards), _LIBRARIES_BYTES + _WEIGHTS_TIMES * weights, _COMPUTING_BYTES)


def beside(present: Models, cards: Sequence[ModelCard]) -> Models:
    """While another ensemble is loaded and served beside the one that is there."""
    more = estimated(cards)
    loading_bytes = more.resident_bytes - _LIBRARIES_BYTES
    computing_bytes = max(present.computing_bytes, more.computing_bytes)
    return Models(more.names, present.resident_bytes + loading_bytes, computing_bytes)


def measured(cards: Sequence[ModelCard], resident_bytes: int | None, computing_bytes: int | None) -> Models:
    """As it turned out; where the system does not tell, as estimated."""
    guess = estimated(cards)
    return Models(guess.names, resident_bytes or guess.resident_bytes, computing_bytes or guess.computing_bytes)


def remember(models: Models, data_dir: Path) -> None:
    """Keep what was measured, for the next start and `sectorwatch doctor`. A full disk keeps nobody from serving."""
    aside = data_dir / f"{FILE}.new"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(msgspec.json.encode(models))
        aside.replace(data_dir / FILE)
    except OSError as error:
        log.warning("memory not remembered", extra={"detail": error})


def remembered(cards: Sequence[ModelCard], data_dir: Path) -> Models:
    """What was measured when these very models were last loaded here; else the estimate."""
    try:
        models = msgspec.json.decode((data_dir / FILE).read_bytes(), type=Models)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return estimated(cards)
    return models if models.names == _names(cards) else estimated(cards)


def _lowered(settings: ServerSettings, setting: str, room_bytes: int, most: Footprint) -> int:
    part_bytes = next(part.bytes for part in most.parts if part.lower == setting)
    present: int = getattr(settings, setting)
    return present * room_bytes // part_bytes


def _names(cards: Sequence[ModelCard]) -> tuple[str, ...]:
    return tuple(f"{card.name} {card.sha256 or ''}".strip() for card in cards)


def _mib(amount: int) -> str:
    return f"{-(-amount // _MIB)} MiB"
