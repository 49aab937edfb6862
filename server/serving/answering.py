"""What `service` needs of an engine, and of an ensemble in one.

`server.engine` answers in this process, `server.ray_serving` on a Ray cluster. Swap, golden set, metrics and refusals
are the same code for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from policies.observation import Box
from server.domain.ensemble_protocol import Answers, Ensemble
from server.engine import Load


class Handle(Ensemble, Protocol):
    """An ensemble in an engine. It always answers with the same ensemble, also after a swap."""

    def answer_spare(
        self,
        images: Sequence[bytes],
        crops: Mapping[str, Box] | None = ...,
        enlarged: Sequence[Box] = ...,
        *,
        within_s: float,
    ) -> Sequence[Answers]:
        """As `answer`, without making other requests wait. Raises RetryLater when that takes longer than `within_s`."""
        ...


class Engine(Protocol):
    """Answers any number of requests at once. `first` is the handle of the ensemble that it was made for."""

    @property
    def first(self) -> Handle: ...

    def handle(self, ensemble: Any, /) -> Handle:
        """A handle of another ensemble, which the same `load` has made."""
        ...

    def start(self, on_stuck: Callable[[], None]) -> None:
        """Start its threads. `on_stuck` is called once, in another thread, when only a new process helps."""
        ...

    def stop(self) -> None:
        """Refuse new requests, and end the threads once the accepted ones are answered."""
        ...

    def load(self) -> Load: ...

    def refuse_if_full(self, client: str = ...) -> None:
        """Raises RetryLater when a request of one image of `client` would be refused now."""
        ...
