"""`GET /v1/frames`: the pictures that are kept, for readers of their site, each with a token or a
session of the console.

A picture is named by its SHA-256, and its bytes have that SHA-256. Whoever may not read its site gets the answer for a
picture that does not exist. One that was kept and is no longer is 410 instead of 404. Without a token or a session
nobody gets a picture, also on the server's own machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol

import msgspec
from flask import Blueprint, Response, request

from policies.events import Event, instant, microseconds
from policies.observation import Observation
from policies.site.toml_errors import ready
from server.domain.errors import NoLongerKept, RetryLater, Unauthorized, Unknown
from server.domain.pictures.kept_frames import FrameFate, KeptFrame
from server.domain.records import EventRecord
from server.web.auth import Authenticator, Permissions
from server.web.json_http import json_response, query_parameters

_SHA256 = re.compile(r"[0-9a-f]{64}")
_EVENT = re.compile(r"[0-9a-f]{32}")
MOST = 500
"""Frames of an event in one answer."""

Size = Literal["full", "small"]
_Instant = Annotated[datetime, msgspec.Meta(tz=True)]
Show = Callable[[str, Size], tuple[bytes, str] | None]
"""Gives a picture by its SHA-256 in a size, with its media type; None where it is lost. Raises OSError."""


class Frames(Protocol):
    def fate(self, sha256: str, site: str | None) -> FrameFate: ...
    def fates(self, site: str, camera: str, digests: Sequence[str]) -> dict[str, FrameFate]: ...
    def has(self, sha256: str) -> bool: ...
    def find(
        self, site: str, camera: str, since_us: int | None, until_us: int | None, limit: int, *, newest: bool
    ) -> list[KeptFrame]: ...


class Past(Protocol):
    def events_like(self, prefix: str, limit: int = ...) -> list[EventRecord]: ...


class Store(Protocol):
    @property
    def frames(self) -> Frames: ...
    @property
    def past(self) -> Past: ...
    def observations(
        self, site: str, camera: str, since_us: int | None = ..., until_us: int | None = ...
    ) -> Iterator[Observation]: ...


class PictureQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to show a picture."""

    size: Size = "full"


class FrameQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which kept frames of a camera: since <= t < until, the first ones or the last ones."""

    site: str
    camera: str
    since: _Instant | None = None
    until: _Instant | None = None
    order: Literal["oldest", "newest"] = "oldest"
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


class EventFramesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The part of an event's frames: `after` is the `next` of the page before."""

    after: Annotated[int, msgspec.Meta(ge=0, le=2**62)] = 0


for _kind in (PictureQuery, FrameQuery, EventFramesQuery):
    ready(_kind)


def routes(
    store: Store,
    authenticator: Authenticator,
    show: Show,
    stretches: Callable[[int, int], Sequence[tuple[int, int]]],
) -> Blueprint:
    """The endpoints. `stretches` gives the parts of a visit (first and last instant) whose frames are kept."""
    blueprint = Blueprint("frames", __name__, url_prefix="/v1")

    @blueprint.get("/frames/<sha256>")
    def frame(sha256: str) -> Response:
        permissions = _reader(authenticator)
        query = query_parameters(PictureQuery)
        if not _SHA256.fullmatch(sha256):
            raise _unknown(sha256)
        fates = {store.frames.fate(sha256, site) for site in permissions.sites}
        if "kept" not in fates:
            raise _gone(sha256) if "no_longer_kept" in fates else _unknown(sha256)
        return _picture(store, sha256, query.size, show)

    @blueprint.get("/frames")
    def frames() -> Response:
        permissions = _reader(authenticator)
        query = query_parameters(FrameQuery)
        permissions.to_read(query.site)
        since_us, until_us = (None if at is None else microseconds(at) for at in (query.since, query.until))
        newest = query.order == "newest"
        found = store.frames.find(query.site, query.camera, since_us, until_us, query.limit, newest=newest)
        return json_response({"frames": [_kept(each) for each in found]})

    @blueprint.get("/events/<event_id>/frames")
    def frames_of_event(event_id: str) -> Response:
        permissions = _reader(authenticator)
        query = query_parameters(EventFramesQuery)
        event = _event(store, event_id, permissions)
        return json_response(_of_event(store, event, query.after, stretches))

    return blueprint


def _reader(authenticator: Authenticator) -> Permissions:
    """A caller with a session or a token. Raises Unauthorized without one."""
    permissions = authenticator.authenticate(request)
    if permissions.local:
        raise Unauthorized(
            "pictures are shown in the console and to a reader's token (`sectorwatch tokens add --site SITE` makes one)"
        )
    permissions.to_read_something()
    return permissions


def _unknown(sha256: str) -> Unknown:
    return Unknown(f"no picture {sha256[:64]} was kept of a site that you read")


def _gone(sha256: str) -> NoLongerKept:
    return NoLongerKept(f"the picture {sha256} is no longer kept: its time is over, or it was erased")


def _picture(store: Store, sha256: str, size: Size, show: Show) -> Response:
    """A picture, or 304 for a caller who has it: then nothing of it is read."""
    tag = sha256 if size == "full" else f"{sha256}-{size}"
    is_known = request.if_none_match.contains(tag)
    try:
        shown = None if is_known else show(sha256, size)
        is_lost = not store.frames.has(sha256) if is_known else shown is None
    except OSError as error:
        raise RetryLater(f"the place of the pictures does not answer: {error.strerror or error}") from None
    if is_lost:
        raise _gone(sha256)
    response = Response(status=304) if shown is None else Response(shown[0], content_type=shown[1])
    response.set_etag(tag)
    response.headers["Cache-Control"] = "private, no-cache"  # erased ones are not shown
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


def _kept(frame: KeptFrame) -> dict[str, Any]:
    return {"sha256": frame.sha256, "at": _written(frame.at_us), "bytes": frame.bytes}


def _written(at_us: int) -> str:
    return str(msgspec.to_builtins(instant(at_us)))


def _event(store: Store, event_id: str, permissions: Permissions) -> Event:
    """An event of a site that the caller reads. Raises Unknown, also for one of another site."""
    found = store.past.events_like(event_id, 1) if _EVENT.fullmatch(event_id) else []
    if not found or not permissions.reads(found[0].logged.event.site):
        raise Unknown(f"no event {event_id[:64]}")
    return found[0].logged.event


def _of_event(
    store: Store, event: Event, after: int, stretches: Callable[[int, int], Sequence[tuple[int, int]]]
) -> dict[str, Any]:
    """The frames of an event in order, each with what became of its picture; `next` where there are more."""
    frames: list[dict[str, Any]] = []
    page: list[Observation] = []
    has_more = False
    for first_us, last_us in stretches(microseconds(event.started_at), microseconds(event.confirmed_at)):
        since_us = max(first_us, after + 1)
        for seen in store.observations(event.site, event.camera, since_us, last_us + 1):
            has_more = len(page) >= MOST and seen.at_us > page[-1].at_us  # the frames of one instant stay together
            if has_more:
                break
            page.append(seen)
        if has_more:
            break
    fates = store.frames.fates(event.site, event.camera, [seen.frame_sha256 for seen in page])
    for seen in page:
        frames.append(
            {
                "sha256": seen.frame_sha256,
                "at": _written(seen.at_us),
                "burst_id": seen.burst_id,
                "index": seen.index,
                "picture": {"unknown": "never_kept"}.get(fates[seen.frame_sha256], fates[seen.frame_sha256]),
                "names_event": seen.frame_sha256 in event.provenance.frame_sha256,
            }
        )
    return {"event": event.id, "frames": frames, "next": page[-1].at_us if has_more else None}
