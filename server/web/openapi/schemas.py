"""The bodies in the OpenAPI document, as types from which their JSON Schemas are derived.

`Envelope`, `Heartbeat`, `Event` and others are the types that the server itself decodes and keeps. The classes here
describe answers that the server builds from several parts.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from policies.events import Event
from policies.observation import Prediction
from server.camera_status.heartbeat import Heartbeat
from server.domain.burst import Aware, Envelope
from server.web.annotations import AnnotationBody
from server.web.cameras import CameraList
from server.web.oip_v2 import IndexRequest, InferRequest
from server.web.site_policy import SitePolicyReport

REF = "#/components/schemas/"


class Problem(Struct):
    """RFC 9457. The server's log has `instance` too. `errors` names the frame at fault, where it is one frame."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[FrameError] | UnsetType = UNSET


class FrameError(Struct):
    frame: int
    reason: str


class LateBurst(Struct):
    """A burst that came after its camera had advanced past it, and the instant of its first frame."""

    burst_id: str
    at: datetime


class LoggedEvent(Event, frozen=True, kw_only=True):
    """An event in the log. `late`: the log had passed its instant already. `withdrawn`: the event does not hold.

    `supersedes`: ids of earlier events that this one replaces: the same fact at another instant, which is withdrawn, or
    its own id where its content changed. `superseded_by`: the late burst that disproved it, where there is one.
    """

    late: bool
    withdrawn: bool
    supersedes: list[str]
    superseded_by: LateBurst | UnsetType = UNSET


class JudgedFrame(Struct):
    """What each model saw in one frame; null: the model did not answer."""

    frame: int
    at: datetime
    frame_sha256: str
    answers: dict[str, tuple[Prediction, ...] | None]


class Receipt(Struct):
    """The result of a burst. `labels` is in FlexServe's form: model to its class for each frame. `votes`: model to the
    targets that its answer is a vote for, for each frame.
    """

    burst_id: str
    status: Annotated[str, Meta(pattern="^(folded|held|set_aside)$")]
    late: bool
    labels: dict[str, list[str]]
    votes: dict[str, list[list[str]]]
    observations: list[JudgedFrame]
    events: list[LoggedEvent]
    ensemble: str
    policy: str


class EventPage(Struct):
    """Events in the order in which they were logged. `next` is the `after` of the next request.

    Where events of the stretch that is asked for are no longer kept, `not_kept` says which, and all are kept from
    `kept_since` on. Else these two are absent.
    """

    events: list[LoggedEvent]
    next: int
    kept_since: Aware | UnsetType = UNSET
    not_kept: list[str] | UnsetType = UNSET


class ListedFrame(Struct):
    """A kept frame: its instant, and the SHA-256 and size of its picture."""

    sha256: str
    at: datetime
    bytes: int


class FrameList(Struct):
    """Kept frames of a camera, the oldest first."""

    frames: list[ListedFrame]


class EventFrame(Struct):
    """A frame of an event, and what became of its picture. `names_event`: the event's provenance has it."""

    sha256: str
    at: datetime
    burst_id: str
    index: int
    picture: Annotated[str, Meta(pattern="^(kept|no_longer_kept|never_kept)$")]
    names_event: bool


class EventFrames(Struct):
    """Frames of an event in order. `next` is the `after` of the next page; null: this is the last one."""

    event: str
    frames: list[EventFrame]
    next: int | None


class ListedModel(Struct):
    """A model in service. The fields of its card are present for models that have one."""

    name: str
    kind: str
    votes: bool
    classes: list[str]
    summary: str | UnsetType = UNSET
    licence: str | UnsetType = UNSET
    citation: str | UnsetType | None = UNSET
    sha256: str | UnsetType | None = UNSET


class KeptAnnotation(Struct):
    """A person's word on a fact; the newest of a `subject` counts. `is_told`: an event reported the fact."""

    number: int
    subject: str
    truth: Annotated[str, Meta(pattern="^(true|false|missed|unsure)$")]
    site: str
    camera: str
    kind: str
    label: str
    sector: str | None
    from_sector: str | None
    to_sector: str | None
    line: str | None
    at: datetime
    within_s: float
    is_told: bool
    author: str
    note: str | None
    made_at: datetime


class AnnotationPage(Struct):
    """Annotations in the order they were made. `next` is the `after` of the next request."""

    annotations: list[KeptAnnotation]
    next: int


class TensorMetadata(Struct):
    """A tensor's form; -1 in its shape is the number of images."""

    name: str
    datatype: str
    shape: list[int]


class ConfiguredTensor(Struct):
    """A tensor in a model's configuration; -1 in its dims is the number of images."""

    name: str
    data_type: str
    dims: list[int]
    format: str | UnsetType = UNSET


class ListedInRepository(Struct):
    """A model that the repository lists. `version` is the digest of the ensemble in service."""

    name: str
    version: str
    state: str


class Duration(Struct):
    """How often, and how long in all (ns)."""

    count: int
    ns: int


class ModelStatistics(Struct):
    """How often a model was asked over this protocol. `last_inference` is in ms of Unix time; 0: never."""

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: dict[str, Duration]
    batch_stats: list[dict[str, Any]]


class OutputTensor(Struct):
    """One row per image. `data` is absent when the output is binary; `parameters.models` names the columns."""

    name: str
    datatype: str
    shape: list[int]
    data: list[str | float] | UnsetType = UNSET
    parameters: dict[str, str | int] | UnsetType = UNSET


_PLAIN: dict[str, list[tuple[str, Any] | tuple[str, Any, Any]]] = {
    "Alive": [("status", str)],
    "Ready": [("status", str), ("ensemble", str)],
    "ServerMetadata": [("name", str), ("version", str), ("extensions", list[str])],
    "ServerLive": [("live", bool)],
    "ServerReady": [("ready", bool)],
    "ModelReady": [("name", str), ("ready", bool)],
    "ModelMetadata": [
        ("name", str),
        ("versions", list[str]),
        ("platform", str),
        ("inputs", list[TensorMetadata]),
        ("outputs", list[TensorMetadata]),
    ],
    "ModelConfig": [
        ("name", str),
        ("platform", str),
        ("backend", str),
        ("version_policy", dict[str, Any]),
        ("max_batch_size", int),
        ("input", list[ConfiguredTensor]),
        ("output", list[ConfiguredTensor]),
        ("parameters", dict[str, dict[str, str]]),
    ],
    "Statistics": [("model_stats", list[ModelStatistics])],
    "InferAnswer": [
        ("model_name", str),
        ("model_version", str),
        ("outputs", list[OutputTensor]),
        ("id", str | UnsetType, UNSET),
    ],
    "InferenceError": [("error", str)],
    "Models": [("ensemble", str), ("models", list[ListedModel])],
}
"""Answers that their fields describe well enough: name -> fields."""

DOCUMENTED: tuple[Any, ...] = (
    *(Envelope, Heartbeat, SitePolicyReport, CameraList, AnnotationBody, InferRequest, IndexRequest),
    *(Problem, Receipt, EventPage, FrameList, EventFrames, KeptAnnotation, AnnotationPage, ListedInRepository),
    *(msgspec.defstruct(name, fields) for name, fields in _PLAIN.items()),
)


def components(more: Sequence[type[Struct]]) -> dict[str, Any]:
    """JSON Schemas of all documented types, of `more` and of their parts, by name."""
    _, schemas = msgspec.json.schema_components((*DOCUMENTED, *more), ref_template=REF + "{name}")
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    return dict(sorted(schemas.items()))
