"""A card and its weights become a network: ours by their factories, a user's own by the format its card names."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from server.catalogue import ModelCard
from server.domain.errors import ConfigurationError, SectorwatchError

_PACKAGE = "sectorwatch_models"
"""Where modules out of models' folders live in `sys.modules`: `mine/net.py` hides no other `net`."""


def network_of(card: ModelCard, weights: Path | None) -> nn.Module:
    """The network, in evaluation mode, asking for no gradients. Raises ConfigurationError, naming the model, when there
    is none.
    """
    try:
        if card.format == "factory":
            network = factory_of(card)(card, weights)
        else:
            from server.ensemble import foreign  # torch.export alone costs a second, and few need it

            assert weights is not None
            network = foreign.load(card, weights, factory_of)
    except SectorwatchError:
        raise
    except (Exception, SystemExit) as error:  # files and factories of others may raise anything
        raise ConfigurationError(
            f"the network of {card.name} cannot be made: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(network, nn.Module):
        raise ConfigurationError(f"the network of {card.name} is a {type(network).__name__}, not an nn.Module")
    for parameter in network.parameters():  # all at once is more than a scripted network can do
        parameter.requires_grad_(False)
    return network.eval()


def factory_of(card: ModelCard) -> Callable[..., Any]:
    """What the card's `factory` names. Raises ConfigurationError when it cannot be had."""
    _place, _, name = card.factory.partition(":")
    try:
        factory = getattr(module_of(card), name)
    except (Exception, SystemExit) as error:  # importing a user's module may raise anything, or parse our arguments
        raise ConfigurationError(f"the factory `{card.factory}` of {card.name} cannot be had: {error}") from error
    return factory  # type: ignore[no-any-return]


def module_of(card: ModelCard) -> ModuleType:
    """The factory's module: out of the model's own folder if that has it, else wherever Python finds it."""
    place = card.factory.partition(":")[0]
    own = own_module(card)
    if own is None:
        return importlib.import_module(place)
    name = f"{_PACKAGE}.of_{_folder_digest(card)[:16]}.{place}"  # changed source is another module
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, own)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def own_module(card: ModelCard) -> Path | None:
    """The file of the factory's module in the model's own folder, if it is there."""
    place = card.factory.partition(":")[0]
    if not place or not card.folder or card.format == "factory":
        return None
    path = Path(card.folder, *place.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _folder_digest(card: ModelCard) -> str:
    """Of the folder's modules, byte for byte."""
    digest = hashlib.sha256()
    for file in sorted(Path(card.folder).rglob("*.py")):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
