"""What people say of the past, over HTTP: `GET` and `POST /v1/annotations`, for those who may read the site's events.

Like the events, annotations come in the order they were made, a page at a time, and the newest of a `subject`
counts. A `POST` says of one event that it was true, false, or of unsure truth, or adds what no event told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Protocol

import msgspec
from flask import Blueprint, Response, request

from server.analysis.annotations import Annotations as Known
from server.analysis.annotations import MissedFact, Said, Text, missed, no_event, said_of
from server.analysis.annotations import Store as Asked
from server.domain.errors import Forbidden, Malformed, TooLarge, WrongType
from server.domain.records import Annotation
from server.web.auth import Doorkeeper, Grant

JSON = "application/json"
_MOST_BYTES = 65_536
_MOST_ROWS = 1000


class Annotations(Known, Protocol):
    def add(self, made: Sequence[Annotation]) -> list[Annotation]: ...
    def all(self, site: str | None = ..., after: int = ..., limit: int | None = ...) -> list[Annotation]: ...


class Store(Asked, Protocol):
    @property
    def annotations(self) -> Annotations: ...


class AnnotationBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a `POST`: `event` with `truth`, or `missed` alone; and who says so."""

    author: Text
    event: Annotated[str, msgspec.Meta(min_length=32, max_length=32)] | None = None
    truth: Said | None = None
    missed: MissedFact | None = None
    note: Text | None = None


class AnnotationQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The filters of `GET /v1/annotations`; `after` is the `next` of the page before."""

    site: str | None = None
    after: Annotated[int, msgspec.Meta(ge=0, le=2**62)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=_MOST_ROWS)] = 100


def routes(store: Store, doorkeeper: Doorkeeper) -> Blueprint:
    """The endpoints; both are for readers, each of its own site."""
    blueprint = Blueprint("annotations", __name__)

    @blueprint.get("/v1/annotations")
    def listed() -> Response:
        grant = doorkeeper.admit(request)
        query = _query()
        page = store.annotations.all(grant.to_read(query.site), query.after, query.limit)
        following = page[-1].number if page else query.after
        return _json({"annotations": [one.as_wire() for one in page], "next": following})

    @blueprint.post("/v1/annotations")
    def add() -> Response:
        grant = doorkeeper.admit(request)
        grant.to_read()
        made = _made(store, grant, _body())
        [kept] = store.annotations.add([made])
        return _json(kept.as_wire(), 201)

    return blueprint


def _made(store: Store, grant: Grant, told: AnnotationBody) -> Annotation:
    """The annotation that a body asks for. Raises Forbidden for a site the caller may not read."""
    if told.missed is not None and told.event is None and told.truth is None:
        grant.to_read(told.missed.site)
        return missed(store, told.missed, told.author, told.note)
    if told.event is None or told.truth is None or told.missed is not None:
        raise Malformed("give either `event` and `truth` (true, false, unsure), or `missed`")
    made = said_of(store, told.event, told.truth, told.author, told.note)
    try:
        grant.to_read(made.site)
    except Forbidden:
        # Not even whether it is there is told of an event that the caller may not read.
        raise no_event(told.event) from None
    return made


def _body() -> AnnotationBody:
    # Asking for JSON also keeps foreign pages in a browser on this machine from sending a plain form here.
    if request.mimetype != JSON:
        raise WrongType(f"expected {JSON}, not {request.mimetype or 'a body without a type'}")
    if (request.content_length or 0) > _MOST_BYTES:
        raise TooLarge(f"an annotation holds at most {_MOST_BYTES} bytes")
    try:
        return msgspec.json.decode(request.get_data(cache=False), type=AnnotationBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"not an annotation: {error}") from None


def _query() -> AnnotationQuery:
    try:
        return msgspec.convert(request.args.to_dict(), AnnotationQuery, strict=False)
    except msgspec.ValidationError as error:
        raise Malformed(str(error)) from None


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, content_type=JSON)
