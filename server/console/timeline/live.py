"""`/live`: which pages have something new to show."""

from __future__ import annotations

from functools import cache
from typing import Annotated

import msgspec

from server.console.access import Viewer
from server.console.context import Context
from server.console.pages import Feed, News, Pages
from server.web.openapi import Twin

MOST = 50
"""Announcements in one answer. A page that missed more shows them all once it is loaded again."""


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
        last = context.store.last_seq()
        if query.after is None or query.after >= last:  # after a backup was restored, a number may lie ahead
            return Feed(last, ())
        zone_of = cache(context.local_time)
        return Feed(
            last,
            tuple(
                News(
                    each.seq,
                    each.event.id,
                    each.event.site,
                    each.event.camera,
                    each.event.kind,
                    each.event.started_at.astimezone(zone_of(each.event.site).zone).date().isoformat(),
                )
                for each in context.store.announced(sites, query.after, MOST)
            ),
        )
