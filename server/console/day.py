"""`/day/2026-11-28`: what happened on a day of a site, as bars of its sectors and one row for each visit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from functools import partial
from typing import Any, get_args
from urllib.parse import urlencode

import msgspec

from policies.events import Kind, instant
from server.analysis.day import CameraDay, site_day
from server.analysis.gaps import follows
from server.console.access import Viewer
from server.console.context import Context
from server.console.day_parts import (
    CELL_US,
    LaneShown,
    Outage,
    VisitShown,
    bounds,
    clipped,
    lane_shown,
    night_words,
    outages,
    quiet_words,
    visit_shown,
)
from server.console.pages import Pages, To
from server.console.words import plain
from server.delivery.event_text import EventText, Places
from server.delivery.visits import Stretch, Visit, some_visits
from server.domain.clock import SECOND_US
from server.domain.errors import Malformed
from server.domain.keeping import Gone
from server.domain.local_time import LocalTime
from server.domain.records import CameraHead, Checkpoint, LoggedEvent
from server.store import Store
from server.web.cameras import CameraReport
from server.web.openapi import Twin

ROWS = 50
"""Visits on one page."""

_OUTAGES = 8
_EVENING_US = 2 * 3600 * SECOND_US
_LATER_US = 3600 * SECOND_US
"""For so long after a day, ends of its visits are looked for."""


class DayQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of a day is shown; empty: all. `from`: rows from this time of the day on, `18:00`. `site`: by default one
    of those that you may read.
    """

    site: str = ""
    camera: str = ""
    sector: str = ""
    kind: str = ""
    target: str = ""
    begins: str = msgspec.field(name="from", default="")

    def address(self, day: str, **changes: str) -> str:
        """The address of a day with these filters and some others."""
        given = {"site": self.site, "camera": self.camera, "sector": self.sector, "kind": self.kind}
        given |= {"target": self.target, "from": self.begins} | changes
        return f"/day/{day}?{urlencode({name: value for name, value in given.items() if value})}"


class Choices(msgspec.Struct, frozen=True):
    """What can be asked for."""

    sites: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    sectors: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    kinds: tuple[str, ...] = get_args(Kind)


class Day(msgspec.Struct, frozen=True):
    """A day of a site, from `since` to before `until` in its zone.

    `lanes` are its sectors, `outages` the longest stretches in which cameras were not watched, and `other_outages`
    counts the shorter ones. `quiet` says of the night and of the day that nothing was, where nothing was. `visits` are
    those that the query asks for; `more_from` is the time from which the next page shows more. `gone` says what is no
    longer kept.
    """

    site: str
    day: str
    title: str
    zone: str
    since: datetime
    until: datetime
    previous: str
    following: str | None
    is_today: bool
    well: int
    not_well: int
    choices: Choices
    lanes: tuple[LaneShown, ...]
    outages: tuple[Outage, ...]
    other_outages: int
    quiet: tuple[str, ...]
    gone: tuple[str, ...]
    visits: tuple[VisitShown, ...]
    more_from: str | None
    hours: tuple[tuple[str, int], ...]
    cells: int

    @property
    def by_camera(self) -> list[tuple[str, list[LaneShown]]]:
        """The lanes of each camera."""
        found: dict[str, list[LaneShown]] = {}
        for lane in self.lanes:
            found.setdefault(lane.camera, []).append(lane)
        return list(found.items())


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
        return _Builder(context, query, local, _day(day), sites).build()


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


class _Light:
    """The store, which reads events without their bursts and frames."""

    def __init__(self, store: Store) -> None:
        self.past = store.past
        self._store = store
        self.events = store.events

    def begun(self, *asked: Any, **options: Any) -> list[LoggedEvent]:
        return self._store.begun(*asked, bare=True, **options)

    def cameras(self) -> list[CameraHead]:
        return self._store.cameras()

    def checkpoint(self, site: str, camera: str, before_us: int) -> Checkpoint:
        return self._store.checkpoint(site, camera, before_us)


class _Builder:
    """Puts one page together."""

    def __init__(self, context: Context, query: DayQuery, local: LocalTime, day: date, sites: Sequence[str]) -> None:
        self._store = context.store
        self._query = query
        self._local = local
        self._day = day
        self._sites = sites
        self._now_us = context.clock()
        self._since_us, self._until_us = bounds(local, day)
        self._reports = {each.camera: each for each in context.reports(query.site)}

    def build(self) -> Day:
        query, local = self._query, self._local
        begin_us = self._since_us - _EVENING_US
        days = site_day(self._store, query.site, begin_us, self._until_us, self._now_us)
        shown = [each for each in days if query.camera in ("", each.camera)]
        every = [lane for each in shown for lane in each.lanes]
        lanes = [lane for lane in every if query.sector in ("", lane.sector) and query.target in ("", lane.target)]
        visits, more_from = self._visits()
        longest, others = outages(shown, self._cause, self._since_us, self._until_us, _OUTAGES, local)
        gone = [each for each in self._store.retention.all_gone(query.site) if query.camera in ("", each.camera)]
        after = self._day + timedelta(days=1)
        is_today = self._since_us <= self._now_us < self._until_us
        well = sum(report.condition.state == "ok" for report in self._reports.values())
        quiet = (
            night_words(lanes, local, self._day, self._now_us),
            quiet_words(
                [clipped(lane, self._since_us, self._until_us) for lane in lanes],
                self._since_us,
                self._until_us,
                local,
                self._now_us,
            ),
        )
        counts = self._counts()
        return Day(
            site=query.site,
            day=self._day.isoformat(),
            title=f"{self._day:%a} {self._day.day} {self._day:%b %Y}",
            zone=local.name,
            since=instant(self._since_us),
            until=instant(self._until_us),
            previous=(self._day - timedelta(days=1)).isoformat(),
            following=after.isoformat() if self._until_us <= self._now_us else None,
            is_today=is_today,
            well=well,
            not_well=len(self._reports) - well,
            choices=self._choices(days),
            lanes=tuple(
                lane_shown(
                    clipped(lane, self._since_us, self._until_us),
                    counts.get((lane.camera, lane.sector, lane.target), 0),
                    self._since_us,
                    local,
                )
                for lane in lanes
            ),
            outages=tuple(longest),
            other_outages=others,
            quiet=tuple(words for words in quiet if words),
            gone=tuple(line for each in gone for line in self._gone_words(each)),
            visits=visits,
            more_from=more_from,
            hours=tuple(self._hours()),
            cells=-(-(self._until_us - self._since_us) // CELL_US),
        )

    def _counts(self) -> dict[tuple[str, str, str], int]:
        """The visits that began on the day, by camera, sector and target."""
        tallies = self._store.tally(self._query.site, self._since_us, self._until_us)
        return {(each.camera, each.place, each.target): each.events for each in tallies if each.kind == "entered"}

    def _choices(self, days: Sequence[CameraDay]) -> Choices:
        lanes = [lane for each in days for lane in each.lanes if self._query.camera in ("", each.camera)]
        return Choices(
            tuple(self._sites),
            tuple(each.camera for each in days),
            tuple(sorted({lane.sector for lane in lanes})),
            tuple(sorted({lane.target for lane in lanes})),
        )

    def _visits(self) -> tuple[tuple[VisitShown, ...], str | None]:
        """The rows of this page, and the time at which the next page begins."""
        query = self._query
        from_us = max(self._since_us, self._begin_us())
        stretch = Stretch(from_us, self._until_us, query.site, query.camera or None)
        found = some_visits(
            _Light(self._store),
            stretch,
            self._is_wanted,
            ROWS + 1,
            later_us=self._until_us + _LATER_US,
            going_on=from_us == self._since_us,
        )
        more_from = self._local.clock(found[ROWS].start_us) if len(found) > ROWS else None
        rows = found[:ROWS]
        places: Places = "sector" if query.camera or len(self._reports) < 2 else "camera"
        whole = self._store.whole({visit.begin.id for visit in rows} | {visit.first.id for visit in rows})
        kept: dict[str, str] = {}
        for camera in {visit.begin.camera for visit in rows}:
            mine = [each.event for each in whole.values() if each.event.camera == camera]
            hashes = sorted({sha256 for event in mine for sha256 in event.provenance.frame_sha256})
            kept |= self._store.frames.fates(query.site, camera, hashes)
        text = EventText(self._local, places)
        return tuple(visit_shown(visit, text, whole, kept) for visit in rows), more_from

    def _begin_us(self) -> int:
        """The instant of the query's `from`. Raises Malformed."""
        if not self._query.begins:
            return self._since_us
        try:
            clock = time.fromisoformat(self._query.begins).replace(tzinfo=None)
        except ValueError:
            raise Malformed(f"`from` is `{self._query.begins[:16]}`: write a time as 18:00") from None
        return self._local.us(datetime.combine(self._day, clock))

    def _is_wanted(self, visit: Visit) -> bool:
        query, event = self._query, visit.begin
        places = {event.sector, event.from_sector, event.to_sector}
        return (
            (not query.sector or query.sector in places)
            and query.target in ("", event.label)
            and (not query.kind or visit.of(query.kind) is not None)
        )

    def _cause(self, camera: str, from_us: int, until_us: int, is_silent: bool, is_over: bool) -> str:
        """Why a camera was not watched."""
        report: CameraReport | None = self._reports.get(camera)
        if not is_silent:
            return "frames came that repeat others, or that no model answered for"
        if not is_over and report is not None and report.condition.cause:
            return plain(report.condition.cause)
        around = partial(self._neighbour, camera)
        causes = tuple(follows(around(self._store.past.before, from_us + 1), around(self._store.past.after, until_us)))
        return causes[0] if causes else "no frame came"

    def _neighbour(self, camera: str, read: Callable[..., Any], at_us: int) -> Any:
        return next(iter(read(self._query.site, camera, at_us, 1)), None)

    def _gone_words(self, gone: Gone) -> list[str]:
        """What of the day is no longer kept."""
        if gone.within(self._since_us, self._until_us).is_nothing:
            return []
        until_us = min(self._until_us, max((each.until_us for each in gone.bursts), default=self._until_us))
        return [f"{gone.camera}: frames and events until {self._local.minute(until_us)} are in part no longer kept"]

    def _hours(self) -> list[tuple[str, int]]:
        """The names of every second hour of the day, and the cell at which each begins."""
        found = []
        for hour in range(0, 24, 2):
            at_us = self._local.us(datetime.combine(self._day, time(hour)))
            found.append((f"{hour:02}", (at_us - self._since_us) // CELL_US))
        return found
