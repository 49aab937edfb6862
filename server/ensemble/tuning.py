"""Makes networks faster with the same answers: batch normalisation folded into convolutions, channels last.

Both change only the last bits of an answer. A rewritten network is compared with the original on rows of noise, and
kept only if the two agree.

`bf16` is used only when it is asked for (`server.domain.precision`). Its 8 bits of precision may change a label, so the
golden set approves it, not noise.

Tried and left out: decoding JPEG at half or a quarter of its size (it saves 1 to 3 ms of 70 for three small
classifiers, and a model's labels would depend on which other models share the decode), threads within a forward call,
`torch.compile` (2 to 6 % of a batch of eight, for a C++ compiler and 25 to 150 s at each first start).
"""

from __future__ import annotations

import copy
import logging
from contextlib import suppress

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
"""A rewritten network must take any number of rows."""
_TOLERANCE = 1e-3
"""Of the largest logit. Fusing changes a hundredth of that."""


def versions(execution: Execution) -> dict[str, int]:
    """The versions of the rewritings that a classifier goes through; raise one when it rewrites otherwise."""
    return _VERSIONS | lowered_versions(execution)


def lowered_versions(execution: Execution) -> dict[str, int]:
    """The versions of the way to another precision; none for float32."""
    return _BF16_VERSIONS if execution == "bf16" else {}


def tuned(network: nn.Module, form: InputForm) -> nn.Module:
    """A classifier that answers like `network` for rows of `form`, and faster if possible; otherwise `network` itself.

    A network that cannot be traced (it branches on its input, or is scripted) stays as it is.
    """
    with suppress(Exception):  # tracing runs foreign code on stand-ins for tensors, which fails in many ways
        candidate = _fused(network)
        if _agree(network, candidate, form):
            return candidate
    _log.info("not_fused network=%s", type(network).__name__)
    return network


def executed(network: nn.Module, form: InputForm, execution: Execution, name: str) -> nn.Module:
    """`network` computing in `execution`; it takes and gives float32.

    Raises ConfigurationError, with `name`, for a network that cannot compute so.
    """
    if execution == "fp32":
        return network
    try:
        candidate = _InBf16(network).eval()
        with torch.inference_mode():
            answers = [candidate(rows) for rows in _probes(form)]
    except Exception as error:
        raise ConfigurationError(
            f'{name} cannot be served with execution = "{execution}": {type(error).__name__}: {error}; use "fp32"'
        ) from error
    if not all(bool(answer.isfinite().all()) for answer in answers):
        raise ConfigurationError(f'{name} answers with no numbers under execution = "{execution}": use "fp32"')
    return candidate


def lowered_detector(network: nn.Module) -> nn.Module:
    """A copy of a detector of ours with its convolutions in bfloat16; it takes rows in float32, and decodes its boxes
    in float32.
    """
    copied = copy.deepcopy(network)
    for part in copied.modules():
        if isinstance(part, nn.Conv2d):
            part.to(torch.bfloat16)
    return copied


class _InBf16(nn.Module):
    """A copy of a network with weights and activations in bfloat16."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).to(torch.bfloat16)

    def forward(self, rows: Tensor) -> Tensor:
        answer: Tensor = self.network(rows.to(torch.bfloat16))
        return answer.float()


def _fused(network: nn.Module) -> nn.Module:
    copied = copy.deepcopy(network)
    with tracing():
        fused: nn.Module = fuse(copied, inplace=True)
    return fused.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _agree(network: nn.Module, candidate: nn.Module, form: InputForm) -> bool:
    with torch.inference_mode():
        return all(_close(network(rows), candidate(rows)) for rows in _probes(form))


def _probes(form: InputForm) -> list[Tensor]:
    """Batches of noise, always the same."""
    generator = torch.Generator().manual_seed(0)
    shape = (form.channels, *form.size[::-1])
    batches = (torch.randint(0, 256, (n, *shape), generator=generator, dtype=torch.uint8) for n in _PROBE_ROWS)
    return [normalised(batch, form) for batch in batches]


def _close(logits: Tensor, others: Tensor) -> bool:
    bound = _TOLERANCE * float(logits.abs().max().clamp(min=1.0))
    same_labels = torch.equal(logits.argmax(1), others.argmax(1))
    return logits.shape == others.shape and same_labels and float((logits - others).abs().max()) <= bound
