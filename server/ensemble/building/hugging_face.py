"""Image classifiers and object detectors of a folder that transformers saved by `save_pretrained`. transformers is
optional: only these networks need it.

Nothing is downloaded, no code of the folder runs, and weights are read as safetensors only. The card holds the content
of `config.json`, so the file with the weights is all that is needed beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from server.catalogue import InputForm, ModelCard
from server.domain.errors import ConfigurationError
from server.ensemble.building import raw_boxes
from server.ensemble.building.detector import DETECTOR_VERSIONS, Detector
from server.ensemble.faults import in_short, shortened

VERSIONS = {"hugging-face": 1, **raw_boxes.VERSIONS, **DETECTOR_VERSIONS}
"""Raise `hugging-face` when a card gives another network."""
LIBRARY = "transformers"
"""Its version is part of the lock."""
WEIGHTS = "model.safetensors"

_LABELS = ("id2label", "label2id")
_KINDS = {"ForImageClassification": "classifier", "ForObjectDetection": "detector"}
_SCORE_FLOOR = 0.1


class Parameters(msgspec.Struct, frozen=True):
    """The `parameters` of a card. `config` is the content of config.json, without the names of classes."""

    config: str
    labels: tuple[int, ...] = ()
    score_floor: float = 0.0


class Logits(nn.Module):
    """The logits of a classifier of transformers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: Tensor) -> Tensor:
        logits: Tensor = self.network(pixel_values=rows).logits
        return logits


class Boxes(nn.Module):
    """A detector of transformers, with the answer of torchvision's."""

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.network = network
        self.classes = classes

    def forward(self, rows: list[Tensor]) -> list[dict[str, Tensor]]:
        batch = torch.stack(list(rows))
        height, width = batch.shape[-2:]
        return raw_boxes.detr(self.network(pixel_values=batch), (width, height), self.classes)


def build(card: ModelCard, weights: Path | None) -> nn.Module:
    """The network of the card's `config`, with these weights.

    Raises ConfigurationError without transformers, for a config that it does not know, and for weights of another
    network.
    """
    stated = card.parameters_as(Parameters)
    if weights is None:
        raise ConfigurationError(f"the card of {card.name} needs weights")
    network = _made(json.loads(stated.config), card.kind, card.name, load_file(weights))
    if card.kind == "classifier":
        return Logits(network)
    count = len(stated.labels) or len(card.classes)
    return Detector(Boxes(network, count), card, stated.labels or range(1, count + 1), score_floor=stated.score_floor)


def card_content(folder: Path) -> dict[str, Any]:
    """The content of a card of the network in a folder, but for its weights, `model.safetensors`.

    Raises ConfigurationError for a folder without a network that this can serve.
    """
    config = _read(folder, "config.json")
    _check_weights(folder)
    if "auto_map" in config:
        raise ConfigurationError(f"{folder}/config.json names code of its own (auto_map), and no such code is run")
    named = next(iter(config.get("architectures") or ()), "")
    kind = next((kind for end, kind in _KINDS.items() if named.endswith(end)), None)
    if kind is None:
        raise ConfigurationError(
            f"{folder} holds a {named or 'network without a name'}, no image classifier and no object detector"
        )
    labels = {int(number): name for number, name in (config.get("id2label") or {}).items()}
    if sorted(labels) != list(range(len(labels))) or not labels:
        raise ConfigurationError(f"{folder}/config.json does not name its classes (id2label) from 0 on, without a gap")
    shortened = {key: value for key, value in config.items() if key not in _LABELS} | {"num_labels": len(labels)}
    content: dict[str, Any] = {
        "kind": kind,
        "classes": tuple(labels[number] for number in range(len(labels))),
        "factory": f"{__name__}:build",
        "citation": f"{named} of transformers, from {folder.name}",
        "parameters": {"config": json.dumps(shortened, sort_keys=True)},
        "input": _form(_read(folder, "preprocessor_config.json"), folder, detects=kind == "detector").content,
    }
    if kind == "detector":
        content["parameters"]["score_floor"] = _SCORE_FLOOR
    elif config.get("problem_type") == "multi_label_classification":
        content["output"] = "independent_logits"
    return content


def _made(config: dict[str, Any], kind: str, name: str, state: dict[str, Tensor]) -> nn.Module:
    """The network with these weights, by the loader of transformers: it knows the names that it gave them."""
    try:
        import transformers
    except ImportError as error:
        raise ConfigurationError(
            f"{name} needs transformers, which is not installed: pip install 'sectorwatch[transformers]'"
        ) from error
    made = dict(config)
    model_type = made.pop("model_type", "")
    auto = "AutoModelForImageClassification" if kind == "classifier" else "AutoModelForObjectDetection"
    try:
        known = transformers.AutoConfig.for_model(model_type, **made)
        kind_of = getattr(transformers, auto)._model_mapping[type(known)]
        network, seen = kind_of.from_pretrained(
            None, config=known, state_dict=state, output_loading_info=True, dtype=torch.float32
        )
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ConfigurationError(
            f"transformers makes no network of the config and the weights of {name}: {in_short(error)}"
        ) from error
    wrong = [
        str(key) for what in ("missing_keys", "mismatched_keys", "unexpected_keys") for key in seen.get(what) or ()
    ]
    if wrong:
        raise ConfigurationError(f"the weights of {name} are not those of its config: {shortened(', '.join(wrong))}")
    made_network: nn.Module = network.eval()
    return made_network


def _read(folder: Path, file: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / file).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{folder} is no folder of `save_pretrained`: {file} cannot be read: {error}"
        ) from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{folder}/{file} is no JSON object")
    return content


def _check_weights(folder: Path) -> None:
    if (folder / WEIGHTS).is_file():
        return
    if (folder / f"{WEIGHTS}.index.json").is_file():
        todo = "its weights are in several files: save it with `max_shard_size='100GB'`"
    else:
        todo = "save it with `safe_serialization=True`; other files of weights are not read"
    raise ConfigurationError(f"{folder} has no {WEIGHTS}: {todo}")


def _form(stated: dict[str, Any], folder: Path, *, detects: bool) -> InputForm:
    """The transform in `preprocessor_config.json` as an input form."""
    size, crop = _sides(stated.get("size")), _sides(stated.get("crop_size"))
    shortest, longest = size.get("shortest_edge"), size.get("longest_edge")
    whole = (size.get("width"), size.get("height"))
    options: dict[str, Any] = {"resample": "bicubic" if stated.get("resample") == 3 else "bilinear"}
    if stated.get("do_rescale", True):
        factor = float(stated.get("rescale_factor", 1 / 255))
        is_normal = stated.get("do_normalize", True) and "image_mean" in stated
        mean, std = (stated["image_mean"], stated["image_std"]) if is_normal else ((0.0,), (1.0,))
        options |= {key: tuple(round(v / factor, 4) for v in values) for key, values in (("mean", mean), ("std", std))}
    if detects and shortest:
        return InputForm("rgb", "letterbox", (longest or round(shortest * 5 / 3), shortest), **options)
    if shortest and crop and stated.get("do_center_crop", True):
        side = (crop.get("width") or shortest, crop.get("height") or shortest)
        return InputForm("rgb", "crop", side, shorter_side=max(shortest, *side), **options)
    if shortest:
        kept = float(stated.get("crop_pct") or 1.0)  # ConvNeXt's
        return InputForm("rgb", "crop", (shortest, shortest), shorter_side=round(shortest / kept), **options)
    if None in whole:
        raise ConfigurationError(
            f"{folder}/preprocessor_config.json has no `size` that is understood: {stated.get('size')}"
        )
    return InputForm("rgb", "stretch", (int(whole[0] or 0), int(whole[1] or 0)), **options)


def _sides(size: Any) -> dict[str, int]:
    """A size as a dict; a number alone is a square's."""
    if isinstance(size, int):
        return {"width": size, "height": size}
    return size if isinstance(size, dict) else {}
