"""The parts of a day's page: bars of sectors, rows of visits, and what was not watched, in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Literal, NamedTuple

import msgspec

from policies.events import instant
from server.analysis.day import CameraDay, DaySpan, Lane, SpanState
from server.console.words import counted
from server.delivery.event_text import EventText, duration
from server.delivery.visits import Visit
from server.domain.records import LoggedEvent
from server.domain.times.clock import SECOND_US
from server.domain.times.local_time import LocalTime
from server.domain.watching import Unseen

CELL_US = 90 * SECOND_US
"""What a bar shows at least: 960 cells make a day. Spans of a page are exact; its bars are not."""

_STRENGTH: tuple[SpanState, ...] = ("clear", "not_kept", "unobserved", "occupied")
"""What a cell shows is the strongest state in it: a short visit is seen, and what is not watched never looks clear."""

_RUN = re.compile(rb"(.)\1*", re.DOTALL)
_HEIGHTS: dict[str, tuple[int, int]] = {
    "clear": (13, 1),
    "not_kept": (4, 12),
    "unobserved": (4, 12),
    "occupied": (2, 16),
}
"""Of a bar that is 20 high: where a state begins, and how high it is."""

NIGHT = (22, 6)
"""The hours between which a page speaks of a night."""


class SpanShown(msgspec.Struct, frozen=True):
    """A stretch of a sector in one state, from `since` to before `until`."""

    state: Literal["occupied", "clear", "unobserved", "not_kept"]
    since: datetime
    until: datetime


class Bar(msgspec.Struct, frozen=True):
    """What a bar shows in one state: an SVG path on cells of 90 s."""

    state: Literal["occupied", "clear", "unobserved", "not_kept"]
    path: str


class LaneShown(msgspec.Struct, frozen=True):
    """A sector and a target on a day. `visits` began on it; the times are in all (s). A page has no `spans`."""

    camera: str
    sector: str
    target: str
    visits: int
    occupied_s: float
    unobserved_s: float
    not_kept_s: float
    spans: tuple[SpanShown, ...]
    bars: tuple[Bar, ...]

    @property
    def totals(self) -> str:
        """`12 visits, 41 min`, and what was not watched."""
        parts = [counted(self.visits, "visit")]
        if self.occupied_s:
            parts.append(duration(self.occupied_s))
        if self.unobserved_s:
            parts.append(f"not watched {duration(self.unobserved_s)}")
        if self.not_kept_s:
            parts.append(f"{duration(self.not_kept_s)} no longer kept")
        return ", ".join(parts)


class Outage(msgspec.Struct, frozen=True):
    """A stretch in which a camera was not watched, and why. `goes_on`: it has no end yet."""

    camera: str
    since: datetime
    until: datetime
    when: str
    cause: str
    goes_on: bool


class Step(msgspec.Struct, frozen=True):
    """An event of a visit, as a line."""

    id: str
    kind: str
    text: str


class VisitShown(msgspec.Struct, frozen=True):
    """A visit, or an event that stands alone. `picture`: the SHA-256 of its best kept picture."""

    id: str
    camera: str
    place: str
    target: str
    since: datetime
    until: datetime | None
    time: str
    text: str
    models: str
    picture: str | None
    events: tuple[Step, ...]

    @property
    def anchor(self) -> str:
        return f"v{self.id[:8]}"


def bounds(local: LocalTime, day: date) -> tuple[int, int]:
    """A day by the clocks of a zone, which may have 23 or 25 hours: from (us), to before."""
    return tuple(local.us(datetime.combine(each, time())) for each in (day, day + timedelta(days=1)))  # type: ignore[return-value]


def lane_shown(lane: Lane, since_us: int, *, has_spans: bool) -> LaneShown:
    """A lane of a day that begins at `since_us`. `has_spans`: with its spans, which take longer than all the rest."""
    lasts_us = dict.fromkeys(_STRENGTH, 0)
    for state, from_us, until_us in lane.spans:
        lasts_us[state] += until_us - from_us
    return LaneShown(
        lane.camera,
        lane.sector,
        lane.target,
        len(lane.entries),
        lasts_us["occupied"] / SECOND_US,
        lasts_us["unobserved"] / SECOND_US,
        lasts_us["not_kept"] / SECOND_US,
        tuple(SpanShown(state, instant(a), instant(b)) for state, a, b in lane.spans) if has_spans else (),
        tuple(_bars(lane.spans, since_us)),
    )


def _bars(spans: Sequence[DaySpan], since_us: int) -> Iterator[Bar]:
    """The spans, which have no gaps, on the cells of a bar; each cell shows the strongest state in it."""
    if not spans:
        return
    first, last = (spans[0].from_us - since_us) // CELL_US, -((since_us - spans[-1].until_us) // CELL_US)
    cells = bytearray([len(_STRENGTH)]) * first + bytearray(last - first)  # clear, where nothing stronger follows
    for strength, strong in enumerate(_STRENGTH[1:], 1):
        for state, from_us, until_us in spans:
            if state == strong:
                begin, end = (from_us - since_us) // CELL_US, -((since_us - until_us) // CELL_US)
                cells[begin:end] = bytes([strength]) * (end - begin)
    paths: dict[int, list[str]] = {}
    for run in _RUN.finditer(cells):
        if (which := run[0][0]) < len(_STRENGTH):
            top, height = _HEIGHTS[_STRENGTH[which]]
            width = run.end() - run.start()
            paths.setdefault(which, []).append(f"M{run.start()} {top}h{width}v{height}h-{width}z")
    for which, path in sorted(paths.items()):
        yield Bar(_STRENGTH[which], "".join(path))


class Unwatched(NamedTuple):
    """A camera was not watched in `gap`."""

    camera: str
    gap: Unseen


def outages(
    days: Iterable[CameraDay],
    causes: Callable[[Sequence[Unwatched]], Sequence[str]],
    since_us: int,
    until_us: int,
    most: int,
    local: LocalTime,
) -> tuple[list[Outage], int]:
    """The longest stretches in which cameras were not watched, in order of time; how many shorter ones there are.

    `causes` says why, of all that are shown together.
    """
    every: list[tuple[str, int, int, Unseen | None]] = [
        (each.camera, max(gap.from_us, since_us), min(gap.until_us, until_us), gap)
        for each in days
        for gap in each.unseen
        if gap.from_us < until_us and gap.until_us > since_us
    ]
    every += [
        (each.camera, since_us, min(each.first_us, until_us), None)
        for each in days
        if each.first_us is not None and each.first_us > since_us
    ]
    longest = sorted(every, key=lambda each: each[1] - each[2])[:most]
    gaps = [Unwatched(camera, gap) for camera, _, _, gap in longest if gap is not None]
    why = dict(zip(gaps, causes(gaps), strict=True))
    shown = []
    for camera, from_us, end_us, gap in sorted(longest, key=lambda each: each[1:3]):
        goes_on = gap is not None and not gap.is_over and gap.until_us <= until_us
        cause = "its first frame came then" if gap is None else why[Unwatched(camera, gap)]
        lasted = duration((end_us - from_us) / SECOND_US)
        begin = local.minute(from_us)
        when = f"since {begin}, {lasted}" if goes_on else f"{begin} to {_end(local, end_us, until_us)}, {lasted}"
        shown.append(Outage(camera, instant(from_us), instant(end_us), when, cause, goes_on))
    return shown, len(every) - len(shown)


def _end(local: LocalTime, at_us: int, until_us: int) -> str:
    return "24:00" if at_us == until_us and local.at(at_us).time() == time() else local.minute(at_us)


def night_words(lanes: Sequence[Lane], local: LocalTime, day: date, now_us: int) -> str:
    """What is to be said of the night to a day in which nothing was; empty where something was, or nothing is known."""
    before, begin, end = day - timedelta(days=1), *NIGHT
    since_us, until_us = local.us(datetime.combine(before, time(begin))), local.us(datetime.combine(day, time(end)))
    return quiet_words(lanes, since_us, until_us, local, now_us)


def quiet_words(lanes: Sequence[Lane], since_us: int, until_us: int, local: LocalTime, now_us: int) -> str:
    """`Nobody, 22:00 to 06:00, watched all the time`; empty where something was, or where nothing is known."""
    end_us = min(until_us, now_us)
    inside = [lane.within(since_us, end_us) for lane in lanes]
    states = {span.state for lane in inside for span in lane.spans}
    if end_us <= since_us or "occupied" in states or "clear" not in states:
        return ""
    who = "Nobody" if {lane.target for lane in lanes} == {"person"} else "Nothing"
    when = f"{local.minute(since_us)} to {_end(local, end_us, end_us)}"
    missed_us = max((lane.lasts_us("unobserved") + lane.lasts_us("not_kept") for lane in inside), default=0)
    if not missed_us:
        return f"{who}, {when}, watched all the time"
    places = {lane.camera for lane in inside if lane.lasts_us("unobserved") + lane.lasts_us("not_kept")}
    named = ", ".join(sorted(places)[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "")
    return f"{who} seen, {when}; not watched all the time: {named}, up to {duration(missed_us / SECOND_US)}"


def visit_shown(
    visit: Visit, text: EventText, whole: Mapping[str, LoggedEvent], kept: Container[tuple[str, str]]
) -> VisitShown:
    """The row of a visit. `whole`: its events with their frames, as far as they were read; `kept`: the cameras and
    hashes of pictures that are kept.
    """
    pieces = text.visit(visit, "")
    begin, end_us = visit.begin, visit.end_us
    hashes = [
        sha256
        for event in (begin, *(logged.event for logged in visit.events))
        if event.id in whole
        for sha256 in reversed(whole[event.id].event.provenance.frame_sha256)
    ]
    return VisitShown(
        id=begin.id,
        camera=begin.camera,
        place=begin.sector or begin.line or f"{begin.from_sector} > {begin.to_sector}",
        target=begin.label,
        since=begin.started_at,
        until=None if end_us is None else instant(end_us),
        time=pieces[0].text.strip(),
        text="".join(piece.text for piece in pieces[1:] if piece.part != "models").strip(),
        models="".join(piece.text for piece in pieces if piece.part == "models").lstrip("; "),
        picture=next((sha256 for sha256 in hashes if (begin.camera, sha256) in kept), None),
        events=tuple(Step(each.event.id, each.event.kind, text.event(each.event)) for each in visit.events),
    )
