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

from server.catalogue import ModelCard, is_refused, own_module, trust_fault
from server.domain.errors import ConfigurationError, SectorwatchError
from server.ensemble.faults import in_short, shortened

log = logging.getLogger(__name__)

_PACKAGE = "sectorwatch_models"
"""Modules of models' folders are below this name in `sys.modules`, so that `mine/net.py` hides no other `net`."""


def network_of(card: ModelCard, weights: Path | None, *, raw: bool = False) -> nn.Module:
    """The network, in evaluation mode and without gradients; `raw`: as its file has it, not asked anything.

    Raises ConfigurationError, naming the model, if it cannot be made, and if it can run code that its card does not
    trust. A card from before version 0.3 says nothing of that: it is taken, with a warning, unless it names a callable
    of any installed package.
    """
    _check_trust(card, weights)
    try:
        factory, postprocess = (callable_of(card, key) for key in ("factory", "postprocess"))
        if card.format == "factory":
            assert factory is not None
            network = _wrapped(card, factory(card, weights), postprocess)
        else:
            from server.ensemble.building import foreign  # importing torch.export takes a second

            assert weights is not None
            network = foreign.load(card, weights, factory, postprocess, raw=raw)
    except SectorwatchError:
        raise
    except (Exception, SystemExit) as error:  # files and factories of others may raise anything
        raise ConfigurationError(f"the network of {card.name} cannot be made: {in_short(error)}") from error
    if not isinstance(network, nn.Module):
        raise ConfigurationError(f"the network of {card.name} is a {type(network).__name__}, not an nn.Module")
    for parameter in network.parameters():  # a scripted network has no `requires_grad_`
        parameter.requires_grad_(False)
    return network.eval()


def _wrapped(card: ModelCard, network: Any, postprocess: Callable[..., Any] | None) -> Any:
    """What a factory of an installed package made, brought to logits or `Detections` where its card asks for that."""
    if not isinstance(network, nn.Module):
        return network
    if postprocess is not None or (card.kind == "detector" and card.output_key):
        from server.ensemble.building import detector

        return detector.detector_of(card, network.eval(), postprocess)
    if card.kind == "classifier" and (card.output == "probabilities" or card.output_key):
        from server.ensemble.building import foreign

        return foreign.Logits(network, card, has_more=bool(card.output_key))
    return network


def _check_trust(card: ModelCard, weights: Path | None) -> None:
    fault = trust_fault(card, weights)
    if fault and is_refused(card):
        raise ConfigurationError(fault)
    if fault:
        log.warning("model is not trusted yet", extra={"model": card.name, "detail": fault})


def module_of(card: ModelCard, key: str = "factory") -> ModuleType:
    """The module of the callable that the card names under `key`: from the model's own folder if that has it, else from
    where Python finds it.

    Raises whatever importing it raises.
    """
    module_name = card.code[key].partition(":")[0]
    own = own_module(card, key)
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


def callable_of(card: ModelCard, key: str) -> Callable[..., Any] | None:
    """The callable that the card names under `key`; None if it names none.

    Raises ConfigurationError, with what it lacks, if it cannot be imported.
    """
    if not card.code[key]:
        return None
    try:
        return getattr(module_of(card, key), card.code[key].partition(":")[2])  # type: ignore[no-any-return]
    except (Exception, SystemExit) as error:  # importing a user's module may raise anything, or parse our arguments
        raise ConfigurationError(
            f"the {key} `{card.code[key]}` of {card.name} cannot be had: {shortened(str(error))}"
        ) from error
