"""A day's page, put together from the store. Nothing is folded, and what it reads is bounded."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime, time, timedelta

from policies.events import instant, microseconds
from server.analysis.day import CameraDay, site_day
from server.analysis.gaps import follows
from server.camera_status.reports import CameraReport
from server.console.context import Context
from server.console.timeline.page import Choices, Day, DayQuery
from server.console.timeline.parts import (
    CELL_US,
    Unwatched,
    VisitShown,
    bounds,
    lane_shown,
    night_words,
    outages,
    quiet_words,
    visit_shown,
)
from server.console.words import spelled
from server.delivery.event_text import EventText, Places
from server.delivery.visit_log import Stretch
from server.delivery.visits import Visit, some_visits
from server.domain.errors import Malformed
from server.domain.keeping import Gone
from server.domain.times.clock import SECOND_US
from server.domain.times.local_time import LocalTime
from server.domain.watching import CameraStretch, Neighbours

ROWS = 50
"""Visits on one page."""

_OUTAGES = 8
_EVENING_US = 2 * 3600 * SECOND_US
_NOON = 12
_LATER_US = 3600 * SECOND_US
"""For so long after a day, ends of its visits are looked for."""


class Builder:
    """Puts one page together. `has_spans`: with the exact spans of its bars."""

    def __init__(
        self,
        context: Context,
        query: DayQuery,
        local: LocalTime,
        day: date,
        sites: Sequence[str],
        *,
        has_spans: bool,
    ) -> None:
        self._has_spans = has_spans
        self._store = context.store
        self._wants_next = context.wants_next
        self._last = context.store.last_seq((query.site,))
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
        days = site_day(self._store, query.site, begin_us, self._until_us, self._now_us, query.camera or None)
        shown = [each for each in days if query.camera in ("", each.camera)]
        every = [lane for each in shown for lane in each.lanes]
        lanes = [lane for lane in every if query.sector in ("", lane.sector) and query.target in ("", lane.target)]
        inside = [lane.within(self._since_us, self._until_us) for lane in lanes]
        visits, more_from = self._visits()
        longest, others = outages(shown, self._causes, self._since_us, self._until_us, _OUTAGES, local)
        gone = [each for each in self._store.retention.all_gone(query.site) if query.camera in ("", each.camera)]
        after = self._day + timedelta(days=1)
        is_today = self._since_us <= self._now_us < self._until_us
        before_us, _ = bounds(local, self._day - timedelta(days=1))
        self._wants_next(query.site, before_us - _EVENING_US, self._since_us)
        well = sum(report.condition.is_well for report in self._reports.values())
        quiet = (
            night_words(lanes, local, self._day, self._now_us),
            quiet_words(
                inside,
                self._since_us,
                self._until_us,
                local,
                self._now_us,
            ),
        )
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
            is_morning=is_today and local.at(self._now_us).hour < _NOON,
            well=well,
            not_well=len(self._reports) - well,
            choices=self._choices(days),
            lanes=tuple(lane_shown(lane, self._since_us, has_spans=self._has_spans) for lane in inside),
            outages=tuple(longest),
            other_outages=others,
            quiet=tuple(words for words in quiet if words),
            gone=tuple(line for each in gone for line in self._gone_words(each)),
            begins=self._local.clock(self._begin_us()) if query.begins else "",
            visits=visits,
            more_from=more_from,
            hours=tuple(self._hours()),
            cells=-(-(self._until_us - self._since_us) // CELL_US),
            last=self._last,
            newest=None if visits else self._newest(),
        )

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
            self._store,
            stretch,
            self._is_wanted,
            ROWS + 1,
            later_us=self._until_us + _LATER_US,
            going_on=from_us == self._since_us,
        )
        more_from = self._local.written(found[ROWS].start_us) if len(found) > ROWS else None
        rows = found[:ROWS]
        places: Places = "sector" if query.camera or len(self._reports) < 2 else "camera"
        whole = self._store.whole({visit.begin.id for visit in rows} | {visit.first.id for visit in rows})
        wanted: dict[str, set[str]] = {}
        for each in whole.values():
            wanted.setdefault(each.event.camera, set()).update(each.event.provenance.frame_sha256)
        kept = self._store.frames.kept_of(query.site, wanted)
        text = EventText(self._local, places)
        return tuple(visit_shown(visit, text, whole, kept) for visit in rows), more_from

    def _begin_us(self) -> int:
        """The instant of the query's `from`. Raises Malformed."""
        begins = self._query.begins
        if not begins:
            return self._since_us
        with suppress(ValueError):
            if "T" not in begins:
                return self._local.us(datetime.combine(self._day, time.fromisoformat(begins).replace(tzinfo=None)))
            if (at := datetime.fromisoformat(begins)).tzinfo is not None:
                return min(self._until_us, max(self._since_us, microseconds(at)))
        raise Malformed(f"`from` is `{begins[:32]}`: write a time as 18:00, or an instant as 2026-11-28T18:00:00+01:00")

    def _newest(self) -> str | None:
        """The newest day before this one on which an event began."""
        found = self._store.begun(None, self._since_us, self._query.site, limit=1, backwards=True, bare=True)
        return next((self._local.at(microseconds(each.event.started_at)).date().isoformat() for each in found), None)

    def _is_wanted(self, visit: Visit) -> bool:
        query, event = self._query, visit.begin
        places = {event.sector, event.from_sector, event.to_sector}
        return (
            (not query.sector or query.sector in places)
            and query.target in ("", event.label)
            and (not query.kind or visit.of(query.kind) is not None)
        )

    def _causes(self, outages: Sequence[Unwatched]) -> list[str]:
        """Why cameras were not watched."""
        asked = [CameraStretch(each.camera, each.gap.from_us, each.gap.until_us) for each in outages]
        around = self._store.past.around(self._query.site, asked)
        return [self._cause(*each) for each in zip(outages, around, strict=True)]

    def _cause(self, outage: Unwatched, around: Neighbours) -> str:
        report: CameraReport | None = self._reports.get(outage.camera)
        if not outage.gap.is_silent:
            return "frames came that repeat others, or that no model answered for"
        if not outage.gap.is_over and report is not None and report.condition.cause:
            return spelled(report.condition.cause)
        return next(follows(*around), "no frame came")

    def _gone_words(self, gone: Gone) -> list[str]:
        """What of the day is no longer kept."""
        if gone.within(self._since_us, self._until_us).is_nothing:
            return []
        until_us = min(self._until_us, max((each.until_us for each in gone.bursts), default=self._until_us))
        return [f"{gone.camera}: frames and events until {self._local.minute(until_us)} are in part no longer kept"]

    def _hours(self) -> list[tuple[str, int]]:
        """The names of every second hour of the day, and the cell at which each begins. Clocks may skip one."""
        found = []
        for hour in range(0, 24, 2):
            at_us = self._local.us(datetime.combine(self._day, time(hour)))
            found.append((f"{self._local.at(at_us):%H}", (at_us - self._since_us) // CELL_US))
        return found
