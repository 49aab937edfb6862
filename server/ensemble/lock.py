"""The lock of an ensemble in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import msgspec
import torch
from torch import nn

from server.catalogue import ModelCard
from server.catalogue.lock import Lock, LockedClasses, LockedModel
from server.domain.precision import Device, Execution
from server.ensemble.decode import decoder_identity
from server.ensemble.identity import code_versions, is_ours, library_of, source_digest
from server.ensemble.module import EnsembleModule

_OF_ANSWERS = ("output_key", "postprocess")


def lock_of(network: EnsembleModule, execution: Execution = "fp32", device: Device = "cpu") -> Lock:
    """The lock of these models as they are in memory now, before they are tuned for `execution` and `device`."""
    return Lock(
        models=tuple(
            _locked(card, part, execution) for card, part in zip(network.cards, network.networks.values(), strict=True)
        ),
        decoder=decoder_identity(),
        versions={"torch": str(torch.__version__), "torchvision": version("torchvision")}
        | {library: version(library) for card in network.cards if (library := library_of(card))},
        execution={**_lowered(network, execution), **({} if device == "cpu" else {"device": device})},
    )


def _lowered(network: EnsembleModule, execution: Execution) -> Mapping[str, str]:
    if execution == "fp32":
        return {}
    is_detecting = any(card.is_lowered and card.kind == "detector" for card in network.cards)
    parts = ("classifiers", "detectors") if is_detecting else ("classifiers",)
    return dict.fromkeys(parts, execution)


def _locked(card: ModelCard, network: nn.Module, execution: Execution) -> LockedModel:
    dtypes = {str(value.dtype).removeprefix("torch.") for value in network.parameters() if value.is_floating_point()}
    classes = "\n".join(card.classes).encode()
    return LockedModel(
        name=card.name,
        kind=card.kind,
        format=card.format,
        weights=card.sha256,
        code=code_versions(card, execution),
        factory="" if is_ours(card) else card.factory,
        source=source_digest(card, network),
        classes=LockedClasses(len(card.classes), hashlib.sha256(classes).hexdigest()),
        input=card.input.content,
        parameters=_as_json(card.parameters),
        output=card.output,
        dtype="+".join(sorted(dtypes)) or "none",
        answer={key: value for key in _OF_ANSWERS if (value := getattr(card, key))},
        calibration=card.model_info.calibration,
    )


def _as_json(value: Any) -> Any:
    """The value as it is after it is written and read: tuples become lists."""
    return msgspec.json.decode(msgspec.json.encode(value))
