"""`/live`: which pages have something new to show."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Annotated

import msgspec

from server.console.access import Viewer
from server.console.context import Context
from server.console.pages import Pages
from server.domain.records import LoggedEvent
from server.domain.times.local_time import LocalTime
from server.web.openapi import Twin

MOST = 50
"""Announcements in one answer. A page that missed more shows them all once it is loaded again."""

RETRY_MS = 3000
"""After so long a browser asks again."""


class News(msgspec.Struct, frozen=True):
    """An event was announced: new, corrected or withdrawn. It lasted from `day` to `until_day`, in its site's zone."""

    seq: int
    id: str
    site: str
    camera: str
    kind: str
    day: str
    until_day: str


class Feed(msgspec.Struct, frozen=True):
    """What is new. `last` is the number of the newest announcement: the next question has it as `after`."""

    last: int
    events: tuple[News, ...]

    def as_stream(self) -> bytes:
        """As server-sent events. The last one has no data, so that it only moves the number."""
        parts = [
            f"event: event\nid: {each.seq}\ndata: {msgspec.json.encode(each).decode()}\n\n" for each in self.events
        ]
        return "".join([f"retry: {RETRY_MS}\n\n", *parts, f"id: {self.last}\n\n"]).encode()


class LiveQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """News of one site, or of all; those after a number, or (absent) none yet, only the number to go on from."""

    site: str | None = None
    after: Annotated[int, msgspec.Meta(ge=0, le=2**62)] | None = None


TWIN = Twin("/v1/live", "showLive", "Show what is new since a number.", LiveQuery, Feed)


def add(pages: Pages, context: Context) -> None:
    """Register the feed."""

    @pages.feed("/live", twin=TWIN, query=LiveQuery)
    def live(viewer: Viewer, query: LiveQuery) -> Feed:
        sites = viewer.sites if query.site is None else frozenset({viewer.to_read(query.site)})
        if query.after is None:
            return Feed(context.store.last_seq(viewer.sites), ())
        # Whoever reads some sites must not learn from a number that something happened at another.
        newest = context.store.last_seq()
        last = newest if viewer.sites is None else query.after
        if query.after >= newest:  # a backup was restored: a number may lie ahead
            return Feed(last, ())
        local_time = cache(context.local_time)
        news = tuple(_news(each, local_time) for each in context.store.announced(sites, query.after, MOST))
        return Feed(max((last, *(each.seq for each in news))), news)


def _news(logged: LoggedEvent, local_time: Callable[[str], LocalTime]) -> News:
    event = logged.event
    zone = local_time(event.site).zone
    begin, end = (at.astimezone(zone).date().isoformat() for at in (event.started_at, event.at))
    return News(logged.seq, event.id, event.site, event.camera, event.kind, begin, end)
