"""The lock file: all that decides an ensemble's answers, written down. Its digest is the ensemble's name.

Two ensembles with one name answer alike; where names differ, `differences` says in which model and in what.
`server.ensemble.lock_of` makes the lock of models in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from policies.calibration import Row
from server.domain.errors import ConfigurationError
from server.domain.files.text_files import UnreadableText, read_text

FORMAT = 2
"""Of the file. Format 1, of version 0.1, held digests of source text."""

_COMMAND = "sectorwatch models lock"
_LABELS = {"classes": "class list", "input": "input form"}
_SHA256_LENGTH = 64


class LockedClasses(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A list of classes: how many, and the sha256 of their names, one per line, in the network's order."""

    count: int
    sha256: str


class LockedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One model. `weights` is a sha256, None for a model without weights.

    `code` is the version of each step of Sectorwatch's own code. `factory` makes a user's network, and `source` is
    the sha256 of the user's code; both are empty for a network of Sectorwatch. `answer` holds what the card says of the
    network's answer beside `output`. `calibration` decides no label, but the events under the rule `evidence`. Both are
    left out where they are empty, so that older locks keep their digest.
    """

    name: str
    kind: str
    format: str
    weights: str | None
    code: dict[str, int]
    factory: str
    source: str | None
    classes: LockedClasses
    input: dict[str, Any]
    parameters: dict[str, Any]
    output: str
    dtype: str
    answer: dict[str, str] = {}
    calibration: tuple[Row, ...] = ()


class Lock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All models in the order of answers, and what they share.

    `decoder` is the library that decodes images and the version of our rules, `versions` are those of the libraries
    that compute, `execution` is everything other than float32 on the processor.
    """

    models: tuple[LockedModel, ...]
    decoder: dict[str, str]
    versions: dict[str, str]
    execution: dict[str, str] = {}

    @property
    def digest(self) -> str:
        """The ensemble's name: sha256 of the canonical JSON."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


def write_lock(lock: Lock, path: Path) -> None:
    """Write JSON that a person can read and version control can compare.

    Raises ConfigurationError when it cannot be written.
    """
    content = {"format": FORMAT, "ensemble": lock.digest, **msgspec.to_builtins(lock)}
    text = msgspec.json.format(msgspec.json.encode(content, order="sorted"), indent=2)
    try:
        path.write_bytes(text + b"\n")
    except OSError as error:
        raise ConfigurationError(f"the lock {path} cannot be written: {error.strerror}; --out names another") from error


def read_lock(path: Path, models: Sequence[str] = ()) -> Lock:
    """The lock in a file that `write_lock` wrote.

    Raises ConfigurationError for a file that is missing, no lock, of another format or edited by hand. The message
    gives the command that makes a new one for `models`.
    """
    command = f"`{' '.join((_COMMAND, *models))}`"
    try:
        content = msgspec.json.decode(read_text(path), type=dict[str, Any])
        file_format, digest = content.pop("format", 1), content.pop("ensemble", None)
        if digest is not None and file_format != FORMAT:
            raise ConfigurationError(
                f"the lock {path} has format {file_format}, and this version of Sectorwatch reads format {FORMAT}: "
                f"renew it with {command}"
            )
        lock = msgspec.convert(content, Lock)
    except UnreadableText as error:
        raise ConfigurationError(f"the lock {path} cannot be read: {error}; {command} makes one") from error
    except msgspec.MsgspecError as error:
        raise ConfigurationError(f"{path} is no lock of this version: {error}; {command} makes one") from error
    if digest != lock.digest:
        raise ConfigurationError(
            f"the lock {path} was changed by hand: it names {digest}, but holds {lock.digest}; "
            f"restore it, or {command} makes one"
        )
    return lock


def check_lock(lock: Lock, path: Path) -> None:
    """Raises ConfigurationError, naming each model and part that differs, unless `lock` is the one in the file."""
    names = [model.name for model in lock.models]
    differing = differences(read_lock(path, names), lock)
    if differing:
        raise ConfigurationError(
            f"this ensemble is not the one of {path}: {'; '.join(differing)}. "
            f"If that is meant, approve it with `{' '.join((_COMMAND, *names))}`"
        )


def differences(locked: Lock, present: Lock) -> list[str]:
    """What is not as it was locked, in words; empty when the digests are equal."""
    if [model.name for model in locked.models] != [model.name for model in present.models]:
        names = ["+".join(model.name for model in lock.models) for lock in (locked, present)]
        return [f"the models are {names[1]}, locked were {names[0]}"]
    parts = [
        (f"{_LABELS.get(field, field)} of {was.name}", getattr(was, field), getattr(now, field))
        for was, now in zip(locked.models, present.models, strict=True)
        for field in LockedModel.__struct_fields__
    ]
    parts += [(part, getattr(locked, part), getattr(present, part)) for part in ("decoder", "versions", "execution")]
    return [line for part, was, now in parts for line in _changes(part, was, now)]


def _changes(part: str, was: Any, now: Any) -> list[str]:
    if was == now:
        return []
    if isinstance(was, dict) and isinstance(now, dict):
        keys = sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key))
        return [f"{part}: `{key}` is {_short(now.get(key))}, locked was {_short(was.get(key))}" for key in keys]
    return [f"the {part} is {_short(now)}, locked was {_short(was)}"]


def _short(value: Any) -> str:
    if isinstance(value, LockedClasses):
        return f"{value.count} names ({value.sha256[:12]}…)"
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == _SHA256_LENGTH else str(value)
