"""torchvision's own networks by name, for classification and detection.

`build` makes one from its card; `described` says what a card has to hold, from what torchvision says of its weights.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
import torchvision
from torch import nn

from server.catalogue.card import InputForm
from server.domain.errors import ConfigurationError
from server.ensemble.foreign import DETECTOR_VERSIONS, Detector, in_short, state_of

if TYPE_CHECKING:
    from server.catalogue.card import ModelCard

VERSIONS = {"torchvision": 1, **DETECTOR_VERSIONS}
"""Raise `torchvision` when a card gives another network."""

_SKIPPED = ("__background__", "N/A")
_DETECTOR_SIDE = 1333
"""torchvision's detectors bring a row to their own size; more than this they would shrink it to."""


class Described(NamedTuple):
    """A torchvision network: `labels` are a detector's numbers of `classes`; `address` is its weights' usual place."""

    kind: str
    classes: tuple[str, ...]
    form: InputForm
    labels: tuple[int, ...]
    address: str
    citation: str


def build(card: ModelCard, weights: Path | None) -> nn.Module:
    """The network that `architecture` in the card's parameters names, with the state dict of `weights`."""
    architecture = card.parameters.get("architecture")
    if weights is None or not isinstance(architecture, str):
        raise ConfigurationError(
            f"the card of {card.name} needs weights, and an `architecture` of torchvision's in its [parameters]"
        )
    detects = card.kind == "detector"
    labels = card.parameters.get("labels", ())
    if detects and (not isinstance(labels, tuple) or len(labels) != len(card.classes)):
        raise ConfigurationError(
            f"the card of {card.name} needs as many `labels` in its [parameters] as it has classes"
        )
    outputs = int(card.number("outputs")) if "outputs" in card.parameters else len(card.classes)
    network = _empty(architecture, outputs, detects=detects)
    state = state_of(weights, "safetensors" if weights.suffix == ".safetensors" else "state_dict")
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ConfigurationError(
            f"the weights of {card.name} are not those of torchvision's {architecture}: {in_short(error)}"
        ) from error
    if not detects:
        return network
    assert isinstance(labels, tuple)
    return Detector(network, [int(label) for label in labels])


def names() -> list[str]:
    """The networks there are, classifiers and detectors."""
    return sorted([*torchvision.models.list_models(torchvision.models), *_detectors()])


def described(architecture: str) -> Described:
    """What torchvision says of a network and its usual weights. Raises ConfigurationError for a name it does not
    have.
    """
    if architecture not in names():
        raise _unknown(architecture)
    weights: Any = torchvision.models.get_model_weights(architecture).DEFAULT
    categories = weights.meta["categories"]
    if architecture in _detectors():
        numbered = [(number, name) for number, name in enumerate(categories) if name not in _SKIPPED]
        labels, classes = zip(*numbered, strict=True)
        side = _DETECTOR_SIDE
        form = InputForm("rgb", "shrink", (side, side), std=(255.0,))
        return Described("detector", classes, form, labels, weights.url, _citation(architecture))
    return Described("classifier", tuple(categories), _form(weights), (), weights.url, _citation(architecture))


def usual_place(address: str) -> Path:
    """Where PyTorch keeps the weights of that address once they were downloaded."""
    return Path(torch.hub.get_dir(), "checkpoints", address.rpartition("/")[2])


def _detectors() -> list[str]:
    listed: list[str] = torchvision.models.list_models(torchvision.models.detection)
    return listed


def _unknown(architecture: str) -> ConfigurationError:
    near = get_close_matches(architecture, names(), n=3)
    meant = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names())}"
    return ConfigurationError(f"torchvision has no classifier and no detector named {architecture}: {meant}")


def _empty(architecture: str, outputs: int, *, detects: bool) -> nn.Module:
    if architecture not in names():
        raise _unknown(architecture)
    options: dict[str, Any] = {"weights_backbone": None} if detects else {}
    if architecture in ("googlenet", "inception_v3"):
        options |= {"init_weights": False, "transform_input": True}  # as with its usual weights
    network: nn.Module = torchvision.models.get_model(architecture, weights=None, num_classes=outputs, **options)
    return network


def _form(weights: Any) -> InputForm:
    preset = weights.transforms()
    side, shorter = preset.crop_size[0], preset.resize_size[0]
    resample: Literal["bilinear", "bicubic"] = "bicubic" if preset.interpolation.value == "bicubic" else "bilinear"
    mean, std = (tuple(round(value * 255, 4) for value in values) for values in (preset.mean, preset.std))
    return InputForm("rgb", "crop", (side, side), shorter_side=shorter, mean=mean, std=std, resample=resample)


def _citation(architecture: str) -> str:
    return f"torchvision {architecture}: see its documentation for the paper"
