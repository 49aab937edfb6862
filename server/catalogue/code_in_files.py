"""Which files of a model can run code, found out without running or importing anything."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path

from server.catalogue.card import ModelCard

_RUNNING = {
    "torchscript": "is a TorchScript network",
    "export": "is a torch.export program",
    "pickle": "is a pickled module",
}
"""Formats whose files run code when they are read or asked."""
_HARMLESS = re.compile(
    r"server\.ensemble\.([a-z]\w*\.)*[a-z]\w*:build|server\.ensemble\.building\.raw_boxes:[a-z]\w*"
    r"|torchvision\.models(\.[a-z]\w*)*:[A-Za-z]\w*|timm(\.models)?:create_model"
)
"""Callables that make networks or boxes and do nothing else, whatever a card hands to them. A card may name any other
callable of an installed package, such as `subprocess:run`, with parameters of its choice.
"""
_FETCHING = ("pretrained", "checkpoint_path")
"""Parameters with which timm's `create_model` reads or downloads other files."""


def code_it_runs(card: ModelCard, weights: Path | None) -> str:
    """How the files of the model can run code, as `is ...` or `comes with ...`; empty if they cannot.

    Weights for a factory, and a `postprocess`, cannot where the callable is of those that only make networks or boxes:
    of our own, of `torchvision.models`, and `timm:create_model`. Nothing is imported to find out.
    """
    if card.format in _RUNNING:
        return _RUNNING[card.format]
    for key in card.code:
        own = own_module(card, key) or (_module_beside(card, key, weights) if weights else None)
        if own:
            return f"comes with the code of its {key} ({own})"
        if _is_any_callable(card, key):
            return f"names `{card.code[key]}` as its {key}"
    return ""


def trust_fault(card: ModelCard, weights: Path | None) -> str:
    """What is missing in the card of a model that can run code; empty if nothing is.

    `is_refused` says whether the model is served all the same.
    """
    code = "" if card.trusted else code_it_runs(card, weights)
    if not code:
        return ""
    said = "says `trusted = false`" if card.trusted is not None else "does not say that you trust it"
    return (
        f"{card.name} {code}, which can run code, and its card {said}: if you know where it comes from, write "
        f"`trusted = true` into {Path(card.folder) / 'card.toml'}"
    )


def is_refused(card: ModelCard) -> bool:
    """Whether a model with a `trust_fault` is not served.

    A card that says `trusted = false` is not. One from before version 0.3 says nothing, and is served, unless it names
    any callable of an installed package: that would run with parameters of the card's choice.
    """
    return card.trusted is False or (card.trusted is None and any(_is_any_callable(card, key) for key in card.code))


def _is_any_callable(card: ModelCard, key: str) -> bool:
    """Whether the card names a callable from outside its folder that may do more than make a network or boxes."""
    named = card.code[key]
    if not named or own_module(card, key):
        return False
    fetches = named.startswith("timm") and (
        any(name in card.parameters for name in _FETCHING) or ":" in str(card.parameters.get("model_name", ""))
    )
    return fetches or not _HARMLESS.fullmatch(named)


def own_module(card: ModelCard, key: str = "factory") -> Path | None:
    """The file of the module of the callable that the card names under `key`, in the model's own folder; None if it is
    not there.
    """
    module_name = card.code[key].partition(":")[0]
    if not module_name or not card.folder or (card.format == "factory" and key == "factory"):
        return None
    path = Path(card.folder, *module_name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _module_beside(card: ModelCard, key: str, weights: Path) -> Path | None:
    """The module of that callable where it lies in the folder of the weights; None if it is anywhere else."""
    top = card.code[key].partition(":")[0].partition(".")[0]
    found = None
    with suppress(ImportError, ValueError):
        found = importlib.util.find_spec(top) if top else None
    return next((place for place in _places(found) if place.parent == weights.resolve().parent), None)


def _places(found: ModuleSpec | None) -> Iterator[Path]:
    if found is not None:
        yield from (Path(place).resolve() for place in found.submodule_search_locations or [found.origin or ""])
