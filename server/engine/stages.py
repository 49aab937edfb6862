"""What the engine needs of an ensemble: three stages, each without threads, queues or clocks.

    prepare      one image -> a row: decode and transform; raises for an image that cannot be judged
    infer        rows of any requests -> one outcome each; the rows in a call do not affect one another
    postprocess  what needs all images of a request in order of time (frame-change), after inference

The engine never looks into rows and outcomes. `server.ensemble` implements the stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from policies.observation import EnsembleInfo, Prediction
from server.domain.ensemble_protocol import Payload

Answer = dict[str, tuple[Prediction, ...] | None]
"""Model -> its predictions for one image; None for a model that failed."""


class Stages(Protocol):
    """An ensemble, as its separate stages."""

    @property
    def ensemble_info(self) -> EnsembleInfo: ...

    @property
    def on_accelerator(self) -> bool:
        """Whether a worker only infers: the request's thread has then prepared the rows."""

    @property
    def batch_images(self) -> int:
        """The batch size beyond which a larger batch is no faster."""

    @property
    def needs_postprocessing(self) -> bool:
        """Whether postprocessing is worth sharing among workers; False where it costs next to nothing."""

    def only(self, model: str) -> Stages:
        """One model of the ensemble, under the ensemble's name and without a copy of its weights."""

    def enter(self) -> None:
        """Called once in each worker thread, before any other stage."""

    def prepare(self, payload: Payload) -> Any:
        """From the image's bytes, its index in the request, the sectors' crops, and the enlarged parts."""

    def infer(self, rows: Sequence[Any]) -> Sequence[Any]:
        """One outcome per row, in order; it must not depend on the other rows of the call."""

    def postprocess(self, inferred: Sequence[Any], start: int, stop: int) -> Sequence[Any]:
        """The final answers for images `start` to `stop` of the request whose outcomes of `infer` are `inferred`.

        Called for consecutive spans, possibly in several threads at once.
        """
