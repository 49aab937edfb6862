"""The precision of classifiers, and whether this machine supports it.

Models are made for `fp32`. `bf16` is faster where the processor has it, and gives other answers: it is chosen by
setting, is part of the ensemble's digest (`server.ensemble.lock`), and serves only what the golden set approves.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from server.domain.errors import ConfigurationError

Execution = Literal["fp32", "bf16"]
Device = Literal["cpu", "cuda"]

BF16 = ("amx_bf16", "avx512_bf16", "bf16")
"""Instructions, as Linux names them on x86 and ARM. Without any of them bf16 is many times slower."""


def check_execution(execution: Execution, vectors: Collection[str] | None) -> None:
    """Raises ConfigurationError unless a processor with these `vectors` supports it; None: they are unknown."""
    if execution == "bf16" and not set(BF16) & set(vectors or ()):
        has = "the system does not tell" if vectors is None else ", ".join(sorted(vectors)) or "none of note"
        raise ConfigurationError(
            f'execution = "bf16" needs a processor with one of {", ".join(BF16)}; this one has {has}: use "fp32"'
        )
