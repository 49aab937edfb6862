"""An ensemble in service, with all that answers by it, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from server.domain.ensemble_protocol import Ensemble
from server.pipeline.pipeline import Pipeline
from server.serving.answering import Handle
from server.serving.loading import Loaded
from server.serving.membership import OnReplica
from server.serving.swap import Comparison, Watched


class InService(msgspec.Struct, frozen=True):
    """An ensemble's digest and models. `instead_of` is the digest before a swap, `compared` the result of its
    shadow, `others` what the other replicas serve.
    """

    ensemble: str
    models: tuple[str, ...]
    instead_of: str | None = None
    compared: Comparison | None = None
    others: tuple[OnReplica, ...] = ()


@dataclass(frozen=True, slots=True)
class Served:
    """An ensemble with all that answers by it."""

    loaded: Loaded[Any]
    handle: Handle
    watched: Watched
    ensemble: Ensemble
    pipeline: Pipeline

    @property
    def digest(self) -> str:
        return self.handle.ensemble_info.ensemble


def described(served: Served | None) -> InService | None:
    """Its digest and models; None for none."""
    return None if served is None else InService(served.digest, served.loaded.models)
