"""The text of a card that adoption writes, and its place."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from server.catalogue import ModelCard, parse_card
from server.domain.errors import ConfigurationError


def place_of(name: str, models_dir: Path) -> Path:
    """Where the card of the model with that name belongs. Raises ConfigurationError if there is a card already."""
    path = models_dir / (re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._") or "model") / "card.toml"
    if path.exists():
        raise ConfigurationError(f"there is already a card at {path}: remove it first, or adopt into another folder")
    return path


def of_file(file: Path, path: Path, more: Sequence[dict[str, str]] = ()) -> dict[str, Any]:
    """What the card at `path` says of any file, with `more` sources of the same weights.

    Raises ConfigurationError if the file cannot be read.
    """
    try:
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
    return {
        "name": path.parent.name,
        "summary": f"adopted from {file.name}",
        "kind": "classifier",
        "licence": "not stated",
        "citation": "not stated",
        "sha256": digest,
        "size_bytes": file.stat().st_size,
        "sources": [{"from": "file", "path": os.path.relpath(file.resolve(), path.parent.resolve())}, *more],
    }


def written(path: Path, content: dict[str, Any]) -> ModelCard:
    """Write the card. Raises ConfigurationError if it cannot be used or written."""
    text = toml(content)
    card = parse_card(text, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"the card {path} cannot be written: {error.strerror}; --out names another folder"
        ) from error
    return card


def toml(content: dict[str, Any]) -> str:
    """The card as TOML: plain values, then the tables."""
    tables = [(f"[{name}]", content[name]) for name in ("input", "parameters") if content.get(name)]
    tables += [("[[sources]]", source) for source in content["sources"]]
    plain = {key: value for key, value in content.items() if not isinstance(value, dict) and key != "sources"}
    return "\n".join(("\n".join(_lines(plain)), *("\n".join(("", head, *_lines(table))) for head, table in tables), ""))


def _lines(table: dict[str, Any]) -> list[str]:
    """JSON's numbers, truths, lists and strings are valid in TOML."""
    return [f"{key} = {msgspec.json.encode(value).decode()}" for key, value in table.items() if value is not None]
