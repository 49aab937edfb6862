"""The classifiers of timm by name. timm is optional: only these networks need it."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from server.catalogue import InputForm, ModelCard
from server.domain.errors import ConfigurationError
from server.ensemble.building.foreign import fill, state_of
from server.ensemble.building.head import check_count, head_size
from server.ensemble.building.offline import stay_offline

VERSIONS = {"timm": 1}
"""Raise it when a card gives another network."""
LIBRARY = "timm"
"""Its version is part of the lock."""
_IMAGENET = 1000


class Parameters(msgspec.Struct, frozen=True):
    """The `parameters` of a card."""

    architecture: str


def build(card: ModelCard, weights: Path | None) -> nn.Module:
    """The network that `architecture` in the card's parameters names, with these weights.

    Raises ConfigurationError without timm, for a name that it does not have, and for weights of another network.
    """
    stated = card.parameters_as(Parameters)
    if weights is None:
        raise ConfigurationError(f"the card of {card.name} needs weights")
    network = _made(stated.architecture, len(card.classes))
    fill(
        network,
        weights,
        "safetensors" if weights.suffix == ".safetensors" else "state_dict",
        f"the weights of {card.name} are not those of timm's {stated.architecture}",
    )
    return network


def card_content(architecture: str, weights: Path, classes: Sequence[str]) -> dict[str, Any]:
    """The content of a card but for its weights. Raises ConfigurationError as `build`, and for a head of another number
    of classes.
    """
    outputs = head_size(lambda count: _made(architecture, count), state_of(weights), architecture)
    if classes:
        check_count(outputs, classes, architecture)
    elif outputs != _IMAGENET:
        raise ConfigurationError(
            f"the head of this {architecture} has {outputs} outputs: name them with --classes FILE"
        )
    return {
        "kind": "classifier",
        "classes": tuple(classes) or "imagenet",
        "factory": f"{__name__}:build",
        "licence": "Apache-2.0 (timm); of the weights: not stated",
        "citation": f"timm {architecture}: see its documentation for the paper",
        "parameters": {"architecture": architecture},
        "input": _form(architecture).content,
    }


def _timm() -> Any:
    stay_offline()
    try:
        import timm
    except ImportError as error:
        raise ConfigurationError(
            "this network needs timm, which is not installed: pip install 'sectorwatch[timm]'"
        ) from error
    return timm


def _made(architecture: str, outputs: int) -> nn.Module:
    timm = _timm()
    if not timm.is_model(architecture):
        near = get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`timm.list_models()` lists all"
        raise ConfigurationError(f"timm has no network named {architecture}: {hint}")
    network: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=outputs)
    return network


def _form(architecture: str) -> InputForm:
    """The transform that timm states for the network's usual weights, as an input form."""
    from timm.data import resolve_data_config

    stated = resolve_data_config(model=_made(architecture, 2))
    channels, height, width = stated["input_size"]
    if channels not in (1, 3):
        raise ConfigurationError(f"timm's {architecture} takes {channels} colours, and a card has 1 or 3")
    mean, std = (tuple(round(value * 255, 4) for value in stated[key]) for key in ("mean", "std"))
    is_cut = stated["crop_mode"] == "center" or stated["crop_pct"] < 1
    return InputForm(
        "rgb" if channels == 3 else "grey",
        "crop" if is_cut else "stretch",
        (width, height),
        shorter_side=int(max(width, height) / stated["crop_pct"]) if is_cut else None,
        mean=mean,
        std=std,
        resample="bicubic" if stated["interpolation"] == "bicubic" else "bilinear",
    )
