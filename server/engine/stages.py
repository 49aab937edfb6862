"""What the engine needs of an ensemble: three stages, each free of threads, queues and time.

    prepare    one image -> a row: decode and transform; raises for an image that cannot be judged
    ask        rows of any requests -> one answer each, whoever travels with them
    conclude   what needs the request's images in the order of time (frame-change), once all of them were asked

The engine never looks into rows and answers. `server.ensemble` has these stages; so have the tests, without torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from policies.observation import Box, EnsembleInfo, Prediction

Answer = dict[str, tuple[Prediction, ...] | None]
"""Model -> what it saw in one image; None: it was asked and did not answer."""


class WorkerStages(Protocol):
    """The stages a worker runs."""

    @property
    def batch_images(self) -> int:
        """How many images in one call are as good as any more."""
        ...

    @property
    def needs_postprocessing(self) -> bool:
        """Whether concluding is work, to be shared out over the workers; else it is only a matter of form."""
        ...

    def prepare(self, payload: Any) -> Any: ...

    def infer(self, rows: Sequence[Any]) -> Sequence[Any]:
        """One outcome per row, in order; it must not depend on which rows share the call."""
        ...

    def so_far(self, inferred: Sequence[Any]) -> Sequence[Answer]:
        """What outcomes of `infer` say before they are concluded, without what concluding adds."""
        ...

    def postprocess(self, inferred: Sequence[Any], start: int, stop: int) -> Sequence[Any]:
        """The final answers for images `start` to `stop` of the request whose outcomes of `infer` are `inferred`.

        It is called for consecutive spans, perhaps at once in several threads.
        """
        ...


class Stages(WorkerStages, Protocol):
    """An ensemble, taken apart."""

    @property
    def ensemble_info(self) -> EnsembleInfo: ...

    @property
    def on_accelerator(self) -> bool: ...

    def only(self, model: str) -> Stages:
        """One model of the ensemble, under the ensemble's name and without a copy of it."""
        ...

    def enter(self) -> None:
        """Called once in each worker thread, before anything else."""
        ...

    def prepare(self, payload: tuple[bytes, int, Mapping[str, Box]]) -> Any:
        """From the image's bytes, its index in the request, and the sectors' crops."""
        ...
