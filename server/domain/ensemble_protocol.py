"""An ensemble as the rest of the server sees it, whether it answers alone or in the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from policies.observation import Box, EnsembleInfo, Prediction

Payload = tuple[bytes, int, Mapping[str, Box], Sequence[Box]]
"""What is asked about one image: its bytes, its index in the request, crops of sectors, and enlarged parts."""

Answers = Mapping[str, tuple[Prediction, ...] | None]
"""Model -> what it sees in one image; None: the model did not answer."""


class Answering(Protocol):
    """An ensemble, alone or in an engine. It answers one entry per image, in order."""

    @property
    def ensemble_info(self) -> EnsembleInfo: ...

    def answer(self, images: Sequence[bytes]) -> Sequence[Answers]: ...


class Ensemble(Answering, Protocol):
    """An ensemble in an engine.

    `crops` are bounding rectangles of sectors, which classifiers judge as well. `enlarged` are parts of the frame that
    detectors see as well, larger: each costs about as much as another image. `only` is one model (None: all),
    with a time limit of its own in seconds. `answer` raises Unprocessable or TooLarge, with the index of the frame, for
    an image that cannot be judged, and RetryLater when there is no room or no answer in time.
    """

    def only(self, model: str | None, within_s: float | None = ...) -> Ensemble: ...

    def answer(
        self, images: Sequence[bytes], crops: Mapping[str, Box] = ..., enlarged: Sequence[Box] = ...
    ) -> Sequence[Answers]: ...
