"""Image classifiers and object detectors of a folder that transformers saved by `save_pretrained`. transformers is
optional: only these networks need it.

Nothing is downloaded, no code of the folder runs, and weights are read as safetensors only. The card holds the content
of `config.json`, so the file with the weights is all that is needed beside it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from server.catalogue import ModelCard
from server.domain.errors import ConfigurationError
from server.ensemble.building import raw_boxes
from server.ensemble.building.detector import DETECTOR_VERSIONS, Detector
from server.ensemble.building.hugging_face_form import form_of
from server.ensemble.building.offline import stay_offline
from server.ensemble.faults import in_short, shortened

VERSIONS = {"hugging-face": 1, **raw_boxes.VERSIONS, **DETECTOR_VERSIONS}
"""Raise `hugging-face` when a card gives another network."""
LIBRARY = "transformers"
"""Its version is part of the lock."""
WEIGHTS = "model.safetensors"

_LABELS = ("id2label", "label2id")
_KINDS = {"ForImageClassification": "classifier", "ForObjectDetection": "detector"}
_SCORE_FLOOR = 0.1
_NO_CLASS = "N/A"
_SOFTMAX = ("detr", "table-transformer", "yolos")
"""The detectors whose last output is "nothing"; each output of the others has a sigmoid of its own."""
_REPLACED = ("attn_implementation", "experts_implementation", "_implementation_internal")
"""Ends of keys that may name a repository, whose code transformers would download and run."""


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

    def __init__(self, network: nn.Module, outputs: int, *, softmax: bool) -> None:
        super().__init__()
        self.network = network
        self.outputs = outputs
        self.boxes_of = raw_boxes.detr if softmax else raw_boxes.detr_sigmoid

    def forward(self, rows: list[Tensor]) -> list[dict[str, Tensor]]:
        batch = torch.stack(list(rows))
        height, width = batch.shape[-2:]
        return self.boxes_of(self.network(pixel_values=batch), (width, height), self.outputs)


def build(card: ModelCard, weights: Path | None) -> nn.Module:
    """The network of the card's `config`, with these weights.

    Raises ConfigurationError without transformers, for a config that it does not know, and for weights of another
    network.
    """
    stated = card.parameters_as(Parameters)
    if weights is None:
        raise ConfigurationError(f"the card of {card.name} needs weights")
    config = json.loads(stated.config)
    network = _made(config, card.kind, card.name, load_file(weights))
    if card.kind == "classifier":
        return Logits(network)
    boxes = Boxes(network, config["num_labels"], softmax=config.get("model_type") in _SOFTMAX)
    labels = stated.labels or range(1, len(card.classes) + 1)
    return Detector(boxes, card, labels, score_floor=stated.score_floor)


def card_content(folder: Path) -> dict[str, Any]:
    """The content of a card of the network in a folder, but for its weights, `model.safetensors`.

    Raises ConfigurationError for a folder without a network that this can serve.
    """
    config = _read(folder, "config.json")
    _check_weights(folder)
    if _names_code(config):
        raise ConfigurationError(f"{folder}/config.json names code of its own (auto_map), and no such code is run")
    stated = config.get("architectures")
    named = stated[0] if isinstance(stated, list) and stated and isinstance(stated[0], str) else ""
    kind = next((kind for end, kind in _KINDS.items() if named.endswith(end)), None)
    if kind is None:
        raise ConfigurationError(
            f"{folder} holds a {named or 'network without a name'}, no image classifier and no object detector"
        )
    named_outputs, outputs = _outputs(config, f"{folder}/config.json", detects=kind == "detector")
    kept = {key: value for key, value in _harmless(config).items() if key not in _LABELS}
    preprocessing = _read(folder, "preprocessor_config.json")
    form = form_of(preprocessing, f"{folder}/preprocessor_config.json", detects=kind == "detector")
    content: dict[str, Any] = {
        "kind": kind,
        "classes": _apart(named_outputs.values()),
        "factory": f"{__name__}:build",
        "citation": f"{named} of transformers, from {folder.name}",
        "parameters": {"config": json.dumps(kept | {"num_labels": outputs}, sort_keys=True)},
        "input": form.content,
    }
    if len(named_outputs) < outputs:
        content["parameters"]["labels"] = tuple(number + 1 for number in named_outputs)
    if kind == "detector":
        content["parameters"]["score_floor"] = _SCORE_FLOOR
    elif config.get("problem_type") == "multi_label_classification":
        content["output"] = "independent_logits"
    return content


def _outputs(config: dict[str, Any], place: str, *, detects: bool) -> tuple[dict[int, str], int]:
    """The names of the network's outputs by number, from 0, and how many outputs it has.

    A detector's outputs without a name, or named `N/A` as in COCO, are left out. Raises ConfigurationError for a
    classifier with an output without a name, and for names that are none.
    """
    stated = config.get("id2label")
    if not isinstance(stated, dict) or not all(isinstance(name, str) for name in stated.values()):
        raise ConfigurationError(f"{place} does not name its classes: `id2label` is no object of numbers and names")
    wrong = next((number for number in stated if not (number.isascii() and number.isdigit())), None)
    if wrong is not None or not stated:
        what = "has no names" if wrong is None else f"has `{wrong}` where a number from 0 on is expected"
        raise ConfigurationError(f"{place} does not name its classes: `id2label` {what}")
    names = {int(number): stated[number] for number in sorted(stated, key=int)}
    count = config.get("num_labels") or max(names) + 1
    if isinstance(count, bool) or not isinstance(count, int) or count <= max(names):
        raise ConfigurationError(f"{place} has `num_labels` {count!r}, and `id2label` names the output {max(names)}")
    missing = next((number for number in range(count) if number not in names), None)
    if missing is not None and not detects:
        raise ConfigurationError(f"{place} does not name its classes: `id2label` has no name for the output {missing}")
    if detects:
        names = {number: name for number, name in names.items() if name != _NO_CLASS}
    return names, count


def _apart(names: Iterable[str]) -> tuple[str, ...]:
    """The names, each once: of two `crane`s the second is `crane (2)`."""
    seen: Counter[str] = Counter()
    given: list[str] = []
    for name in names:
        seen[name] += 1
        given.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(given)


def _names_code(value: Any) -> bool:
    if isinstance(value, dict):
        return "auto_map" in value or any(_names_code(part) for part in value.values())
    return isinstance(value, list) and any(_names_code(part) for part in value)


def _harmless(config: dict[str, Any]) -> dict[str, Any]:
    """The config without what makes transformers download weights or code, at any depth."""
    kept: dict[str, Any] = _without_replaced(config)
    return kept | {"use_pretrained_backbone": False}


def _without_replaced(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_replaced(part) for part in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _without_replaced(part) for key, part in value.items() if not key.endswith(_REPLACED)}
    return kept | ({"use_pretrained_backbone": False} if "use_pretrained_backbone" in kept else {})


def _made(config: dict[str, Any], kind: str, name: str, state: dict[str, Tensor]) -> nn.Module:
    """The network with these weights, by the loader of transformers: it knows the names that it gave them."""
    if _names_code(config):
        raise ConfigurationError(f"the config of {name} names code of its own (auto_map), and no such code is run")
    stay_offline()
    try:
        import transformers
    except ImportError as error:
        raise ConfigurationError(
            f"{name} needs transformers, which is not installed: pip install 'sectorwatch[transformers]'"
        ) from error
    made = _harmless(config)
    model_type = made.pop("model_type", "")
    auto = "AutoModelForImageClassification" if kind == "classifier" else "AutoModelForObjectDetection"
    try:
        known = transformers.AutoConfig.for_model(model_type, **made)
        kind_of = getattr(transformers, auto)._model_mapping[type(known)]
        network, seen = kind_of.from_pretrained(
            None, config=known, state_dict=state, output_loading_info=True, dtype=torch.float32
        )
    except Exception as error:  # a config of anybody fails in many ways
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
