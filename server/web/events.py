"""`GET /v1/events`: the event log, a page at a time, or as a file.

`Accept` chooses the form: JSON, JSON lines, CSV or Parquet. JSON comes in pages; the others hold all that is asked for
unless there is a `limit`. Events come in the order in which they were logged. `next` (also the header `X-Next`, since
the other forms have no other place) is the `after` of the next request. A reader that goes on asking misses nothing: an
event that a late burst corrects is listed again, and one that it disproves is listed again as `withdrawn`. A cursor
ahead of the log is refused, because the database was replaced by an older copy, and a reader that waited there would
miss events.

Where events of the stretch that is asked for are no longer kept, the answer says so: `not_kept` in the words that
`sectorwatch events` uses, and `kept_since` (also the header `X-Kept-Since`), from which on all events are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Protocol, get_args
from urllib.parse import urlencode

import msgspec
from flask import Blueprint, Response, request

from policies.events import Kind, instant, microseconds
from policies.site.toml_errors import ready
from server.analysis.exports import Form
from server.delivery.gone_text import gone_lines
from server.domain.errors import Conflict
from server.domain.keeping import Gone
from server.domain.records import LoggedEvent
from server.web.auth import Authenticator
from server.web.event_files import EventFiles, chosen_form, page_of
from server.web.json_http import json_response, query_parameters

_USUAL = 100
_Instant = Annotated[datetime, msgspec.Meta(tz=True)]
_HINT = f"; instants are like 2026-11-22T07:00:00Z, kinds are {', '.join(get_args(Kind))}"


class Retention(Protocol):
    def all_gone(self, site: str | None = None, camera: str | None = None) -> Sequence[Gone]: ...


class Store(Protocol):
    @property
    def retention(self) -> Retention: ...

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
    ) -> Sequence[LoggedEvent]: ...


class EventQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The filters of `GET /v1/events`. `since` and `until` bound the confirmation: since <= t < until."""

    since: _Instant | None = None
    until: _Instant | None = None
    site: str | None = None
    camera: str | None = None
    kind: Kind | None = None
    after: Annotated[int, msgspec.Meta(ge=0, le=2**62)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None


ready(EventQuery)


def routes(store: Store, authenticator: Authenticator) -> Blueprint:
    """The endpoint, for readers, each of its own site."""
    blueprint = Blueprint("events", __name__, url_prefix="/v1")
    files = EventFiles()

    @blueprint.get("/events")
    def events() -> Response:
        permissions = authenticator.authenticate(request)
        query = query_parameters(EventQuery, _HINT)
        site = permissions.to_read(query.site)
        last_seq = store.last_seq()
        if query.after > last_seq:
            raise Conflict(
                f"`after` is {query.after}, but the log ends at {last_seq}: that cursor belongs to another database, "
                "or to this one before it was restored; start again without `after`"
            )
        form = chosen_form()
        gone = _gone(store.retention.all_gone(site, query.camera), query)
        read = partial(_read, store, query, site)
        if form is not None and query.limit is None:
            answer = files.all(permissions.client, form, query.after, last_seq, read, gone.get("not_kept", ()))
            return _with_headers(answer, last_seq, gone, has_more=False)
        limit = query.limit or _USUAL
        page = read(limit + 1, query.after)  # the last one shows only that there are more
        if len(page) > limit:
            page = page[:limit]
            return _page(form, page, page[-1].seq, gone, has_more=True)
        # `next` passes events that the filters leave out, so that nobody reads over them again.
        return _page(form, page, max(query.after, last_seq, *(logged.seq for logged in page)), gone, has_more=False)

    return blueprint


def _read(store: Store, query: EventQuery, site: str | None, limit: int, after: int) -> Sequence[LoggedEvent]:
    return store.events(
        since_us=None if query.since is None else microseconds(query.since),
        until_us=None if query.until is None else microseconds(query.until),
        site=site,
        camera=query.camera,
        kind=query.kind,
        after_seq=after,
        limit=limit,
    )


def _gone(cameras: Sequence[Gone], query: EventQuery) -> dict[str, Any]:
    """The fields of a page that say which events are no longer kept; empty where all are."""
    since_us, until_us = (None if at is None else microseconds(at) for at in (query.since, query.until))
    concerned = [gone.within(since_us, until_us) for gone in cameras]
    lines = [line for gone in concerned for line in gone_lines(gone, _written, events_only=True)]
    borders_us = [gone.events_from_us for gone in concerned if gone.events_from_us is not None]
    borders_us += [erasure.until_us for gone in concerned for erasure in gone.erasures]
    return {"kept_since": _written(max(borders_us)), "not_kept": lines} if lines else {}


def _written(at_us: int) -> str:
    return str(msgspec.to_builtins(instant(at_us)))


def _page(
    form: Form | None, page: Sequence[LoggedEvent], after: int, gone: dict[str, Any], *, has_more: bool
) -> Response:
    """A page in a form; None: as one JSON object."""
    if form is None:
        wire = [logged.as_wire() for logged in page]
        return _with_headers(json_response({"events": wire, "next": after} | gone), after, gone, has_more=has_more)
    return _with_headers(page_of(form, page, gone.get("not_kept", ())), after, gone, has_more=has_more)


def _with_headers(response: Response, after: int, gone: dict[str, Any], *, has_more: bool) -> Response:
    response.vary.add("Accept")
    response.headers["X-Next"] = str(after)
    if gone:
        response.headers["X-Kept-Since"] = gone["kept_since"]
    if has_more:
        following = request.args.to_dict() | {"after": str(after)}
        response.headers["Link"] = f'<{request.path}?{urlencode(following)}>; rel="next"'
    return response
