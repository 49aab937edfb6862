"""FlexServe's own three endpoints, exactly in their published forms, so that its client works unchanged.

    POST /classify   one part `file`    -> {model: class}
    POST /batch      parts `file`       -> {model: [class, ...]}, one class per frame, in order
    GET  /models                        -> {"model 0": name, "model 1": name, ...}

Nothing is stored and no policy is applied. Every model of the ensemble answers. A detector's answer is the class of its
best box, or "nothing" (`server.pipeline.response.top_label`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from flask import Blueprint, Response, request

from server.domain.ensemble_protocol import Ensemble
from server.pipeline.response import top_label
from server.web import etag
from server.web.admission import Admission, PictureLimits, Upload
from server.web.auth import Authenticator
from server.web.json_http import json_response
from server.web.multipart import Bounds, read_upload

Labels = dict[str, list[str]]


def routes(
    ensemble: Callable[[], Ensemble],
    authenticator: Authenticator,
    admission: Admission,
    bounds: Bounds,
    pictures: PictureLimits,
) -> Blueprint:
    """The three endpoints. `ensemble` gives the loaded ensemble or raises RetryLater."""
    blueprint = Blueprint("flexserve", __name__)

    def classified(max_files: int) -> tuple[Labels, str]:
        admission.check_open()
        client = authenticator.authenticate_to_classify(request)
        with admission.admitted(client, request.content_length) as upload:
            return _classify(ensemble(), replace(bounds, frames=max_files), pictures, upload)

    @blueprint.post("/classify")
    def classify() -> Response:
        labels, digest = classified(max_files=1)
        return etag.tagged(json_response({model: label for model, (label,) in labels.items()}), digest)

    @blueprint.post("/batch")
    def batch() -> Response:
        labels, digest = classified(max_files=bounds.frames)
        return etag.tagged(json_response(labels), digest)

    @blueprint.get("/models")
    def models() -> Response:
        authenticator.authenticate_to_classify(request)
        ensemble_info = ensemble().ensemble_info
        names = {f"model {index}": model_info.model for index, model_info in enumerate(ensemble_info.models)}
        return etag.tagged(json_response(names), ensemble_info.ensemble)

    return blueprint


def _classify(ensemble: Ensemble, bounds: Bounds, pictures: PictureLimits, upload: Upload) -> tuple[Labels, str]:
    """`{model: [class per file]}` of the current request's files, and the digest of the ensemble that answered."""
    ensemble_info = ensemble.ensemble_info
    etag.check_if_match(ensemble_info.ensemble)
    files = read_upload(bounds).files
    upload.begin(pictures.cost(files))
    answers = ensemble.answer(files)
    return {
        model_info.model: [top_label(answer.get(model_info.model)) for answer in answers]
        for model_info in ensemble_info.models
    }, ensemble_info.ensemble
