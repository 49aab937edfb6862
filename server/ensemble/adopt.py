"""Writes cards for networks that exist: files as in a folder of FlexServe's `dmodels`, or torchvision's by name.

A card is written only after the network was loaded and asked about some pictures (`look`). The file stays where it is.
The card holds its digest.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch

from server.catalogue.card import Format, InputForm, ModelCard, Output, parse_card
from server.catalogue.file_contents import misfit
from server.domain.errors import ConfigurationError, SectorwatchError
from server.ensemble import torchvision_models
from server.ensemble.building import network_of
from server.ensemble.faults import in_short
from server.ensemble.foreign import Detector
from server.ensemble.look import check_detector, check_load, look

FLEXSERVE_FORM = InputForm(
    "rgb", "crop", (224, 224), shorter_side=256, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)
)
"""FlexServe's one transform: resize to 256, the centre 224, ImageNet's mean and standard deviation."""

SUFFIXES = (".pt", ".pth", ".pt2", ".pkl", ".safetensors")


class Adopted(NamedTuple):
    """A card that was written, its file, and what the user should know of the network."""

    card: ModelCard
    path: Path
    remarks: tuple[str, ...]


def adopt(
    file: Path,
    classes: Sequence[str],
    models_dir: Path,
    *,
    factory: str = "",
    trusted: bool = False,
    output: Output | None = None,
) -> Adopted:
    """Write the card of one classifier into a folder of its own below `models_dir`, and give it.

    `factory` (`package.module:callable`) is needed for a state dict, `trusted` for a pickled module. `output` says what
    its numbers are; None: they show it, where they can. Raises ConfigurationError when the format is unknown, when
    something is missing for it, and when the network is not fit to be served (`look`).
    """
    kind = format_of(file)
    content: dict[str, Any] = {
        "classes": tuple(classes),
        "format": kind,
        "output": "independent_logits",  # as the network has it, until that is known
        "input": FLEXSERVE_FORM.content,
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
    path, text = _text(file.stem, content, models_dir, file)
    card = parse_card(text, path)
    seen = look(card, network_of(card, file, raw=True), output)
    path, text = _text(file.stem, content | {"output": seen.output}, models_dir, file)
    return Adopted(_written(path, text), path, seen.remarks)


def adopt_torchvision(architecture: str, models_dir: Path, file: Path | None = None) -> ModelCard:
    """Write the card of a torchvision network, with its usual weights from `file` or from PyTorch's download folder.

    Raises ConfigurationError when there is no such network, and when the weights are not there and cannot be
    downloaded.
    """
    content, address = torchvision_models.card_content(architecture)
    weights = file or _downloaded(address)
    more = [] if file else [{"from": "url", "url": address}]
    path, text = _text(f"torchvision-{architecture}", content, models_dir, weights, more)
    card = parse_card(text, path)
    network = network_of(card, weights)
    if isinstance(network, Detector):
        check_detector(card, network.network)
    else:
        check_load(card, network)
    return _written(path, text)


def format_of(file: Path) -> Format:
    """The format of a file, without running anything in it. Raises ConfigurationError when it has none."""
    try:
        what = misfit(file)
        if what is not None:
            raise ConfigurationError(f"{file} is no network that PyTorch can read: it {what}")
        program = _program_format(file)
        if program is not None:
            return program
        content = torch.load(file, map_location="cpu", weights_only=True)
    except SectorwatchError:
        raise
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
    except pickle.UnpicklingError as error:
        if _is_pickled(file):
            return "pickle"
        raise ConfigurationError(f"{file} is no network that PyTorch can read") from error
    except Exception as error:  # reading a file that is something else fails in many ways
        raise ConfigurationError(
            f"{file} is no network that PyTorch can read, or it is cut short: {in_short(error)}"
        ) from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{file} holds a {type(content).__name__}, neither a network nor a state dict")
    return "state_dict"


def _program_format(file: Path) -> Format | None:
    """The format of a file that needs no unpickling to be known."""
    if file.suffix.lower() == ".safetensors":
        return "safetensors"
    if not zipfile.is_zipfile(file):
        return None
    with zipfile.ZipFile(file) as archive:
        members = {name.rpartition("/")[2] for name in archive.namelist()}
    if "constants.pkl" in members:
        return "torchscript"
    is_export = any(name.endswith(("serialized_exported_program.json", "archive_format")) for name in members)
    return "export" if is_export else None


def _is_pickled(file: Path) -> bool:
    """Whether a file that is no state dict is a pickle all the same: an archive of PyTorch, or its older format."""
    with file.open("rb") as opened:
        head = opened.read(2)
    return zipfile.is_zipfile(file) or (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05")


def _text(
    name: str, content: dict[str, Any], models_dir: Path, file: Path, more: Sequence[dict[str, str]] = ()
) -> tuple[Path, str]:
    """The place of the card of `file`, and its text, with `more` sources of the same weights.

    Raises ConfigurationError if there is a card already.
    """
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
    return path, _toml(stated | content)


def _written(path: Path, text: str) -> ModelCard:
    card = parse_card(text, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"the card {path} cannot be written: {error.strerror}; --out names another folder"
        ) from error
    return card


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
