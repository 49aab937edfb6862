"""`GET` and `POST /v1/annotations`: a person's judgement whether an event was true, for readers of the site's events.

Annotations are listed in the order they were made, a page at a time; the newest of a `subject` counts. A `POST` marks
one event true, false or unsure, or adds a fact that no event reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Protocol

import msgspec
from flask import Blueprint, Response, request

from policies.site.toml_errors import ready
from server.analysis.annotations import Answer, MissedFact, Text, annotation_of, missed_annotation, no_event
from server.analysis.stored import Annotations as ReadAnnotations
from server.analysis.stored import Store as ReadStore
from server.domain.errors import Forbidden, Malformed
from server.domain.people import LOCAL
from server.domain.records import Annotation
from server.web.admission import Admission
from server.web.auth import Authenticator, Permissions
from server.web.json_http import declared_bytes, decoded, json_body, json_response, query_parameters


class Annotations(ReadAnnotations, Protocol):
    def add(self, made: Sequence[Annotation], *, by: str | None = ...) -> list[Annotation]: ...
    def all(self, site: str | None = ..., after: int = ..., limit: int | None = ...) -> list[Annotation]: ...


class Store(ReadStore, Protocol):
    @property
    def annotations(self) -> Annotations: ...


class AnnotationBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a `POST`: `event` with `truth`, or `missed` alone; `author` is the person."""

    author: Text
    event: Annotated[str, msgspec.Meta(min_length=32, max_length=32)] | None = None
    truth: Answer | None = None
    missed: MissedFact | None = None
    note: Text | None = None


_body = msgspec.json.Decoder(AnnotationBody)


class AnnotationQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The filters of `GET /v1/annotations`; `after` is the `next` of the page before."""

    site: str | None = None
    after: Annotated[int, msgspec.Meta(ge=0, le=2**62)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


ready(AnnotationQuery)


def routes(store: Store, authenticator: Authenticator, admission: Admission) -> Blueprint:
    """The endpoints, for readers, each of its own site."""
    blueprint = Blueprint("annotations", __name__, url_prefix="/v1")

    @blueprint.get("/annotations")
    def list_annotations() -> Response:
        permissions = authenticator.authenticate(request)
        query = query_parameters(AnnotationQuery)
        page = store.annotations.all(permissions.to_read(query.site), query.after, query.limit)
        following = page[-1].number if page else query.after
        return json_response({"annotations": [annotation.as_wire() for annotation in page], "next": following})

    @blueprint.post("/annotations")
    def add_annotation() -> Response:
        permissions = authenticator.authenticate(request)
        permissions.to_read()
        with admission.receiving_json(permissions.client, declared_bytes()):
            body = json_body("an annotation")
        annotation = _annotation(store, permissions, decoded(body, _body, "an annotation"))
        caller = LOCAL if permissions.local else f"token {permissions.client}"
        [kept] = store.annotations.add([annotation], by=caller)
        return json_response(kept.as_wire(), 201)

    return blueprint


def _annotation(store: Store, permissions: Permissions, body: AnnotationBody) -> Annotation:
    """The annotation that `body` describes. Raises Forbidden for a site the caller may not read."""
    if body.missed is not None and body.event is None and body.truth is None:
        permissions.to_read(body.missed.site)
        return missed_annotation(store, body.missed, body.author, body.note)
    if body.event is None or body.truth is None or body.missed is not None:
        raise Malformed("give either `event` and `truth` (true, false, unsure), or `missed`")
    annotation = annotation_of(store, body.event, body.truth, body.author, body.note)
    try:
        permissions.to_read(annotation.site)
    except Forbidden:
        # The answer does not reveal whether an event exists that the caller may not read.
        raise no_event(body.event) from None
    return annotation
