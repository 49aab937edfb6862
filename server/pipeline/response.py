"""The answer to a burst, read from the store, so that it is the same for a new and a known burst."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from policies.events import instant
from policies.observation import Observation, Prediction
from server.domain.records import KeptBurst

NOTHING = "nothing"
"""FlexServe's class for a frame in which a detector saw nothing."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A stored burst; `known` when it was stored before this request."""

    known: bool
    burst: KeptBurst

    @property
    def burst_id(self) -> str:
        return self.burst.burst_id

    def labels(self) -> dict[str, list[str]]:
        """Model -> its class for each frame, in FlexServe's form."""
        return {
            model_info.model: [top_label(seen.answers.get(model_info.model)) for seen in self.burst.observations]
            for model_info in self.burst.ensemble_info.models
        }

    def as_wire(self) -> dict[str, Any]:
        """The body of the answer. `status` is `folded`, or `held` for a burst ahead of the server's clock."""
        return {
            "burst_id": self.burst.burst_id,
            "status": self.burst.status,
            "late": self.burst.late,
            "labels": self.labels(),
            "observations": [_frame(seen) for seen in self.burst.observations],
            "events": [logged.as_wire() for logged in self.burst.events],
            "ensemble": self.burst.ensemble_info.ensemble,
            "policy": self.burst.policy,
        }


def top_label(predictions: tuple[Prediction, ...] | None) -> str:
    """The class that stands for a model's answer about a frame.

    It is the label with the best score for the whole view, else that of the best box. It is NOTHING for a detector
    without boxes, and the empty string for a model that failed.
    """
    return top_prediction(predictions).label


def top_prediction(predictions: tuple[Prediction, ...] | None) -> Prediction:
    """As `top_label`, with its score; 0 without a label."""
    if predictions is None:
        return Prediction("", 0.0)
    whole = [prediction for prediction in predictions if prediction.sector is None]
    if not whole:
        return Prediction(NOTHING, 0.0)
    unboxed = [prediction for prediction in whole if prediction.box is None]
    return max(unboxed or whole, key=lambda prediction: prediction.score)


def _frame(seen: Observation) -> Mapping[str, object]:
    return {
        "frame": seen.index,
        "at": instant(seen.at_us),
        "frame_sha256": seen.frame_sha256,
        "answers": msgspec.to_builtins(seen.answers),
    }
