"""Makes the network of a card: by its factory, or by the reader of the format that the card names."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from server.catalogue import ModelCard, own_module, trust_fault
from server.domain.errors import ConfigurationError, SectorwatchError
from server.ensemble.faults import in_short, shortened

log = logging.getLogger(__name__)

_PACKAGE = "sectorwatch_models"
"""Modules of models' folders are below this name in `sys.modules`, so that `mine/net.py` hides no other `net`."""


def network_of(card: ModelCard, weights: Path | None, *, raw: bool = False) -> nn.Module:
    """The network, in evaluation mode and without gradients; `raw`: as its file has it, not asked anything.

    Raises ConfigurationError, naming the model, if it cannot be made, and if it can run code that its card does not
    trust. A card from before version 0.3 says nothing of that: it is taken, with a warning.
    """
    _check_trust(card, weights)
    try:
        factory = _factory_of(card) if card.factory else None
        if card.format == "factory":
            assert factory is not None
            network = factory(card, weights)
            if card.kind == "classifier" and card.output == "probabilities" and isinstance(network, nn.Module):
                from server.ensemble.building import foreign

                network = foreign.Logits(network, has_more=False, is_softmax=True)
        else:
            from server.ensemble.building import foreign  # importing torch.export takes a second

            assert weights is not None
            network = foreign.load(card, weights, factory, raw=raw)
    except SectorwatchError:
        raise
    except (Exception, SystemExit) as error:  # files and factories of others may raise anything
        raise ConfigurationError(f"the network of {card.name} cannot be made: {in_short(error)}") from error
    if not isinstance(network, nn.Module):
        raise ConfigurationError(f"the network of {card.name} is a {type(network).__name__}, not an nn.Module")
    for parameter in network.parameters():  # a scripted network has no `requires_grad_`
        parameter.requires_grad_(False)
    return network.eval()


def _check_trust(card: ModelCard, weights: Path | None) -> None:
    fault = trust_fault(card, weights)
    if fault and card.trusted is not None:
        raise ConfigurationError(fault)
    if fault:
        log.warning("model is not trusted yet", extra={"model": card.name, "detail": fault})


def module_of(card: ModelCard) -> ModuleType:
    """The factory's module: from the model's own folder if that has it, else from where Python finds it.

    Raises whatever importing it raises.
    """
    module_name = card.factory.partition(":")[0]
    own = own_module(card)
    if own is None:
        return importlib.import_module(module_name)
    sources = b"\0".join(file.read_bytes() for file in sorted(Path(card.folder).rglob("*.py")))
    name = f"{_PACKAGE}.of_{hashlib.sha256(sources).hexdigest()[:16]}.{module_name}"  # changed source: another module
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, own)
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _factory_of(card: ModelCard) -> Callable[..., Any]:
    try:
        return getattr(module_of(card), card.factory.partition(":")[2])  # type: ignore[no-any-return]
    except (Exception, SystemExit) as error:  # importing a user's module may raise anything, or parse our arguments
        raise ConfigurationError(
            f"the factory `{card.factory}` of {card.name} cannot be had: {shortened(str(error))}"
        ) from error
