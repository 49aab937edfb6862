"""The networks of torchvision by name, for classification and detection.

`build` makes the network of a card. `card_content` gives what the card of a network holds, from what torchvision
states about its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec
import torchvision
from torch import nn

from server.catalogue import InputForm, ModelCard
from server.domain.errors import ConfigurationError
from server.ensemble.building.detector import DETECTOR_VERSIONS, Detector
from server.ensemble.building.foreign import fill, state_of
from server.ensemble.building.head import check_count, head_size

VERSIONS = {"torchvision": 1, **DETECTOR_VERSIONS}
"""Raise `torchvision` when a card gives another network."""

_SKIPPED = ("__background__", "N/A")
_SIGMOIDS = ("retinanet", "fcos")
"""Detectors without a background: their outputs begin with the first class."""
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
    network = _made(stated.architecture, stated.outputs or len(card.classes), detects=detects)
    fill(
        network,
        weights,
        "safetensors" if weights.suffix == ".safetensors" else "state_dict",
        f"the weights of {card.name} are not those of torchvision's {stated.architecture}",
    )
    return Detector(network, card, stated.labels) if detects else network


def _made(architecture: str, outputs: int, *, detects: bool) -> nn.Module:
    options: dict[str, Any] = {"weights_backbone": None} if detects else {}
    if architecture in ("googlenet", "inception_v3"):
        options |= {"init_weights": False, "transform_input": True}  # as with its usual weights
    network: nn.Module = torchvision.models.get_model(architecture, num_classes=outputs, weights=None, **options)
    return network


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


def tuned_content(architecture: str, weights: Path, classes: Sequence[str]) -> dict[str, Any]:
    """The content of a card, but for its weights, of a network of torchvision that was trained on for other classes.

    The weights show how many outputs the head has. A detector's first output is the background, unless its classes have
    sigmoids of their own and there are as many outputs as names. Raises ConfigurationError for weights of another
    network, and for another number of classes.
    """
    content, _address = card_content(architecture)
    outputs = head_size(
        lambda count: _made(architecture, count, detects=content["kind"] == "detector"), state_of(weights), architecture
    )
    if content["kind"] == "classifier":
        check_count(outputs, classes, architecture)
        return content | {"classes": tuple(classes)}
    first = 0 if len(classes) == outputs and (classes[0] in _SKIPPED or architecture.startswith(_SIGMOIDS)) else 1
    if len(classes) + first != outputs:
        raise ConfigurationError(
            f"the head of this {architecture} has {outputs} outputs, the first for the background, and the list has "
            f"{len(classes)} class{'es' if len(classes) > 1 else ''}: {outputs - 1} are expected, or {outputs} of "
            f"which the first is `{_SKIPPED[0]}`"
        )
    numbered = [(number, name) for number, name in enumerate(classes, first) if name not in _SKIPPED]
    labels, names = zip(*numbered, strict=True)
    return content | {
        "classes": names,
        "parameters": content["parameters"] | {"labels": labels, "outputs": outputs},
    }


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
