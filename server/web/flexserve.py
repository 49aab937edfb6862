"""FlexServe's own three endpoints, in exactly the published forms, so that its client works unchanged.

    POST /classify   one part `file`    -> {model: class}
    POST /batch      parts `file`       -> {model: [class, ...]}, one class per frame, in order
    GET  /models                        -> {"model 0": name, "model 1": name, ...}

Nothing is stored and no policy is asked. Every model of the ensemble answers, detectors too: the class of
their best box, or "nothing" (`server.pipeline.response.top_label`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import msgspec
from flask import Blueprint, Response, request

from policies.observation import EnsembleInfo, Prediction
from server.pipeline.response import top_label
from server.web import etag
from server.web.admission import Admission
from server.web.auth import Doorkeeper
from server.web.multipart import Bounds, read_upload

Answers = Mapping[str, tuple[Prediction, ...] | None]


class Ensemble(Protocol):
    """The models that are asked; see `server.ensemble`."""

    @property
    def ensemble_info(self) -> EnsembleInfo: ...

    def answer(self, images: Sequence[bytes]) -> Sequence[Answers]: ...


def routes(
    ensemble: Callable[[], Ensemble],
    doorkeeper: Doorkeeper,
    admission: Admission,
    bounds: Bounds,
) -> Blueprint:
    """The three endpoints. `ensemble` gives the loaded ensemble or raises RetryLater."""
    blueprint = Blueprint("flexserve", __name__)

    def labels(*, most: int) -> tuple[dict[str, list[str]], str]:
        """`{model: [class per frame]}` of the files that came, `most` of them at most; and who answered."""
        admission.knock()
        client = doorkeeper.admit_to_classify(request)
        with admission.admitted(client, request.content_length) as spend:
            asked = ensemble()
            ensemble_info = asked.ensemble_info
            etag.demand(ensemble_info.ensemble)
            files = read_upload(replace(bounds, frames=most)).files
            spend(len(files))
            answers = asked.answer(files)
        by_model = {
            model_info.model: [top_label(answer.get(model_info.model)) for answer in answers]
            for model_info in ensemble_info.models
        }
        return by_model, ensemble_info.ensemble

    @blueprint.post("/classify")
    def classify() -> Response:
        by_model, by = labels(most=1)
        return etag.tagged(_json({model: only for model, (only,) in by_model.items()}), by)

    @blueprint.post("/batch")
    def batch() -> Response:
        by_model, by = labels(most=bounds.frames)
        return etag.tagged(_json(by_model), by)

    @blueprint.get("/models")
    def models() -> Response:
        doorkeeper.admit_to_classify(request)
        ensemble_info = ensemble().ensemble_info
        named = {f"model {index}": model_info.model for index, model_info in enumerate(ensemble_info.models)}
        return etag.tagged(_json(named), ensemble_info.ensemble)

    return blueprint


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), content_type="application/json")
