"""The answer to a burst, read from the store, so that it is the same for a new and a known burst."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from policies.events import instant
from policies.fusion.judgement import Judgement
from policies.observation import Prediction
from policies.sensitivity import Vote
from server.domain.records import KeptBurst

NOTHING = "nothing"
"""FlexServe's class for a frame in which a detector saw nothing."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A stored burst; `known` when it was stored before this request, `judged` when models worked for this request.

    Both are true of a burst that came twice at the same time.
    """

    known: bool
    burst: KeptBurst
    judged: bool

    def as_wire(self) -> dict[str, Any]:
        """The body of the answer. `status` is `folded`; `held` for a burst ahead of the server's clock, or a late one
        that waits for its refold; or `set_aside` for one that came too late and changes no event.

        `labels` are, in FlexServe's form, each model's class for each frame. `votes` are, in the same form, the targets
        for which the model's answer is a vote: its score is high enough for the policy at the burst's acceptance.
        """
        burst, models = self.burst, [model_info.model for model_info in self.burst.ensemble_info.models]
        return {
            "burst_id": burst.burst_id,
            "status": burst.status,
            "late": burst.late,
            "labels": {model: [top_label(seen.answers.get(model)) for seen in burst.observations] for model in models},
            "votes": {
                model: [targets_voted_for(model, judgement) for judgement in burst.judgements] for model in models
            },
            "observations": [
                {
                    "frame": seen.index,
                    "at": instant(seen.at_us),
                    "frame_sha256": seen.frame_sha256,
                    "answers": msgspec.to_builtins(seen.answers),
                }
                for seen in burst.observations
            ],
            "events": [logged.as_wire() for logged in burst.events],
            "ensemble": burst.ensemble_info.ensemble,
            "policy": burst.policy,
        }


def targets_voted_for(model: str, judgement: Judgement) -> list[str]:
    """The targets for which a model votes in one frame, sorted."""
    candidates = judgement.candidates
    return sorted({candidate.target for candidate in candidates if candidate.votes.get(model) is Vote.FOR})


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
