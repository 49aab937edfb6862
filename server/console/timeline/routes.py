"""`/day/2026-11-28`: what happened on a day of a site, as bars of its sectors and one row for each visit."""

from __future__ import annotations

from datetime import date, timedelta

import msgspec

from policies.events import instant
from server.console.access import Viewer
from server.console.context import Context
from server.console.pages import Pages, To
from server.console.timeline.build import Builder
from server.console.timeline.page import Choices, Day, DayQuery
from server.domain.errors import Malformed
from server.web.openapi import Twin

TWIN = Twin(
    "/v1/day/<day>",
    "showDay",
    "Show a day of a site.",
    DayQuery,
    Day,
    (("day", "The day in the site's zone, `2026-11-28`."),),
)


def add(pages: Pages, context: Context) -> None:
    """Register the pages."""

    @pages.page("/", twin=None, template="day.html")
    def newest_day(viewer: Viewer, query: msgspec.Struct) -> Day | To:
        sites = _sites(context, viewer)
        if not sites:
            return _no_site(context)
        newest = context.store.newest(viewer.sites, context.clock())
        if newest is None:
            return To(DayQuery(site=sites[0]).address("today"))
        site, at = newest.event.site, newest.event.started_at
        day = at.astimezone(context.local_time(site).zone).date()
        return To(DayQuery(site=site).address(day.isoformat()))

    @pages.page("/day/<day>", twin=TWIN, template="day.html", query=DayQuery)
    def day(viewer: Viewer, query: DayQuery, day: str) -> Day | To:
        sites = _sites(context, viewer)
        if query.site:
            viewer.to_read(query.site)
        elif not sites:
            return _no_site(context)
        query = msgspec.structs.replace(query, site=query.site or sites[0])
        local = context.local_time(query.site)
        today = local.at(context.clock()).date()
        if day in ("today", "yesterday"):
            return To(query.address((today - timedelta(days=day == "yesterday")).isoformat()))
        return Builder(context, query, local, _day(day), sites).build()


def _day(text: str) -> date:
    try:
        chosen = date.fromisoformat(text)
    except ValueError:
        raise Malformed(f"`{text[:32]}` is no day: write it as 2026-11-28") from None
    if not date(1970, 1, 2) <= chosen <= date(9999, 12, 30):
        raise Malformed(f"`{text}` is no day that cameras can have seen")
    return chosen


def _sites(context: Context, viewer: Viewer) -> list[str]:
    """The sites that the viewer reads, of those with a policy or with a past."""
    known = {head.site for head in context.store.cameras()} | set(context.sites.sites())
    return sorted(site for site in known if viewer.reads(site))


def _no_site(context: Context) -> Day:
    now = instant(context.clock())
    return Day("", "", "No site yet", "", now, now, "", None, True, 0, 0, Choices(), (), (), 0, (), (), (), None, (), 1)
