"""The text of messages: one line that says who, where and when, on the site's clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from policies.events import Event, microseconds
from server.delivery.event_text import EventText, Piece, duration
from server.delivery.notify.memory import Reason, Tally
from server.delivery.visits import Visit, unlogged
from server.domain.announcements import Notice
from server.domain.times.local_time import LocalTime

_SHOWN_PLACES = 8
_REASONS: Mapping[Reason, str] = {"more": "more", "quiet": "in quiet hours", "old": "known late"}


def place_of(event: Event) -> str:
    """`table`, `door` (a line) or `west > east`."""
    return event.sector or event.line or f"{event.from_sector} > {event.to_sector}"


def counted_as(event: Event) -> str:
    """What an event counts as in a digest: `gate/table person`."""
    return f"{event.camera}/{place_of(event)} {event.label}"


def clock(local: LocalTime, at_us: int, now_us: int) -> str:
    """`18:12`; of another day, `22 Nov 18:12`; of another year, `22 Nov 2026 18:12`."""
    at, now = local.at(at_us), local.at(now_us)
    if at.date() == now.date():
        return f"{at:%H:%M}"
    return f"{at.day} {at:%b %H:%M}" if at.year == now.year else f"{at.day} {at:%b %Y %H:%M}"


def beginning(event: Event, local: LocalTime, now_us: int) -> str:
    """`18:12 person at gate/table (north-yard)`; a movement: `18:12 person crossed gate/door, inwards (north-yard)`."""
    pieces = _pieces(event, local)
    about = "~" if "~" in pieces[0].text else ""
    what = "".join(piece.text for piece in pieces if piece.part in ("what", "place", "blind"))
    return f"{about}{clock(local, microseconds(event.at), now_us)} {what} ({event.site})"


def ending(event: Event, local: LocalTime) -> str:
    """`person left gate/table after 4 min (north-yard)`."""
    unseen = "".join(piece.text for piece in _pieces(event, local) if piece.part == "blind")
    stayed = duration((event.at - event.started_at).total_seconds())
    return f"{event.label} left {event.camera}/{place_of(event)}{unseen or f' after {stayed}'} ({event.site})"


def not_watched(places: Sequence[str], site: str, since: str, cause: str | None) -> str:
    """`gate (north-yard) is not watched since 18:02: agent silent`."""
    why = f": {cause.replace('_', ' ')}" if cause else ""
    verb = "is" if len(places) == 1 else "are"
    return f"{', '.join(places)} ({site}) {verb} not watched since {since}{why}"


def watched_again(places: Sequence[str], site: str, since: str) -> str:
    """`gate (north-yard) is watched again; it was not since 18:02`."""
    verbs = ("is", "it was") if len(places) == 1 else ("are", "they were")
    return f"{', '.join(places)} ({site}) {verbs[0]} watched again; {verbs[1]} not since {since}"


def of_notice(notice: Notice, local: LocalTime, now_us: int) -> str:
    """`18:12 server: ensemble refused: says cat, not person`."""
    what = {"unapproved": "not approved", "approved": "approved again"}.get(notice.what, notice.what)
    server = "server" if notice.instance is None else f"server {notice.instance}"
    return f"{clock(local, notice.at_us, now_us)} {server}: ensemble {what}: {notice.detail}"


def digest(tally: Tally, local: LocalTime, now_us: int) -> str:
    """`7 more from 18:12 to 18:58: gate/table person 5, street/road vehicle 2 (north-yard)`."""
    count = sum(tally.counts.values())
    site = f" ({tally.site})" if tally.site else ""
    remarks = [*tally.remarks, *([f"{tally.further} more remarks"] if tally.further else [])]
    if not count:
        return "; ".join(remarks)
    first, last = clock(local, tally.first_us, now_us), clock(local, tally.last_us, now_us)
    span = f"at {first}" if first == last else f"from {first} to {last}"
    places = sorted(tally.counts.items(), key=lambda place: (-place[1], place[0]))
    shown = [f"{place} {number}" for place, number in places[:_SHOWN_PLACES]]
    if others := sum(number for _, number in places[_SHOWN_PLACES:]):
        shown.append(f"elsewhere {others}")
    return "; ".join([f"{count} {_REASONS[tally.reason]} {span}: {', '.join(shown)}{site}", *remarks])


def _pieces(event: Event, local: LocalTime) -> list[Piece]:
    return EventText(local, "camera").visit(Visit([unlogged(event)]), "")
