"""Which files of a model can run code, found out without running or importing anything."""

from __future__ import annotations

import importlib.util
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


def code_it_runs(card: ModelCard, weights: Path | None) -> str:
    """How the files of the model can run code, as `is ...` or `comes with ...`; empty if they cannot.

    Weights for a factory, and a `postprocess`, of an installed package cannot. Nothing is imported to find out.
    """
    if card.format in _RUNNING:
        return _RUNNING[card.format]
    for key in card.code:
        own = own_module(card, key) or (_module_beside(card, key, weights) if weights else None)
        if own:
            return f"comes with the code of its {key} ({own})"
    return ""


def trust_fault(card: ModelCard, weights: Path | None) -> str:
    """What is missing in the card of a model that can run code; empty if nothing is.

    A card that says `trusted = false` is not served. One from before version 0.3 says nothing, and is.
    """
    code = "" if card.trusted else code_it_runs(card, weights)
    if not code:
        return ""
    said = "says `trusted = false`" if card.trusted is not None else "does not say that you trust it"
    return (
        f"{card.name} {code}, which can run code, and its card {said}: if you know where it comes from, write "
        f"`trusted = true` into {Path(card.folder) / 'card.toml'}"
    )


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
