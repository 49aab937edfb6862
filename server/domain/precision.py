"""In which arithmetic classifiers compute, and whether this machine can.

`fp32` is what every model was made for. `bf16` is quicker where the processor has it, and other arithmetic: it is asked
for by setting, is part of the ensemble's name (`server.ensemble.lock`), and serves only what the golden set approves.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from server.domain.errors import ConfigurationError

Execution = Literal["fp32", "bf16"]
Device = Literal["cpu", "cuda"]

BF16 = ("amx_bf16", "avx512_bf16", "bf16")
"""Instructions, as Linux names them on x86 and on ARM, of which one is needed: without, bf16 is many times slower."""


def check_execution(execution: Execution, vectors: Collection[str] | None) -> None:
    """Raises ConfigurationError, saying what is missing, unless a processor with these `vectors` can; None: it does not
    tell.
    """
    if execution == "bf16" and not set(BF16) & set(vectors or ()):
        has = "the system does not tell" if vectors is None else ", ".join(sorted(vectors)) or "none of note"
        raise ConfigurationError(
            f'execution = "bf16" needs a processor with one of {", ".join(BF16)}; this one has {has}: use "fp32"'
        )
