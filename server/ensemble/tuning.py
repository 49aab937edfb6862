"""Networks made quicker without another answer: batch normalisation folded into convolutions, channels last.

Both are rewritings of the same arithmetic. They change the last bits of an answer, so a rewritten network is asked
about rows of noise first, and kept only if it agrees with the original.

`bf16` goes further, and only when it is asked for (`server.domain.precision`): 8 bits of precision may change a label,
so what approves it is the golden set, not noise.

What was tried and left out: decoding JPEG at half or a quarter of its size (it would make a model's labels depend on
which other models share the decode; 1 to 3 ms of 70 for three small classifiers), threads within a forward call,
`torch.compile` (2 to 6 % of a batch of eight, for a C++ compiler and 25 to 150 s at each first start).
"""

from __future__ import annotations

import copy
import logging

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from server.catalogue.card import InputForm
from server.domain.errors import ConfigurationError
from server.domain.precision import Execution
from server.ensemble.forms import normalised
from server.ensemble.tracing import tracing

_log = logging.getLogger(__name__)

_VERSIONS = {"fuse": 1}
_BF16_VERSIONS = {"bf16": 1}

_PROBE_ROWS = (2, 1)
"""Another number of rows than was traced with must do as well."""
_TOLERANCE = 1e-3
"""Of the largest logit; what fusing changes is a hundred times smaller."""


def versions(execution: Execution) -> dict[str, int]:
    """Of the rewritings that a classifier goes through; raise one when it rewrites otherwise."""
    return _VERSIONS | (_BF16_VERSIONS if execution == "bf16" else {})


def tuned(network: nn.Module, form: InputForm) -> nn.Module:
    """A classifier that answers like `network` for rows of `form`, quicker where it can be; else `network` itself.

    A network that cannot be traced (it branches on its input, or is scripted) stays as it is, but for its memory
    format.
    """
    candidate = _fused(network)
    if candidate is not None and _agree(network, candidate, form):
        return candidate
    _log.info("not_fused network=%s", type(network).__name__)
    return network


def executed(network: nn.Module, form: InputForm, execution: Execution, name: str) -> nn.Module:
    """`network`, which is `tuned`, in another arithmetic; it takes and gives float32 as before.

    Raises ConfigurationError, by `name`, for a network that cannot be made so.
    """
    if execution == "fp32":
        return network
    try:
        candidate = _InBf16(network).eval()
        with torch.inference_mode():
            answers = [candidate(normalised(rows, form)) for rows in _probes(form)]
    except Exception as error:
        raise ConfigurationError(
            f'{name} cannot be served with execution = "{execution}": {type(error).__name__}: {error}; use "fp32"'
        ) from error
    if not all(bool(answer.isfinite().all()) for answer in answers):
        raise ConfigurationError(f'{name} answers with no numbers under execution = "{execution}": use "fp32"')
    return candidate


class _InBf16(nn.Module):
    """A copy of a network with weights and activations in bfloat16."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).to(torch.bfloat16)

    def forward(self, rows: Tensor) -> Tensor:
        answer: Tensor = self.network(rows.to(torch.bfloat16))
        return answer.float()


def _fused(network: nn.Module) -> nn.Module | None:
    try:
        copied = copy.deepcopy(network)
        with tracing():
            fused: nn.Module = fuse(copied, inplace=True)
        return fused.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    except Exception:  # noqa: BLE001 (tracing runs foreign code on stand-ins for tensors, which fails in many ways)
        return None


def _agree(network: nn.Module, candidate: nn.Module, form: InputForm) -> bool:
    try:
        with torch.inference_mode():
            probes = (normalised(rows, form) for rows in _probes(form))
            return all(_close(network(rows), candidate(rows)) for rows in probes)
    except Exception:  # noqa: BLE001
        return False


def _probes(form: InputForm) -> list[Tensor]:
    """Rows of noise, always the same."""
    generator = torch.Generator().manual_seed(0)
    width, height = form.size
    shape = (3 if form.colour == "rgb" else 1, height, width)
    return [torch.randint(0, 256, (rows, *shape), generator=generator, dtype=torch.uint8) for rows in _PROBE_ROWS]


def _close(logits: Tensor, others: Tensor) -> bool:
    bound = _TOLERANCE * float(logits.abs().max().clamp(min=1.0))
    same_labels = torch.equal(logits.argmax(1), others.argmax(1))
    return logits.shape == others.shape and same_labels and float((logits - others).abs().max()) <= bound
