"""The precision of inference, and whether it may be served.

Models are made for `fp32`. `bf16` is faster where the processor has it, and gives other answers: it is chosen by
setting, is part of the ensemble's digest (`server.ensemble.lock`), and serves only what the golden set approves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from server.domain.errors import ConfigurationError

Execution = Literal["fp32", "bf16"]
Device = Literal["cpu", "cuda"]

BF16 = ("amx_bf16", "avx512_bf16", "bf16")
"""Instructions, as Linux names them on x86 and ARM. Without any of them bf16 is many times slower."""


def check_execution(
    execution: Execution,
    vectors: Collection[str] | None,
    lowered: Mapping[str, bool],
    judged: Collection[str] | None = None,
) -> None:
    """Raises ConfigurationError unless an ensemble may be served in this precision; all commands ask here.

    `vectors` are the processor's instructions, None where they are unknown. `lowered` says of each model whether it
    computes in `bf16` when that is asked for, and is empty where the models are unknown. `judged` are the models in the
    golden set, None where it was not read.
    """
    if execution == "fp32":
        return
    if not set(BF16) & set(vectors or ()):
        has = "the system does not tell" if vectors is None else ", ".join(sorted(vectors)) or "none of note"
        raise ConfigurationError(
            f'execution = "bf16" needs a processor with one of {", ".join(BF16)}; this one has {has}: use "fp32"'
        )
    computing = [name for name, is_lowered in lowered.items() if is_lowered]
    if lowered and not computing:
        raise ConfigurationError(
            f'execution = "{execution}" changes nothing here: none of {", ".join(lowered)} computes in it; use "fp32"'
        )
    missing = [name for name in computing if judged is not None and name not in judged]
    if missing:
        raise ConfigurationError(
            f'execution = "{execution}" needs a golden set that judges {", ".join(missing)}: '
            '`sectorwatch models approve`, with "fp32", makes one'
        )
