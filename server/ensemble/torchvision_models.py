"""The networks of torchvision by name, for classification and detection.

`build` makes the network of a card. `card_content` gives what the card of a network holds, from what torchvision
states about its weights.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec
import torchvision
from torch import nn

from server.catalogue import InputForm, ModelCard
from server.domain.errors import ConfigurationError
from server.ensemble.building.detector import DETECTOR_VERSIONS, Detector
from server.ensemble.building.foreign import fill

VERSIONS = {"torchvision": 1, **DETECTOR_VERSIONS}
"""Raise `torchvision` when a card gives another network."""

_SKIPPED = ("__background__", "N/A")
_DETECTOR_SIDE = 1333
"""Pixels. torchvision's detectors resize a row themselves, and shrink what is larger than this."""


class Parameters(msgspec.Struct, frozen=True):
    """The `parameters` of a card. `outputs` is how many classes the network has, None: those of the card.

    `labels` are a detector's numbers of the card's classes, in their order.
    """

    architecture: str
    labels: tuple[int, ...] = ()
    outputs: int | None = None


def build(card: ModelCard, weights: Path | None) -> nn.Module:
    """The network that `architecture` in the card's parameters names, with the state dict of `weights`.

    Raises ConfigurationError for a name that torchvision does not have, and for weights of another network.
    """
    stated, detects = card.parameters_as(Parameters), card.kind == "detector"
    if weights is None:
        raise ConfigurationError(f"the card of {card.name} needs weights")
    _check_known(stated.architecture)
    options: dict[str, Any] = {"weights_backbone": None} if detects else {}
    if stated.architecture in ("googlenet", "inception_v3"):
        options |= {"init_weights": False, "transform_input": True}  # as with its usual weights
    network: nn.Module = torchvision.models.get_model(
        stated.architecture, num_classes=stated.outputs or len(card.classes), weights=None, **options
    )
    fill(
        network,
        weights,
        "safetensors" if weights.suffix == ".safetensors" else "state_dict",
        f"the weights of {card.name} are not those of torchvision's {stated.architecture}",
    )
    return Detector(network, card, stated.labels) if detects else network


def card_content(architecture: str) -> tuple[dict[str, Any], str]:
    """The content of a card but for its weights, and the address of the usual weights.

    Raises ConfigurationError for a name that torchvision does not have.
    """
    _check_known(architecture)
    weights: Any = torchvision.models.get_model_weights(architecture).DEFAULT
    content: dict[str, Any] = {
        "kind": "classifier",
        "classes": tuple(weights.meta["categories"]),
        "factory": f"{__name__}:build",
        "licence": "BSD-3-Clause (torchvision)",
        "citation": f"torchvision {architecture}: see its documentation for the paper",
        "parameters": {"architecture": architecture},
    }
    if architecture in _detectors():
        numbered = [(number, name) for number, name in enumerate(content["classes"]) if name not in _SKIPPED]
        labels, content["classes"] = zip(*numbered, strict=True)
        content["kind"] = "detector"
        content["parameters"] |= {"labels": labels, "outputs": max(labels) + 1}
        form = InputForm("rgb", "shrink", (_DETECTOR_SIDE, _DETECTOR_SIDE), std=(255.0,))
    else:
        form = _form(weights.transforms())
    return content | {"input": form.content}, weights.url


def _detectors() -> list[str]:
    listed: list[str] = torchvision.models.list_models(torchvision.models.detection)
    return listed


def _check_known(architecture: str) -> None:
    names = sorted([*torchvision.models.list_models(torchvision.models), *_detectors()])
    if architecture not in names:
        near = get_close_matches(architecture, names, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
        raise ConfigurationError(f"torchvision has no classifier and no detector named {architecture}: {hint}")


def _form(preset: Any) -> InputForm:
    """The transform of a classifier's weights as an input form."""
    side = preset.crop_size[0]
    mean, std = (tuple(round(value * 255, 4) for value in values) for values in (preset.mean, preset.std))
    return InputForm(
        "rgb",
        "crop",
        (side, side),
        shorter_side=preset.resize_size[0],
        mean=mean,
        std=std,
        resample="bicubic" if preset.interpolation.value == "bicubic" else "bilinear",
    )
