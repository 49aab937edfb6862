"""The Open Inference Protocol, version 2, as Triton, KServe and OpenVINO Model Server speak it.

    GET  /v2, /v2/health/live, /v2/health/ready
    GET  /v2/models/{model}[/versions/{version}][/ready|/config|/stats], /v2/models/stats
    POST /v2/models/{model}[/versions/{version}]/infer
    POST /v2/repository/index

`model` is `ensemble` or one of its models; `version` is the digest of the ensemble in service. The input is `image`,
BYTES, one encoded image per element. The outputs are `label` (BYTES) and `score` (FP32): one per image, and for
`ensemble` one row per image with a column per model, which the output's parameter `models` names. As in FlexServe's
form, a label is the model's best: "nothing" with score 0 from a detector that saw nothing, and empty where the model
did not answer. A request for one model runs that model only; `ensemble` runs all in one forward call.
`parameters.timeout` limits the answer's time in microseconds, as in Triton; an answer that is not ready by then is 503.
Other parameters than those of `codec` are refused. Bodies may be compressed by gzip or deflate, both ways.

Errors are `{"error": text}`, as the protocol requires (`server.web.problem_json`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from flask import Blueprint, Response, request

from policies.observation import ModelInfo
from server.domain.ensemble_protocol import Answers, Ensemble
from server.domain.errors import ConfigurationError, Malformed, RetryLater, Unknown, WrongType
from server.pipeline.response import top_prediction
from server.web import etag
from server.web.admission import Admission, PictureLimits
from server.web.auth import Authenticator
from server.web.json_http import (
    JSON,
    compressed,
    content_coding,
    declared_bytes,
    json_or_nothing,
    json_response,
    whole_body,
)
from server.web.multipart import Bounds
from server.web.oip_v2.codec import IMAGE, DecodedRequest, Tensor, decode_request, encode_answer, index_request
from server.web.oip_v2.statistics import Statistics

ENSEMBLE = "ensemble"
LENGTH_HEADER = "Inference-Header-Content-Length"
_BINARY = "application/octet-stream"
_EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")


@dataclass(frozen=True, slots=True)
class _Target:
    """What a path names: `ensemble` or one model of it. `models` are the models that answer."""

    model: str
    ensemble: Ensemble
    models: tuple[ModelInfo, ...]

    @property
    def digest(self) -> str:
        return self.ensemble.ensemble_info.ensemble

    @property
    def names(self) -> list[str]:
        """Of the ensemble: itself and its models."""
        return [ENSEMBLE, *(model_info.model for model_info in self.models)]

    @property
    def is_ensemble(self) -> bool:
        return self.model == ENSEMBLE


def routes(
    ensemble: Callable[[], Ensemble],
    check_database: Callable[[], object],
    authenticator: Authenticator,
    admission: Admission,
    bounds: Bounds,
    pictures: PictureLimits,
    version: str,
) -> Blueprint:
    """The endpoints.

    `ensemble` raises RetryLater while it is loading, `check_database` while the database is silent.
    """
    blueprint = Blueprint("oip_v2", __name__, url_prefix="/v2")
    target_of = partial(_target, authenticator, ensemble)
    _add_health(blueprint, ensemble, check_database, version)
    _add_models(blueprint, target_of)
    statistics = Statistics()
    _add_repository(blueprint, target_of, admission, statistics)

    @blueprint.post("/models/<model>/infer")
    @blueprint.post("/models/<model>/versions/<digest>/infer")
    def infer(model: str, digest: str | None = None) -> Response:
        admission.check_open()
        client, target = target_of(model, digest)
        declared_bytes = None if content_coding() else request.content_length  # compressed, it may become the largest
        with _counted(statistics, target) as count, admission.admitted(client, declared_bytes) as upload:
            etag.check_if_match(target.digest)
            decoded = _decoded_request(bounds)
            upload.begin(pictures.cost(decoded.images))
            began_ns = time.perf_counter_ns()
            answers = target.ensemble.only(None if target.is_ensemble else model, decoded.within_s).answer(
                decoded.images
            )
            count(len(answers), time.perf_counter_ns() - began_ns)
            answer = _answer(target, decoded, answers)
        return etag.tagged(compressed(answer), target.digest)

    return blueprint


def _add_health(
    blueprint: Blueprint, ensemble: Callable[[], Ensemble], check_database: Callable[[], object], version: str
) -> None:
    @blueprint.get("")
    def server() -> Response:
        return json_response({"name": "sectorwatch", "version": version, "extensions": _EXTENSIONS})

    @blueprint.get("/health/live")
    def live() -> Response:
        return json_response({"live": True})

    @blueprint.get("/health/ready")
    def ready() -> Response:
        try:
            ensemble()
            check_database()
        except RetryLater as error:
            answer = json_response({"ready": False}, 503)
            answer.headers["Retry-After"] = str(error.retry_after_s)
            return answer
        return json_response({"ready": True})


def _add_models(blueprint: Blueprint, target_of: Callable[[str, str | None], tuple[str, _Target]]) -> None:
    @blueprint.get("/models/<model>")
    @blueprint.get("/models/<model>/versions/<digest>")
    def metadata(model: str, digest: str | None = None) -> Response:
        _client, target = target_of(model, digest)
        return etag.tagged(json_response(_metadata(target)), target.digest)

    @blueprint.get("/models/<model>/ready")
    @blueprint.get("/models/<model>/versions/<digest>/ready")
    def model_ready(model: str, digest: str | None = None) -> Response:
        target_of(model, digest)
        return json_response({"name": model, "ready": True})


def _add_repository(
    blueprint: Blueprint,
    target_of: Callable[[str, str | None], tuple[str, _Target]],
    admission: Admission,
    statistics: Statistics,
) -> None:
    @blueprint.post("/repository/index")
    def index() -> Response:
        client, target = target_of(ENSEMBLE, None)
        with admission.receiving_json(client, declared_bytes() if request.content_length else 0):
            json_or_nothing(index_request, "a request for the repository's index")  # all that is listed is ready
        listed = [{"name": name, "version": target.digest, "state": "READY"} for name in target.names]
        return etag.tagged(json_response(listed), target.digest)

    @blueprint.get("/models/<model>/config")
    @blueprint.get("/models/<model>/versions/<digest>/config")
    def config(model: str, digest: str | None = None) -> Response:
        _client, target = target_of(model, digest)
        return etag.tagged(json_response(_config(target)), target.digest)

    @blueprint.get("/models/stats")
    @blueprint.get("/models/<model>/stats")
    @blueprint.get("/models/<model>/versions/<digest>/stats")
    def stats(model: str | None = None, digest: str | None = None) -> Response:
        _client, target = target_of(model or ENSEMBLE, digest)
        names = target.names if model is None else [model]
        return json_response({"model_stats": [statistics.described(name, target.digest) for name in names]})


@contextmanager
def _counted(statistics: Statistics, target: _Target) -> Iterator[Callable[[int, int], None]]:
    """Counts the request as answered if the function that it gives is called, with images and the models' ns; else as
    failed. A request for the ensemble is one for each of its models too.
    """
    began_ns, answered = time.perf_counter_ns(), list[tuple[int, int]]()
    names = target.names if target.is_ensemble else [target.model]

    def count(images: int, infer_ns: int) -> None:
        answered.append((images, infer_ns))

    try:
        yield count
    except Exception:
        statistics.failed(names, target.digest, time.perf_counter_ns() - began_ns)
        raise
    [(images, infer_ns)] = answered
    total_ns = time.perf_counter_ns() - began_ns
    statistics.answered(names, target.digest, images, total_ns=total_ns, infer_ns=infer_ns)


def _target(
    authenticator: Authenticator, ensemble: Callable[[], Ensemble], model: str, digest: str | None
) -> tuple[str, _Target]:
    """The caller's `Permissions.client`, and what the path names.

    Raises RetryLater, Unauthorized, Forbidden, and Unknown for a model, or a version, that is not in service.
    """
    client, loaded = authenticator.authenticate_to_classify(request), ensemble()
    ensemble_info = loaded.ensemble_info
    models = tuple(model_info for model_info in ensemble_info.models if model in (ENSEMBLE, model_info.model))
    if not models:
        names = ", ".join([ENSEMBLE, *(model_info.model for model_info in ensemble_info.models)])
        raise Unknown(f"no model `{model}` is in service; there are {names}")
    if digest not in (None, ensemble_info.ensemble):
        raise Unknown(f"version `{digest}` is not in service; the only version is {ensemble_info.ensemble}")
    return client, _Target(model, loaded, models)


def _decoded_request(bounds: Bounds) -> DecodedRequest:
    """The current inference request. Raises WrongType, Malformed, TooLarge. Triton's own client names no media type."""
    if request.mimetype not in (JSON, _BINARY, ""):
        raise WrongType(f"expected {JSON}, or {_BINARY} with {LENGTH_HEADER}, not {request.mimetype}")
    length = request.headers.get(LENGTH_HEADER)
    if length is not None and not (length.isascii() and length.isdigit() and len(length) < 19):
        raise Malformed(f"{LENGTH_HEADER} is the number of the body's bytes that are JSON, not {length[:80]!r}")
    return decode_request(whole_body(bounds.body_bytes), None if length is None else int(length), bounds.frames)


def _metadata(target: _Target) -> dict[str, object]:
    shape = [-1, len(target.models)] if target.is_ensemble else [-1]
    return {
        "name": target.model,
        "versions": [target.digest],
        "platform": "pytorch",
        "inputs": [{"name": IMAGE, "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": shape},
            {"name": "score", "datatype": "FP32", "shape": shape},
        ],
    }


def _config(target: _Target) -> dict[str, object]:
    """The model's configuration as Triton gives it. There is no batch dimension: the one of images is any number."""
    dims = [-1, len(target.models)] if target.is_ensemble else [-1]
    return {
        "name": target.model,
        "platform": "pytorch",
        "backend": "pytorch",
        "version_policy": {"specific": {"versions": []}},
        "max_batch_size": 0,
        "input": [{"name": IMAGE, "data_type": "TYPE_STRING", "format": "FORMAT_NONE", "dims": [-1]}],
        "output": [
            {"name": "label", "data_type": "TYPE_STRING", "dims": dims},
            {"name": "score", "data_type": "TYPE_FP32", "dims": dims},
        ],
        "parameters": {"ensemble": {"string_value": target.digest}},
    }


def _answer(target: _Target, decoded: DecodedRequest, answers: Sequence[Answers]) -> Response:
    body, json_bytes = encode_answer(target.model, target.digest, decoded, _tensors(target, answers))
    answer = Response(body, content_type=JSON if json_bytes is None else _BINARY)
    if json_bytes is not None:
        answer.headers[LENGTH_HEADER] = str(json_bytes)
    return answer


def _tensors(target: _Target, answers: Sequence[Answers]) -> tuple[Tensor, Tensor]:
    """Labels and scores, one row per image. Raises ConfigurationError when the requested model did not answer."""
    if not target.is_ensemble and any(answer.get(target.model) is None for answer in answers):
        raise ConfigurationError(f"the model {target.model} failed on these images; the server's log says how")
    best = [top_prediction(answer.get(model_info.model)) for answer in answers for model_info in target.models]
    shape = (len(answers), len(target.models)) if target.is_ensemble else (len(answers),)
    parameters = {"models": ",".join(model_info.model for model_info in target.models)} if target.is_ensemble else {}
    return (
        Tensor("label", "BYTES", shape, [prediction.label for prediction in best], parameters),
        Tensor("score", "FP32", shape, [prediction.score for prediction in best], parameters),
    )
