"""The ensembles that are measured.

`torchvision` are three classifiers with random weights from fixed seeds, each alone a usual choice for a server of
this kind. Their batch normalisation and last bias are fitted to the frames, so that labels differ between frames by
tiny margins: agreement of labels then notices any difference in the arithmetic.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torchvision
from torch import nn

from server.catalogue import InputForm, ModelCard
from server.domain.precision import Execution
from server.ensemble import Ensemble, load_ensemble
from server.ensemble.decode import decode
from server.ensemble.forms import normalised, row_of
from server.ensemble.module import EnsembleModule
from server.settings import ServerSettings
from tests.benchmarks.events.footage import SAMPLED, sampled_jpegs

NAMES = ("mobilenet_v3_small", "shufflenet_v2_x1_0", "resnet18")
FORM = InputForm(
    "rgb",
    "crop",
    (224, 224),
    shorter_side=256,
    mean=(0.485 * 255, 0.456 * 255, 0.406 * 255),
    std=(0.229 * 255, 0.224 * 255, 0.225 * 255),
)
_SEED = 20240
_SHIPPED = {
    "shipped": ServerSettings().models,
    "lite": ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"),
}


def ensemble_named(name: str, footage: Path, execution: Execution = "fp32") -> Ensemble:
    """`torchvision`, `eager` (the same, not tuned), `lite` (the shipped classifiers), `shipped` (the default), or names
    of the catalogue with commas between.
    """
    if name not in ("torchvision", "eager"):
        return load_ensemble(_SHIPPED.get(name) or name.split(","), execution=execution)
    ensemble = Ensemble(EnsembleModule(torchvision_models(footage)), execution=execution)
    if name == "torchvision":
        ensemble.tune()
    return ensemble


def torchvision_models(footage: Path) -> list[tuple[ModelCard, nn.Module]]:
    """Cards and networks, the same every time."""
    frames = sampled_jpegs(footage, SAMPLED)
    rows = normalised(torch.stack([row_of(decode(frame), FORM).pixels for frame in frames]), FORM)
    return [(_card(name), _network(name, _SEED + place, rows)) for place, name in enumerate(NAMES)]


def _network(name: str, seed: int, rows: torch.Tensor) -> nn.Module:
    torch.manual_seed(seed)
    network: nn.Module = getattr(torchvision.models, name)(weights=None).eval()
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean
        norm.train()
    with torch.no_grad():
        network(rows)
        network.eval()
        last = [part for part in network.modules() if isinstance(part, nn.Linear)][-1]
        last.bias.sub_(network(rows).mean(0))
    return network.requires_grad_(False)


def _card(name: str) -> ModelCard:
    return ModelCard(
        name=name,
        summary="random weights",
        kind="classifier",
        factory="none:none",
        classes=tuple(f"c{number:04d}" for number in range(1000)),
        input=FORM,
        licence="BSD-3-Clause",
        citation="none",
    )
