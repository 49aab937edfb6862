"""Writes cards for networks that exist: files as in a folder of FlexServe's `dmodels`, or torchvision's by name.

A card is written only after the network was loaded and asked about one row: it must answer with as many numbers as
there are classes. The file stays where it is. The card holds its digest.
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
    factory: str = "",
    trusted: bool = False,
    output: str = "logits",
) -> ModelCard:
    """Write the card of one classifier into a folder of its own below `models_dir`, and give it.

    `factory` (`package.module:callable`) is needed for a state dict, `trusted` for a pickled module. Raises
    ConfigurationError when the format is unknown, when something is missing for it, and when the network's answer does
    not fit its classes.
    """
    kind = format_of(file)
    content = {
        "classes": tuple(classes),
        "format": kind,
        "output": output,
        "input": msgspec.to_builtins(FLEXSERVE_FORM),
    }
    if kind == "pickle":
        if not trusted:
            raise ConfigurationError(
                f"{file} is a pickled module: reading it runs whatever it says. If you know where it comes from, "
                "trust it (--trust); better, save its state dict"
            )
        content["trusted"] = True
    if kind in ("state_dict", "safetensors"):
        if not factory:
            raise ConfigurationError(
                f"{file} holds weights without a network: name what makes one (--factory package.module:callable)"
            )
        content["factory"] = factory
    return _write(file.stem, content, models_dir, file)


def adopt_torchvision(architecture: str, models_dir: Path, file: Path | None = None) -> ModelCard:
    """Write the card of a torchvision network, with its usual weights from `file` or from PyTorch's download folder.

    Raises ConfigurationError when there is no such network, and when the weights are not there and cannot be
    downloaded.
    """
    content, address = torchvision_models.card_content(architecture)
    return _write(
        f"torchvision-{architecture}",
        content,
        models_dir,
        file or _downloaded(address),
        [] if file else [{"from": "url", "url": address}],
    )


def format_of(file: Path) -> Format:
    """The format of a file, without running anything in it. Raises ConfigurationError when it has none."""
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
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return "pickle"
    except Exception as error:  # reading a file that is something else fails in many ways
        raise ConfigurationError(
            f"{file} is no network that PyTorch can read: {error or type(error).__name__}"
        ) from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{file} holds a {type(content).__name__}, neither a network nor a state dict")
    return "state_dict"


def _write(
    name: str, content: dict[str, Any], models_dir: Path, file: Path, more: Sequence[dict[str, str]] = ()
) -> ModelCard:
    """Write the card of `file`, with `more` sources of the same weights, if its network answers as it should."""
    name = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._") or "model"
    path = models_dir / name / "card.toml"
    if path.exists():
        raise ConfigurationError(f"there is already a card at {path}: remove it first, or adopt into another folder")
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    stated = {
        "name": name,
        "summary": f"adopted from {file.name}",
        "kind": "classifier",
        "licence": "not stated",
        "citation": "not stated",
        "sha256": digest,
        "size_bytes": file.stat().st_size,
        "sources": [{"from": "file", "path": os.path.relpath(file.resolve(), path.parent.resolve())}, *more],
    }
    text = _toml(stated | content)
    card = parse_card(text, path)
    _check_answer(card, file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"the card {path} cannot be written: {error.strerror}; --out names another folder"
        ) from error
    return card


def _check_answer(card: ModelCard, weights: Path) -> None:
    """Ask the network about one row of zeros. Raises ConfigurationError unless its answer fits its card."""
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


def _downloaded(address: str) -> Path:
    """The file where PyTorch keeps the weights of that address, downloaded if it is not there."""
    path = Path(torch.hub.get_dir(), "checkpoints", address.rpartition("/")[2])
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = re.search(r"-([0-9a-f]{8,})\.", path.name)
        try:
            torch.hub.download_url_to_file(address, str(path), prefix[1] if prefix else None, progress=False)
        except (OSError, RuntimeError) as error:
            raise ConfigurationError(
                f"no weights at {path}, and {address} does not give them: {error}; name a file of them with --weights"
            ) from error
    return path


def _toml(content: dict[str, Any]) -> str:
    """The card as TOML: plain values, then the tables."""
    tables = [(f"[{name}]", content[name]) for name in ("input", "parameters") if content.get(name)]
    tables += [("[[sources]]", source) for source in content["sources"]]
    plain = {key: value for key, value in content.items() if not isinstance(value, dict) and key != "sources"}
    return "\n".join(("\n".join(_lines(plain)), *("\n".join(("", head, *_lines(table))) for head, table in tables), ""))


def _lines(table: dict[str, Any]) -> list[str]:
    """JSON's numbers, truths, lists and strings are valid in TOML."""
    return [f"{key} = {msgspec.json.encode(value).decode()}" for key, value in table.items() if value is not None]
