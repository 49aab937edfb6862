"""The Open Inference Protocol, version 2, as Triton, KServe and OpenVINO Model Server speak it.

    GET  /v2, /v2/health/live, /v2/health/ready
    GET  /v2/models/{model}[/versions/{version}][/ready]
    POST /v2/models/{model}[/versions/{version}]/infer

`model` is `ensemble` or one of its models; `version` is the digest of the ensemble in service. The input is `image`,
BYTES, one encoded image per element; the outputs are `label` (BYTES) and `score` (FP32): one per image, and for
`ensemble` one row per image with a column per model, whose names the output's parameter `models` gives. As in
FlexServe's form a label is the model's best: "nothing" with score 0 from a detector that saw nothing, and empty where
the model did not answer. Who asks for one model has only that one asked; whoever wants several gets them as `ensemble`,
in one forward call. `parameters.timeout` is how many microseconds the answer may take, as Triton has it: beyond that,
or where it could not be had in time, the answer is 503.

Errors are `{"error": text}`, as the protocol has it (`server.web.problem_json`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec
from flask import Blueprint, Response, request

from policies.observation import EnsembleInfo, ModelInfo, Prediction
from server.domain.errors import ConfigurationError, Malformed, RetryLater, Unknown, WrongType
from server.pipeline.response import top_prediction
from server.web import etag
from server.web.admission import Admission
from server.web.auth import Doorkeeper
from server.web.multipart import Bounds
from server.web.oip_v2_codec import IMAGE, Asked, Tensor, read_request, written_answer

ENSEMBLE = "ensemble"
LENGTH_HEADER = "Inference-Header-Content-Length"
_BINARY = "application/octet-stream"
_JSON = "application/json"

Answers = Mapping[str, tuple[Prediction, ...] | None]


class Ensemble(Protocol):
    @property
    def ensemble_info(self) -> EnsembleInfo: ...

    def only(self, model: str | None, within_s: float | None = ...) -> Ensemble: ...

    def answer(self, images: Sequence[bytes]) -> Sequence[Answers]: ...


def routes(
    ensemble: Callable[[], Ensemble],
    database: Callable[[], object],
    doorkeeper: Doorkeeper,
    admission: Admission,
    bounds: Bounds,
    version: str,
) -> Blueprint:
    """The endpoints. `ensemble` gives the loaded one or raises RetryLater; `database` raises RetryLater while it is
    silent.
    """
    blueprint = Blueprint("inference_v2", __name__, url_prefix="/v2")
    _health(blueprint, ensemble, database, version)

    def asked_for(model: str, digest: str | None) -> tuple[str, Ensemble, tuple[ModelInfo, ...]]:
        client, loaded = doorkeeper.admit_to_classify(request), ensemble()
        return client, loaded, _named_models(loaded.ensemble_info, model, digest)

    @blueprint.get("/models/<model>")
    @blueprint.get("/models/<model>/versions/<digest>")
    def metadata(model: str, digest: str | None = None) -> Response:
        _client, loaded, models = asked_for(model, digest)
        return etag.tagged(_json(_described(model, models, loaded.ensemble_info)), loaded.ensemble_info.ensemble)

    @blueprint.get("/models/<model>/ready")
    @blueprint.get("/models/<model>/versions/<digest>/ready")
    def model_ready(model: str, digest: str | None = None) -> Response:
        asked_for(model, digest)
        return _json({"name": model, "ready": True})

    @blueprint.post("/models/<model>/infer")
    @blueprint.post("/models/<model>/versions/<digest>/infer")
    def infer(model: str, digest: str | None = None) -> Response:
        admission.knock()
        client, loaded, models = asked_for(model, digest)
        with admission.admitted(client, request.content_length) as spend:
            ensemble_info = loaded.ensemble_info
            etag.demand(ensemble_info.ensemble)
            asked = _read(bounds)
            spend(len(asked.images))
            answers = loaded.only(None if model == ENSEMBLE else model, asked.within_s).answer(asked.images)
        return etag.tagged(
            _answer(model, ensemble_info.ensemble, asked, _tensors(model, models, answers)), ensemble_info.ensemble
        )

    return blueprint


def _health(
    blueprint: Blueprint, ensemble: Callable[[], Ensemble], database: Callable[[], object], version: str
) -> None:
    @blueprint.get("")
    def server() -> Response:
        return _json({"name": "sectorwatch", "version": version, "extensions": ["binary_tensor_data"]})

    @blueprint.get("/health/live")
    def live() -> Response:
        return _json({"live": True})

    @blueprint.get("/health/ready")
    def ready() -> Response:
        try:
            ensemble()
            database()
        except RetryLater as error:
            answer = Response(msgspec.json.encode({"ready": False}), status=503, content_type=_JSON)
            answer.headers["Retry-After"] = str(error.retry_after_s)
            return answer
        return _json({"ready": True})


def _named_models(ensemble_info: EnsembleInfo, model: str, digest: str | None) -> tuple[ModelInfo, ...]:
    """The models that `model` names. Raises Unknown for a model, or a version, that is not in service."""
    models = tuple(model_info for model_info in ensemble_info.models if model in (ENSEMBLE, model_info.model))
    if not models:
        names = ", ".join([ENSEMBLE, *(model_info.model for model_info in ensemble_info.models)])
        raise Unknown(f"no model `{model}` is in service; there are {names}")
    if digest not in (None, ensemble_info.ensemble):
        raise Unknown(f"version `{digest}` is not in service; the only version is {ensemble_info.ensemble}")
    return models


def _read(bounds: Bounds) -> Asked:
    """The inference request that came; Triton's own client names no type. Raises WrongType, Malformed, TooLarge."""
    if request.mimetype not in (_JSON, _BINARY, ""):
        raise WrongType(f"expected {_JSON}, or {_BINARY} with {LENGTH_HEADER}, not {request.mimetype}")
    if request.content_encoding not in {None, "", "identity"}:
        raise WrongType(f"a body compressed by {request.content_encoding} is not read: images are compressed already")
    told = request.headers.get(LENGTH_HEADER)
    if told is not None and not (told.isascii() and told.isdigit() and len(told) < 19):
        raise Malformed(f"{LENGTH_HEADER} is the number of the body's bytes that are JSON, not {told[:80]!r}")
    return read_request(request.get_data(cache=False), None if told is None else int(told), bounds.frames)


def _described(model: str, models: Sequence[ModelInfo], ensemble_info: EnsembleInfo) -> dict[str, object]:
    shape = [-1, len(models)] if model == ENSEMBLE else [-1]
    return {
        "name": model,
        "versions": [ensemble_info.ensemble],
        "platform": "pytorch",
        "inputs": [{"name": IMAGE, "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": shape},
            {"name": "score", "datatype": "FP32", "shape": shape},
        ],
    }


def _tensors(model: str, models: Sequence[ModelInfo], answers: Sequence[Answers]) -> tuple[Tensor, Tensor]:
    """Labels and scores, one row per image. Raises ConfigurationError when the only model asked did not answer."""
    whole = model == ENSEMBLE
    if not whole and any(answer.get(model) is None for answer in answers):
        raise ConfigurationError(f"the model {model} failed on these images; the server's log says how")
    best = [top_prediction(answer.get(model_info.model)) for answer in answers for model_info in models]
    shape = (len(answers), len(models)) if whole else (len(answers),)
    parameters = {"models": ",".join(model_info.model for model_info in models)} if whole else {}
    return (
        Tensor("label", "BYTES", shape, [one.label for one in best], parameters),
        Tensor("score", "FP32", shape, [one.score for one in best], parameters),
    )


def _answer(model: str, version: str, asked: Asked, tensors: Sequence[Tensor]) -> Response:
    body, json_bytes = written_answer(model, version, asked, tensors)
    answer = Response(body, content_type=_JSON if json_bytes is None else _BINARY)
    if json_bytes is not None:
        answer.headers[LENGTH_HEADER] = str(json_bytes)
    return answer


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), content_type=_JSON)
