"""FlexServe's own three endpoints, in exactly the published forms, so that its client works unchanged.

    POST /classify   one part `file`    -> {model: class}
    POST /batch      parts `file`       -> {model: [class, ...]}, one class per frame, in order
    GET  /models                        -> {"model 0": name, "model 1": name, ...}

Nothing is stored and no policy is asked. Every model of the ensemble answers, detectors too: the class of
their best box, or "nothing" (`server.receipt.top_label`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import msgspec
from flask import Blueprint, Response, request

from policies.observation import Panel, Sighting
from server.admission import Admission
from server.receipt import top_label
from server.tokens import Doorkeeper
from server.upload import Bounds, read_upload

Answers = Mapping[str, tuple[Sighting, ...] | None]


class Ensemble(Protocol):
    """The models that are asked; see `server.ensemble`."""

    @property
    def panel(self) -> Panel: ...

    def answer(self, images: Sequence[bytes]) -> Sequence[Answers]: ...


def routes(
    ensemble: Callable[[], Ensemble],
    doorkeeper: Doorkeeper,
    admission: Admission,
    bounds: Bounds,
) -> Blueprint:
    """The three endpoints. `ensemble` gives the loaded ensemble or raises Later."""
    blueprint = Blueprint("flexserve", __name__)

    def labels(*, most: int) -> dict[str, list[str]]:
        """`{model: [class per frame]}` of the files in the current request, `most` of them at most."""
        doorkeeper.admit_to_classify(request)
        with admission.admitted():
            asked = ensemble()
            files = read_upload(replace(bounds, frames=most)).files
            answers = asked.answer(files)
        return {
            seat.model: [top_label(seat, answer.get(seat.model)) for answer in answers] for seat in asked.panel.seats
        }

    @blueprint.post("/classify")
    def classify() -> Response:
        by_model = labels(most=1)
        return _json({model: only for model, (only,) in by_model.items()})

    @blueprint.post("/batch")
    def batch() -> Response:
        return _json(labels(most=bounds.frames))

    @blueprint.get("/models")
    def models() -> Response:
        doorkeeper.admit_to_classify(request)
        seats = ensemble().panel.seats
        return _json({f"model {index}": seat.model for index, seat in enumerate(seats)})

    return blueprint


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), content_type="application/json")
