"""What the documented bodies look like, as types.

`Envelope`, `Heartbeat`, `Event` and so on are what the server itself decodes and keeps; the classes here say the form
of an answer that the server makes from several parts. JSON Schema is derived from all of them.
"""

from __future__ import annotations

import inspect
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from policies.events import Event
from policies.observation import Prediction
from server.camera_status.heartbeat import Heartbeat
from server.domain.burst import Envelope
from server.web.annotations import AnnotationBody
from server.web.cameras import CameraList
from server.web.oip_v2_codec import InferRequest

REF = "#/components/schemas/"


class Problem(Struct):
    """RFC 9457. `instance` is in the server's log too. `errors` names the frame at fault, where it is one frame's."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[FrameError] | msgspec.UnsetType = msgspec.UNSET


class FrameError(Struct):
    frame: int
    reason: str


class LoggedEvent(Event, frozen=True, kw_only=True):
    """An event as the log has it. `late`: found when the log had passed its instant; `withdrawn`: it does not hold.

    `supersedes`: ids of events told before that this one replaces: the same fact at another instant, withdrawn with it,
    or its own id where it is told otherwise than before.
    """

    late: bool
    withdrawn: bool
    supersedes: list[str]


class JudgedFrame(Struct):
    """What each model saw in one frame; null: it did not answer."""

    frame: int
    at: datetime
    frame_sha256: str
    answers: dict[str, tuple[Prediction, ...] | None]


class Receipt(Struct):
    """What became of a burst. `labels` is in FlexServe's form: model to its class for each frame."""

    burst_id: str
    status: Annotated[str, Meta(pattern="^(folded|held)$")]
    late: bool
    labels: dict[str, list[str]]
    observations: list[JudgedFrame]
    events: list[LoggedEvent]
    ensemble: str
    policy: str


class EventPage(Struct):
    """Events in the order in which they were said. `next` is what to give as `after` to go on."""

    events: list[LoggedEvent]
    next: int


class ListedModel(Struct):
    """A model in service; what its card says is there for models of the catalogue."""

    name: str
    kind: str
    votes: bool
    classes: list[str]
    summary: str | msgspec.UnsetType = msgspec.UNSET
    licence: str | msgspec.UnsetType = msgspec.UNSET
    citation: str | msgspec.UnsetType | None = msgspec.UNSET
    sha256: str | msgspec.UnsetType | None = msgspec.UNSET


class Models(Struct):
    ensemble: str
    models: list[ListedModel]


class KeptAnnotation(Struct):
    """What a person says of a fact; the newest of a `subject` counts. `is_told`: an event told the fact."""

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
    """Annotations in the order they were made. `next` is what to give as `after` to go on."""

    annotations: list[KeptAnnotation]
    next: int


class Alive(Struct):
    status: str


class Ready(Struct):
    status: str
    ensemble: str


class ServerMetadata(Struct):
    name: str
    version: str
    extensions: list[str]


class ServerLive(Struct):
    live: bool


class ServerReady(Struct):
    ready: bool


class ModelReady(Struct):
    name: str
    ready: bool


class TensorMetadata(Struct):
    """A tensor's form; -1 in its shape is the number of images."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(Struct):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class OutputTensor(Struct):
    """One row per image. `data` is there unless binary was asked for; `parameters.models` names the columns."""

    name: str
    datatype: str
    shape: list[int]
    data: list[str | float] | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, str | int] | msgspec.UnsetType = msgspec.UNSET


class InferAnswer(Struct):
    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | msgspec.UnsetType = msgspec.UNSET


class InferenceError(Struct):
    error: str


_INFERENCE_V2 = (
    ServerMetadata,
    ServerLive,
    ServerReady,
    ModelReady,
    ModelMetadata,
    InferRequest,
    InferAnswer,
    InferenceError,
)

_CAMERAS = (Heartbeat, CameraList, AnnotationBody, KeptAnnotation, AnnotationPage)

DOCUMENTED: tuple[Any, ...] = (
    Envelope,
    Problem,
    Receipt,
    EventPage,
    Models,
    Alive,
    Ready,
    *_CAMERAS,
    *_INFERENCE_V2,
)


def components() -> dict[str, Any]:
    """JSON Schemas of all documented types and of what they are made of, by name."""
    _, found = msgspec.json.schema_components(DOCUMENTED, ref_template=REF + "{name}")
    for schema in found.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    return dict(sorted(found.items()))
