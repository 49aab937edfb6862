"""`GET /v1/models`: the ensemble in service, with what the card of each model says."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flask import Blueprint, Response, request

from server.domain.ensemble_protocol import Ensemble
from server.web import etag
from server.web.auth import Authenticator
from server.web.json_http import json_response


def routes(
    ensemble: Callable[[], Ensemble], card: Callable[[str], Mapping[str, object]], authenticator: Authenticator
) -> Blueprint:
    """The endpoint. `ensemble` gives the loaded ensemble or raises RetryLater; `card` gives a model's card by name."""
    blueprint = Blueprint("models", __name__, url_prefix="/v1")

    @blueprint.get("/models")
    def models() -> Response:
        authenticator.authenticate(request).to_read_something()
        ensemble_info = ensemble().ensemble_info
        listed = [
            {
                "name": model_info.model,
                "kind": "detector" if model_info.boxes else "classifier",
                "votes": model_info.votes,
                "classes": sorted(model_info.classes),
                **card(model_info.model),
            }
            for model_info in ensemble_info.models
        ]
        return etag.tagged(
            json_response({"ensemble": ensemble_info.ensemble, "models": listed}), ensemble_info.ensemble
        )

    return blueprint
