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
    """The endpoint. `ensemble` gives the loaded ensemble or raises Later; `card` gives a model's card by name."""
    blueprint = Blueprint("models", __name__, url_prefix="/v1")

    @blueprint.get("/models")
    def models() -> Response:
        authenticator.authenticate(request).to_read()
        panel = ensemble().panel
        listed = [
            {
                "name": seat.model,
                "kind": "detector" if seat.boxes else "classifier",
                "votes": seat.votes,
                "classes": sorted(seat.classes),
                **card(seat.model),
            }
            for seat in panel.seats
        ]
        return etag.tagged(json_response({"ensemble": panel.ensemble, "models": listed}), panel.ensemble)

    return blueprint
