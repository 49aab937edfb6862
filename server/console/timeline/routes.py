"""`/day/2026-11-28`: what happened on a day of a site, as bars of its sectors and one row for each visit."""

from __future__ import annotations

from datetime import date, timedelta

import msgspec
from flask import request

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
    (("day", "The day in the site's zone: `2026-11-28`, `today` or `yesterday`."),),
)
_DAYS_BACK = {"today": 0, "yesterday": 1}


def add(pages: Pages, context: Context) -> None:
    """Register the pages."""

    @pages.page("/", twin=None, template="day.html")
    def newest_day(viewer: Viewer, query: msgspec.Struct) -> Day | To:
        sites = _sites(context, viewer)
        if not sites:
            return _no_site(context)
        newest = context.store.newest(viewer.sites, context.clock())
        site = sites[0] if newest is None else newest.event.site
        return To(DayQuery(site=site).address(_called("today", site, context).isoformat()))

    @pages.page("/day/today", twin=None, template="day.html", query=DayQuery)
    def today(viewer: Viewer, query: DayQuery) -> Day | To:
        return dated("today", viewer, query)

    @pages.page("/day/yesterday", twin=None, template="day.html", query=DayQuery)
    def yesterday(viewer: Viewer, query: DayQuery) -> Day | To:
        return dated("yesterday", viewer, query)

    def dated(name: str, viewer: Viewer, query: DayQuery) -> Day | To:
        """A page has the address of its day, which can be sent to somebody."""
        if (site := asked(viewer, query)) is None:
            return _no_site(context)
        return To(query.address(_called(name, site, context).isoformat(), site=site))

    def asked(viewer: Viewer, query: DayQuery) -> str | None:
        """The site that the query means; None: there is none."""
        return viewer.to_read(query.site) if query.site else next(iter(_sites(context, viewer)), None)

    @pages.page("/day/<day>", twin=TWIN, template="day.html", query=DayQuery, is_live=True)
    def day(viewer: Viewer, query: DayQuery, day: str) -> Day:
        if (site := asked(viewer, query)) is None:
            return _no_site(context)
        chosen = _called(day, site, context) if day in _DAYS_BACK else _day(day)
        query = msgspec.structs.replace(query, site=site)
        is_told = request.blueprint == Pages.TWINS
        local, sites = context.local_time(site), _sites(context, viewer)
        return Builder(context, query, local, chosen, sites, has_spans=is_told).build()


def _called(name: str, site: str, context: Context) -> date:
    """The day that is today or yesterday at a site."""
    return context.local_time(site).at(context.clock()).date() - timedelta(days=_DAYS_BACK[name])


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
    known = {site for site, _ in context.store.names()} | set(context.sites.sites())
    return sorted(site for site in known if viewer.reads(site))


def _no_site(context: Context) -> Day:
    now = instant(context.clock())
    return Day(
        "",
        "",
        "No site yet",
        "",
        now,
        now,
        "",
        None,
        True,
        False,
        0,
        0,
        Choices(),
        (),
        (),
        0,
        (),
        (),
        "",
        (),
        None,
        (),
        1,
        0,
        None,
    )
