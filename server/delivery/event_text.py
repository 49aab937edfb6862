"""Visits and events as lines for a person, in local time: at most WIDTH characters, with a short id at the end.

`18:12:04-18:12:15 person at table, 11 s, came from the bottom, left to the right; 2 of 3 models  5f3a91c2`

A time that lies in a stretch without frames has a `~` before it, and the stretch is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from policies.events import Event, Kind, microseconds
from server.delivery.visits import Visit
from server.domain.records import LoggedEvent
from server.domain.times.clock import SECOND_US
from server.domain.times.local_time import LocalTime

WIDTH = 120
BLIND_US = 30 * SECOND_US
"""A stretch without frames from which a time in it is named as not watched: the default of `presence.blind_s`."""

_WHOLE = "view"
"""The name of the sector that a camera without sectors has."""

_MINUTES_US = 300 * SECOND_US
_LEAST_PLACE = 12

VERBS: dict[Kind, str] = {
    "presence_started": "present at",
    "presence_ended": "gone from",
    "entered": "entered",
    "left": "left",
    "moved": "moved",
    "crossed": "crossed",
    "lingered": "lingered at",
}

Part = Literal["heading", "time", "what", "place", "blind", "withdrawn", "models", "id"]
Places = Literal["sector", "camera", "site"]
"""How much of a place is named: its sector; camera and sector; or site, camera and sector."""

Unwatched = Callable[[Event], int | None]
"""Since when (us) the place of a visit that goes on is not watched; None: it is."""


class Piece(NamedTuple):
    """A part of a line, and what it is, by which a terminal colours it."""

    part: Part
    text: str


@dataclass(frozen=True, slots=True)
class EventText:
    """Writes lines in one time zone. `places` says how much of a place is named."""

    local: LocalTime
    places: Places = "sector"
    unwatched: Unwatched = lambda _: None

    def visit(self, visit: Visit, event_id: str, *, dated: bool = False, alone: bool = False) -> list[Piece]:
        """The line of a visit, which ends with `event_id`. `alone`: it names one event, not the stay that it began."""
        time = self._time(visit, dated=dated)
        models = _models(visit.begin)
        tail = f"  {event_id}" if event_id else ""
        for optional in (models, ""):
            what = self._what(visit, VERBS[visit.first.kind] if alone else _verb(visit))
            room = WIDTH - len(time) - 1 - len(optional) - len(tail)
            if (length := sum(len(piece.text) for piece in what)) <= room:
                break
        else:
            what = _shortened(what, room, length)
        end = [Piece("models", optional)] if optional else []
        return [Piece("time", f"{time} "), *what, *end, *([Piece("id", tail)] if tail else [])]

    def event(self, event: Event, event_id: str = "") -> str:
        """The line of a single event, with its date."""
        logged = LoggedEvent(0, event, late=False, withdrawn_at_us=None, burst_id="")
        return plain(self.visit(Visit([logged]), event_id, dated=True, alone=True))

    def day(self, visit: Visit) -> str:
        """The heading under which a visit stands: the day on which it began."""
        return self.local.heading(self.start_us(visit))

    def start_us(self, visit: Visit) -> int:
        """The instant that the line of a visit begins with."""
        alone = len(visit.events) == 1 and visit.first.kind == "presence_ended"
        return microseconds(visit.first.at) if alone else visit.start_us

    def _time(self, visit: Visit, *, dated: bool) -> str:
        start_us, end_us = self.start_us(visit), visit.end_us
        start = _about(visit.first, (self.local.dated if dated else self.local.clock)(start_us))
        if end_us is None:
            return f"since {start}"
        end = visit.end
        if end is None:
            return start
        clock = _about(end.event, self.local.clock(end_us))
        if self.local.at(start_us).date() != self.local.at(end_us).date():
            clock = f"{self.local.at(end_us):%d %b} {clock}"
        return f"{start}-{clock}"

    def _what(self, visit: Visit, verb: str) -> list[Piece]:
        event, end = visit.begin, visit.end
        place = self._place(event)
        where = f"in {place}" if event.sector == _WHOLE and self.places == "sector" else f"at {place}"
        details = [_length(visit)] if end and not (_blind_us(event) or _blind_us(end.event)) else []
        details += [*_ways(event, end.event if end else event), *(["lingered"] if _stayed(visit) else [])]
        pieces = [Piece("withdrawn", f"{withdrawal(visit.events[0], self.local)}: ")] if visit.is_withdrawn else []
        if not visit.is_withdrawn and visit.events[-1].supersedes:
            pieces = [Piece("withdrawn", "corrected: ")]
        pieces += [Piece("what", f"{event.label} {verb} ".replace("  ", " ")), Piece("place", place if verb else where)]
        pieces += [Piece("what", f", {text}") for text in details]
        return [*pieces, *self._unseen(visit, event, end)]

    def _place(self, event: Event) -> str:
        sector = event.sector or event.line or f"{event.from_sector} > {event.to_sector}"
        before = {"sector": (), "camera": (event.camera,), "site": (event.site, event.camera)}[self.places]
        return "/".join((*before, sector))

    def _unseen(self, visit: Visit, event: Event, end: LoggedEvent | None) -> Iterator[Piece]:
        """The stretches without frames in which a visit began or ended, or goes on."""
        stands = event.kind in ("entered", "presence_started")
        if _blind_us(event) and (stands or end is None):
            yield Piece("blind", f", {'came ' if stands else ''}{self._between(event)}, not watched")
        if end is not None and _blind_us(end.event):
            yield Piece("blind", f", left {self._between(end.event)}, not watched")
        if visit.end_us is None and (since_us := self.unwatched(event)) is not None:
            yield Piece("blind", f", not watched since {self._near(since_us, visit.start_us)}")

    def _between(self, event: Event) -> str:
        at_us, slack_us = microseconds(event.at), round(event.time_uncertainty_s * 1e6)
        first_us, last_us = at_us - slack_us, at_us + slack_us
        show = self.local.minute if last_us - first_us > _MINUTES_US else self.local.clock
        far = self.local.at(last_us).date() - self.local.at(first_us).date()
        day = f"{self.local.at(last_us):%d %b} " if far.days > 1 else ""
        return f"between {show(first_us)} and {day}{show(last_us)}"

    def _near(self, at_us: int, start_us: int) -> str:
        is_same_day = self.local.at(at_us).date() == self.local.at(start_us).date()
        return self.local.clock(at_us) if is_same_day else self.local.dated(at_us)


def withdrawal(logged: LoggedEvent, local: LocalTime) -> str:
    """Why an event no longer holds: `superseded by a late burst of 2026-11-22 18:12:04`."""
    late = logged.superseded_by
    return "withdrawn" if late is None else f"superseded by a late burst of {local.dated(late.at_us)}"


def plain(pieces: Iterable[Piece]) -> str:
    """The line without what a terminal adds."""
    return "".join(piece.text for piece in pieces)


def _verb(visit: Visit) -> str:
    """The verb between target and place; empty for a stay."""
    is_stay = visit.first.kind in ("entered", "presence_started") or len(visit.events) > 1
    return "" if is_stay else VERBS[visit.first.kind]


def _ways(event: Event, end: Event) -> Iterator[str]:
    """How it came and went, as far as the frames show it."""
    came, went = event.direction or "unknown", end.direction or "unknown"
    if event.kind == "entered" and came != "unknown" and not _blind_us(event):
        yield f"came from the {came}"
    if end.kind == "left" and went != "unknown" and not _blind_us(end):
        yield f"to the {went}" if end is event else f"left to the {went}"
    if event.kind == "moved" and came != "unknown":
        yield {"up": "upwards", "down": "downwards"}.get(came, f"to the {came}")
    if event.kind == "crossed" and came != "unknown":
        yield came


def _stayed(visit: Visit) -> bool:
    return len(visit.events) > 1 and visit.of("lingered") is not None


def _blind_us(event: Event) -> int:
    """The length of the stretch without frames in which an event lies; 0 where it was watched."""
    unseen_us = round(2e6 * event.time_uncertainty_s)
    return unseen_us if unseen_us > BLIND_US else 0


def _about(event: Event, clock: str) -> str:
    return f"~{clock}" if _blind_us(event) else clock


def _length(visit: Visit) -> str:
    return duration(((visit.end_us or visit.start_us) - visit.start_us) / 1e6)


def duration(seconds: float) -> str:
    """A length of time in words: `11 s`, `4 min`, `2 h 5 min`, `3 days`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes / 1440:.0f} days"


def _models(event: Event) -> str:
    """Models that voted for the target, of those that voted."""
    cast = [vote for vote in event.votes.values() if vote in ("for", "against")]
    return f"; {cast.count('for')} of {len(cast)} model{'' if len(cast) == 1 else 's'}" if cast else ""


def _shortened(what: list[Piece], room: int, length: int) -> list[Piece]:
    """The line without as much of a long place, and then of its end, as does not fit."""
    at = next(i for i, piece in enumerate(what) if piece.part == "place")
    place = what[at].text
    keep = max(_LEAST_PLACE, len(place) - (length - room))
    if keep < len(place):
        what = [*what[:at], Piece("place", f"{place[: keep - 2]}.."), *what[at + 1 :]]
    kept: list[Piece] = []
    for piece in what:
        over = sum(len(each.text) for each in (*kept, piece)) - room
        if over > 0:
            return [*kept, piece._replace(text=f"{piece.text[: max(0, len(piece.text) - over - 2)]}..")]
        kept.append(piece)
    return kept
