"""The lock: all that decides an ensemble's answers, written down. Its digest is the ensemble's name.

Two ensembles with one name answer alike; where names differ, `differences` says in which model and in what.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from server.catalogue import ModelCard
from server.domain.errors import ConfigurationError
from server.domain.precision import Device, Execution
from server.ensemble import detections, forms, module, tuning
from server.ensemble.building import source_digest
from server.ensemble.decode import decoder_identity
from server.ensemble.module import EnsembleModule

_SHARED = (detections, forms, module, tuning)
_MAKE = "`sectorwatch models lock` makes one"


class LockedClasses(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A list of classes: how many, and the sha256 of their names, one per line, in the network's order."""

    count: int
    sha256: str


class LockedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model. `weights` and `architecture` are sha256; None: it has no weights, or no source of its own."""

    name: str
    kind: str
    format: str
    weights: str | None
    architecture: str | None
    classes: LockedClasses
    input: dict[str, Any]
    parameters: dict[str, Any]
    output: str
    dtype: str


class Lock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All models in the order of answers, and what they share.

    `shared` are the sha256 of the code between bytes and labels, `decoder` its library and rules, `versions` of the
    libraries that compute, `execution` what is not float32 on the processor.
    """

    models: tuple[LockedModel, ...]
    shared: dict[str, str]
    decoder: dict[str, str]
    versions: dict[str, str]
    execution: dict[str, str] = {}

    @property
    def digest(self) -> str:
        """The ensemble's name: sha256 of the canonical JSON."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


def lock_of(network: EnsembleModule, execution: Execution = "fp32", device: Device = "cpu") -> Lock:
    """The lock of these models as they are in memory now, before they are tuned for `execution` and `device`."""
    pairs = zip(network.cards, network.networks.values(), strict=True)
    return Lock(
        models=tuple(_locked(card, part) for card, part in pairs),
        shared=dict(_shared_code()),
        decoder=decoder_identity(),
        versions={"torch": str(torch.__version__), "torchvision": version("torchvision")},
        execution=({} if execution == "fp32" else {"classifiers": execution})
        | ({} if device == "cpu" else {"device": device}),
    )


def write_lock(lock: Lock, path: Path) -> None:
    """As JSON that a person can read and a version control system compare. Raises ConfigurationError when it cannot be
    written.
    """
    content = {"ensemble": lock.digest, **msgspec.to_builtins(lock)}
    text = msgspec.json.format(msgspec.json.encode(content, order="sorted"), indent=2)
    try:
        path.write_bytes(text + b"\n")
    except OSError as error:
        raise ConfigurationError(f"the lock {path} cannot be written: {error.strerror}; --out names another") from error


def read_lock(path: Path) -> Lock:
    """What was written. Raises ConfigurationError when it is no lock, or not as `write_lock` left it."""
    try:
        content = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        named = content.pop("ensemble", None)
        lock = msgspec.convert(content, Lock)
    except OSError as error:
        raise ConfigurationError(f"the lock {path} cannot be read: {error.strerror}; {_MAKE}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is no lock of this version: {error}; {_MAKE}") from error
    if named != lock.digest:
        raise ConfigurationError(
            f"the lock {path} was changed by hand: it names {named}, but holds {lock.digest}; restore it, or {_MAKE}"
        )
    return lock


def check_lock(lock: Lock, path: Path) -> None:
    """Raises ConfigurationError, naming each model and part that is not as the file at `path` has it."""
    found = differences(read_lock(path), lock)
    if found:
        raise ConfigurationError(
            f"this ensemble is not the one of {path}: {'; '.join(found)}. "
            "If that is meant, approve it with `sectorwatch models lock`"
        )


def differences(locked: Lock, present: Lock) -> list[str]:
    """In words, what is not as it was locked; empty when the two have one name."""
    if [model.name for model in locked.models] != [model.name for model in present.models]:
        names = ["+".join(model.name for model in lock.models) for lock in (locked, present)]
        return [f"the models are {names[1]}, locked were {names[0]}"]
    found = []
    for was, now in zip(locked.models, present.models, strict=True):
        for field in LockedModel.__struct_fields__:
            found += _told(f"{_WORDS.get(field, field)} of {was.name}", getattr(was, field), getattr(now, field))
    for part in ("shared", "decoder", "versions", "execution"):
        found += _told(part, getattr(locked, part), getattr(present, part))
    return found


_WORDS = {"weights": "weights", "classes": "class list", "input": "input form", "architecture": "architecture source"}


def _told(what: str, was: Any, now: Any) -> list[str]:
    if was == now:
        return []
    if isinstance(was, dict) and isinstance(now, dict):
        keys = sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key))
        return [f"{what}: `{key}` is {_short(now.get(key))}, locked was {_short(was.get(key))}" for key in keys]
    return [f"the {what} is {_short(now)}, locked was {_short(was)}"]


def _short(value: Any) -> str:
    if isinstance(value, LockedClasses):
        return f"{value.count} names ({value.sha256[:12]}…)"
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else str(value)


def _locked(card: ModelCard, network: nn.Module) -> LockedModel:
    dtypes = {str(value.dtype).removeprefix("torch.") for value in network.parameters() if value.is_floating_point()}
    return LockedModel(
        name=card.name,
        kind=card.kind,
        format=card.format,
        weights=card.sha256,
        architecture=source_digest(card, network),
        classes=LockedClasses(len(card.classes), _sha256("\n".join(card.classes))),
        input=_as_json(card.input),
        parameters=_as_json(card.parameters),
        output=card.output,
        dtype="+".join(sorted(dtypes)) or "none",
    )


@cache
def _shared_code() -> Mapping[str, str]:
    """Looked at once: what is written into a file while the process runs is not what the process runs."""
    return {part.__name__.rpartition(".")[2]: _sha256(inspect.getsource(part)) for part in _SHARED}


def _as_json(value: Any) -> Any:
    """As it is once it was written and read."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
