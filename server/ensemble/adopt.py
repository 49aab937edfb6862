"""Cards for networks that are already there: a folder of FlexServe's `dmodels`, or torchvision's by name.

A card is only written for a network that was loaded and asked: it has to answer for one row with as many numbers as
there are classes. The file stays where it is; its digest goes into the card.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from server.catalogue.card import Format, InputForm, ModelCard, parse_card
from server.domain.errors import ConfigurationError
from server.ensemble import torchvision_models
from server.ensemble.building import network_of
from server.ensemble.detections import Detections

FLEXSERVE_FORM = InputForm(
    "rgb", "crop", (224, 224), shorter_side=256, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)
)
"""FlexServe's one transform: resize to 256, the centre 224, ImageNet's mean and standard deviation."""

SUFFIXES = (".pt", ".pth", ".pt2", ".pkl", ".safetensors")


def adopt(
    file: Path,
    classes: Sequence[str],
    models_dir: Path,
    *,
    form: InputForm = FLEXSERVE_FORM,
    factory: str = "",
    trusted: bool = False,
    output: str = "logits",
) -> ModelCard:
    """Write a card for one classifier's file into a folder of its own below `models_dir`, and give it.

    `factory` (`package.module:callable`) is needed for a state dict, `trusted` for a pickled module. Raises
    ConfigurationError when the format cannot be told, something is missing for it, or the network does not answer as it
    should.
    """
    kind = format_of(file)
    if kind == "pickle" and not trusted:
        raise ConfigurationError(
            f"{file} is a pickled module: reading it runs whatever it says. If you know where it comes from, "
            "trust it (--trust); better, save its state dict"
        )
    if kind in ("state_dict", "safetensors") and not factory:
        raise ConfigurationError(
            f"{file} holds weights without a network: name what makes one (--factory package.module:callable)"
        )
    content = _content(file, tuple(classes), form) | {"format": kind, "output": output}
    if kind in ("state_dict", "safetensors"):
        content["factory"] = factory
    if kind == "pickle":
        content["trusted"] = True
    return _written(content, models_dir)


def adopt_torchvision(architecture: str, models_dir: Path, file: Path | None = None) -> ModelCard:
    """Write a card for a network of torchvision's, with its usual weights from `file`, or from their usual place.

    Raises ConfigurationError when there is no such network, or the weights are neither given nor there and cannot be
    fetched.
    """
    of = torchvision_models.described(architecture)
    weights = file or _fetched(of.address)
    content = _content(weights, of.classes, of.form)
    content |= {"name": _name(f"torchvision-{architecture}"), "kind": of.kind, "citation": of.citation}
    content |= {"factory": "server.ensemble.torchvision_models:build", "licence": "BSD-3-Clause (torchvision)"}
    content["parameters"] = {"architecture": architecture}
    if of.labels:
        content["parameters"] |= {"labels": of.labels, "outputs": max(of.labels) + 1}
    if file is None:
        content["sources"].append({"from": "url", "url": of.address})
    return _written(content, models_dir)


def format_of(file: Path) -> Format:
    """Which format a file is of, without running anything in it. Raises ConfigurationError when it is of none."""
    if file.suffix == ".safetensors":
        return "safetensors"
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                members = {name.rpartition("/")[2] for name in archive.namelist()}
                if "constants.pkl" in members:
                    return "torchscript"
                if any(name.endswith(("serialized_exported_program.json", "archive_format")) for name in members):
                    return "export"
        read = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return "pickle"
    except Exception as error:  # reading a file that is something else fails in many ways
        raise ConfigurationError(
            f"{file} is no network that PyTorch can read: {error or type(error).__name__}"
        ) from error
    if not isinstance(read, dict):
        raise ConfigurationError(f"{file} holds a {type(read).__name__}, neither a network nor a state dict")
    return "state_dict"


def _content(file: Path, classes: tuple[str, ...], form: InputForm) -> dict[str, Any]:
    """What every adopted card has; the file by its full path, until it is known where the card lies."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return {
        "name": _name(file.stem),
        "summary": f"adopted from {file.name}",
        "kind": "classifier",
        "classes": classes,
        "licence": "not stated",
        "citation": "not stated",
        "sha256": digest,
        "size_bytes": file.stat().st_size,
        "input": msgspec.to_builtins(form),
        "sources": [{"from": "file", "path": file.resolve()}],
    }


def _written(content: dict[str, Any], models_dir: Path) -> ModelCard:
    folder = models_dir / content["name"]
    path = folder / "card.toml"
    if path.exists():
        raise ConfigurationError(f"there is already a card at {path}: remove it first, or adopt into another folder")
    file = content["sources"][0]["path"]
    content["sources"][0]["path"] = os.path.relpath(file, folder.resolve())
    text = _toml(content)
    card = parse_card(text, path)
    _answers(card, file)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"the card {path} cannot be written: {error.strerror}; --out names another folder"
        ) from error
    return card


def _answers(card: ModelCard, weights: Path) -> None:
    """Ask the network about one grey row. Raises ConfigurationError unless its answer fits its card."""
    network = network_of(card, weights)
    width, height = card.input.size if card.input.fit in ("stretch", "crop") else (320, 320)
    try:
        with torch.inference_mode():
            output = network(torch.zeros(1, 3 if card.input.colour == "rgb" else 1, height, width))
    except Exception as error:
        raise ConfigurationError(
            f"{card.name} raises {type(error).__name__} for a row of {width}x{height}: {error}"
        ) from error
    if card.kind == "detector":
        if not all(isinstance(each, Detections) for each in output):
            raise ConfigurationError(f"{card.name} does not answer as a detector")
    elif output.shape != (1, len(card.classes)):
        raise ConfigurationError(
            f"{card.name} gives {tuple(output.shape)} numbers for one row and {len(card.classes)} classes"
        )
    elif not bool(output.isfinite().all()):
        raise ConfigurationError(f"{card.name} answers one row of zeros with values that are no numbers")


def _fetched(address: str) -> Path:
    place = torchvision_models.usual_place(address)
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        prefix = re.search(r"-([0-9a-f]{8,})\.", place.name)
        try:
            torch.hub.download_url_to_file(address, str(place), prefix[1] if prefix else None, progress=False)
        except (OSError, RuntimeError) as error:
            raise ConfigurationError(
                f"no weights at {place}, and {address} does not give them: {error}; name a file of them with --weights"
            ) from error
    return place


def _name(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._") or "model"


def _toml(content: dict[str, Any]) -> str:
    """The card as TOML: plain values, then the tables."""
    plain = {key: value for key, value in content.items() if not isinstance(value, dict) and key != "sources"}
    lines = [f"{key} = {_value(value)}" for key, value in plain.items()]
    for table in ("input", "parameters"):
        if content.get(table):
            lines += ["", f"[{table}]"]
            lines += [f"{key} = {_value(value)}" for key, value in content[table].items() if value is not None]
    for source in content["sources"]:
        lines += ["", "[[sources]]", *(f"{key} = {_value(value)}" for key, value in source.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    """JSON's numbers, truths, lists and strings are TOML's too (JSON escapes only what TOML lets be escaped)."""
    return msgspec.json.encode(value).decode()
