"""What can be asked: `GET /v1/models`, `GET /v1/events`.

Events come in the order in which they were said, a page at a time: `next` (the header `X-Next`, which the form of one
object per line has too) is what to give as `after` to go on, now or, once `events` is empty, later. So a reader that
goes on asking misses nothing: an event that a late burst corrects is said again, and one that it disproves is said
again as `withdrawn`. A cursor that lies ahead of all that was said is refused: whoever waited there, after an older
copy of the database took this one's place, would miss what comes.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Protocol, get_args
from urllib.parse import urlencode

import msgspec
from flask import Blueprint, Response, request

from policies.events import Kind, microseconds
from policies.observation import EnsembleInfo
from server.domain.errors import Conflict, Malformed
from server.web import etag
from server.web.auth import Doorkeeper

JSON = "application/json"
NDJSON = "application/x-ndjson"

_Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class Ensemble(Protocol):
    @property
    def ensemble_info(self) -> EnsembleInfo: ...


class LoggedEvent(Protocol):
    @property
    def seq(self) -> int: ...

    def as_wire(self) -> Mapping[str, Any]: ...


class Store(Protocol):
    def last_seq(self) -> int: ...

    def events(
        self,
        *,
        since_us: int | None,
        until_us: int | None,
        site: str | None,
        camera: str | None,
        kind: str | None,
        after_seq: int | None,
        limit: int | None,
    ) -> Iterable[LoggedEvent]: ...


class EventQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The filters of `GET /v1/events`. `since` and `until` bound when it was confirmed: since <= t < until."""

    since: _Instant | None = None
    until: _Instant | None = None
    site: str | None = None
    camera: str | None = None
    kind: Kind | None = None
    after: Annotated[int, msgspec.Meta(ge=0, le=2**62)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


def routes(
    ensemble: Callable[[], Ensemble],
    cards: Callable[[str], Mapping[str, object]],
    store: Store,
    doorkeeper: Doorkeeper,
) -> Blueprint:
    """The endpoints. `ensemble` gives the loaded ensemble or raises RetryLater; `cards` a model's card by name."""
    blueprint = Blueprint("api", __name__)

    @blueprint.get("/v1/models")
    def models() -> Response:
        doorkeeper.admit(request).to_read()
        ensemble_info = ensemble().ensemble_info
        listed = [
            {
                "name": model_info.model,
                "kind": "detector" if model_info.boxes else "classifier",
                "votes": model_info.votes,
                "classes": sorted(model_info.classes),
                **cards(model_info.model),
            }
            for model_info in ensemble_info.models
        ]
        return etag.tagged(_json({"ensemble": ensemble_info.ensemble, "models": listed}), ensemble_info.ensemble)

    @blueprint.get("/v1/events")
    def events() -> Response:
        grant = doorkeeper.admit(request)
        query = _query(request.args.to_dict(flat=False))
        site = grant.to_read(query.site)
        newest = store.last_seq()
        if query.after > newest:
            raise Conflict(
                f"`after` is {query.after}, but nothing after {newest} was ever said: that cursor is of another "
                "database, or of this one before it was restored; begin anew without `after`"
            )
        page = list(
            store.events(
                since_us=_microseconds(query.since),
                until_us=_microseconds(query.until),
                site=site,
                camera=query.camera,
                kind=query.kind,
                after_seq=query.after,
                limit=query.limit + 1,
            )
        )
        if len(page) > query.limit:
            page = page[: query.limit]
            return _page(page, page[-1].seq, more=True)
        # What was said up to then of other places is not read again by whoever goes on asking about this one.
        return _page(page, max(query.after, newest, *(logged.seq for logged in page)), more=False)

    return blueprint


def _query(args: Mapping[str, list[str]]) -> EventQuery:
    known = EventQuery.__struct_fields__
    for name, values in args.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise Malformed(
                f"unknown parameter `{name}`"
                + (f"; did you mean `{near[0]}`?" if near else f"; known here: {', '.join(known)}")
            )
        if len(values) > 1:
            raise Malformed(f"parameter `{name}` is given {len(values)} times")
    plain = {name: _counted(name, value) for name, (value,) in args.items() if value}
    try:
        return msgspec.convert(plain, EventQuery)
    except msgspec.ValidationError as error:
        raise Malformed(
            f"{error}; instants are like 2026-11-22T07:00:00Z, kinds are {', '.join(get_args(Kind))}"
        ) from None


def _counted(name: str, value: str) -> str | int:
    """Only what counts may be a number: `since=2026` would be an instant of 1970."""
    return int(value) if name in {"after", "limit"} and value.isascii() and value.isdigit() else value


def _page(page: list[LoggedEvent], after: int, *, more: bool) -> Response:
    """A page as one JSON object, or as one JSON object per line where the client prefers that."""
    wire = [logged.as_wire() for logged in page]
    if request.accept_mimetypes.best_match([JSON, NDJSON]) == NDJSON:
        response = Response(msgspec.json.Encoder().encode_lines(wire), content_type=NDJSON)
    else:
        response = _json({"events": wire, "next": after})
    response.headers["X-Next"] = str(after)
    if more:
        following = request.args.to_dict() | {"after": str(after)}
        response.headers["Link"] = f'<{request.path}?{urlencode(following)}>; rel="next"'
    return response


def _microseconds(at: datetime | None) -> int | None:
    return None if at is None else microseconds(at)


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), content_type=JSON)
