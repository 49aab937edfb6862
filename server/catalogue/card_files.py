"""Reads model cards from TOML files: those of the package, in `cards/`, and those of the user.

A user's own model is a folder with a `card.toml`, below the folders given to `cards` and `card_named`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from server.catalogue.card import CardCalibration, FileSource, InputForm, ModelCard, NpmSource, PackageSource, UrlSource
from server.domain.errors import ConfigurationError
from server.domain.files.text_files import UnreadableText, read_text

_HERE = Path(__file__).parent
SHIPPED = _HERE / "cards"
"""The folder of the package's cards."""


class Fault(NamedTuple):
    """A card that cannot be used: its file, the name of its model as far as it is known, and what is wrong."""

    path: Path
    name: str
    detail: str


def cards(folders: Iterable[Path] = ()) -> dict[str, ModelCard]:
    """Every card of the package and of the models below `folders`, by name.

    Raises ConfigurationError with file, line and reason for a card that cannot be used, and for a name that two have.
    """
    by_name, faults = read_cards(folders)
    if faults:
        raise ConfigurationError(faults[0].detail)
    return by_name


def read_cards(folders: Iterable[Path] = ()) -> tuple[dict[str, ModelCard], list[Fault]]:
    """The usable cards of the package and of the models below `folders`, by name, and the faults of the others."""
    by_name: dict[str, ModelCard] = {}
    faults: list[Fault] = []
    paths = sorted(SHIPPED.glob("*.toml"), key=lambda path: path.stem)
    for path in [*paths, *(path for folder in folders for path in sorted(folder.glob("*/card.toml")))]:
        try:
            card = _read_card(path)
        except ConfigurationError as error:
            faults.append(Fault(path, _name_in(path), error.detail))
            continue
        other = by_name.setdefault(card.name, card)
        if other is not card:
            detail = f"{path}: there is already a model named {card.name}, in {other.folder}"
            faults.append(Fault(path, card.name, detail))
    return by_name, [_of_no_other(fault, by_name) for fault in faults]


def _of_no_other(fault: Fault, known: Container[str]) -> Fault:
    """A card that shows no name is taken for the model that its folder is named after, unless that one has a card."""
    folder = fault.path.parent.name
    return fault if fault.name or folder in known else fault._replace(name=folder)


def card_named(name: str, folders: Sequence[Path] = ()) -> ModelCard:
    """The card of that name. Raises ConfigurationError when there is none, with the nearest name and the cards that
    cannot be used, and when its own card cannot be used. The faults of other cards do not matter.
    """
    known, faults = read_cards(folders)
    own = next((fault for fault in faults if fault.name == name), None)
    if own is not None:
        raise ConfigurationError(own.detail)
    if name not in known:
        unused = "".join(f"; not usable: {fault.detail}" for fault in faults)
        raise ConfigurationError(
            f"no model is named `{name}`{_misplaced(name, folders)}{_suggestion(name, known)}; "
            f"there are: {', '.join(known)}{unused}"
        )
    return known[name]


def _read_card(path: Path) -> ModelCard:
    try:
        return parse_card(read_text(path), path)
    except UnreadableText as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


def _name_in(path: Path) -> str:
    """The name in a card that cannot be used, if it can be seen."""
    try:
        named = re.search(r"""^name\s*=\s*["']([a-z0-9._-]+)["']""", read_text(path), re.MULTILINE)
    except UnreadableText:
        return ""
    return named[1] if named else ""


def _misplaced(name: str, folders: Iterable[Path]) -> str:
    """What is wrong with the folders where the card of `name` should be, as a part of a message."""
    for folder in folders:
        if not folder.is_dir():
            return f", and there is no folder {folder}"
        if (folder / name).is_dir():
            return f", and {folder / name} has no card.toml"
    return ""


def parse_card(text: str, path: Path) -> ModelCard:
    """A card from its TOML. `classes` is a list of names, or the name of a list in the package (`coco`).

    Raises ConfigurationError with the file, and where possible the line and the key that was probably meant.
    """
    try:
        content = tomllib.loads(text)
        if isinstance(content.get("classes"), str):
            content["classes"] = _class_names(content["classes"])
        content.setdefault("folder", str(path.parent))
        return msgspec.convert(content, ModelCard)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error.detail}") from error
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{path}{_explained(str(error), text)}") from error


def _class_names(name: str) -> tuple[str, ...]:
    """The class names of a public data set, in the order of its networks."""
    lists = {path.stem: path for path in (_HERE / "data").glob("*.txt")}
    if name not in lists:
        raise ConfigurationError(
            f"no list of classes is named `{name}`{_suggestion(name, lists)}; there are: {', '.join(lists)}"
        )
    return tuple(read_text(lists[name]).split("\n")[:-1])


def _explained(message: str, text: str) -> str:
    """`:line: message`, with the key that was probably meant when a key is unknown."""
    unknown = re.search(r"unknown field `([^`]+)`", message)
    if unknown is None:
        return f": {message}"
    key = unknown[1]
    line = next((n for n, row in enumerate(text.splitlines(), 1) if re.match(rf"\s*\[*{key}\b", row)), None)
    structs: tuple[Any, ...] = (ModelCard, InputForm, CardCalibration, FileSource, UrlSource, PackageSource, NpmSource)
    known = [name for struct in structs for name in struct.__struct_fields__]
    return f"{f':{line}' if line else ''}: unknown key `{key}`{_suggestion(key, known)}"


def _suggestion(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    return f", did you mean `{close[0]}`?" if close else ""
