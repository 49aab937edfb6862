"""Events and notices as lines: JSON in the one schema of all channels, and text.

The text line is for people and for `grep`. Instant, kind, place and label come by position, everything else as
`key=value` in this order, left out where an event has none:
`direction track score votes margin uncertainty_s confirmed_at ended_at late said supersedes superseded_by event`.
`said` marks a correction or a withdrawal, `superseded_by` names the late burst that disproved the event. A notice has
its instant and kind by position, then
`instance ensemble models detail notice`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import msgspec

from policies.events import Event, instant
from server.domain.announcements import Notice
from server.domain.records import LoggedEvent
from server.monitoring.logs import quoted


def json_line(content: LoggedEvent | Notice) -> str:
    """The event or the notice as one JSON object: the schema of every channel."""
    return msgspec.json.encode(content.as_wire()).decode()


def notice_line(notice: Notice) -> str:
    """The notice as one readable line."""
    named = {} if notice.instance is None else {"instance": notice.instance}
    fields = named | {
        "ensemble": notice.ensemble,
        "models": ",".join(notice.models),
        "detail": notice.detail,
        "notice": notice.id,
    }
    pairs = [f"{key}={quoted(value)}" for key, value in fields.items()]
    return " ".join([_instant(instant(notice.at_us)), notice.what, *pairs])


def text_line(logged: LoggedEvent, correction: str | None = None) -> str:
    """The event as one readable line. `correction` is `corrected` or `withdrawn`, None at its first announcement."""
    event = logged.event
    head = f"{_instant(event.at)} {event.kind} {event.site}/{event.camera} {event.label} {_place(event)}"
    fields = [f"{key}={value}" for key, value in _fields(logged, correction) if value is not None]
    return " ".join([head, *fields])


def _place(event: Event) -> str:
    return f"{event.from_sector}>{event.to_sector}" if event.kind == "moved" else event.sector or event.line or "-"


def _fields(logged: LoggedEvent, correction: str | None) -> Iterator[tuple[str, str | None]]:
    event = logged.event
    yield "direction", event.direction
    yield "track", event.track
    yield "score", None if event.score is None else f"{event.score:.2f}"
    yield "votes", _votes(event)
    yield "margin", None if event.margin is None else f"{event.margin:g}"
    yield "uncertainty_s", f"{event.time_uncertainty_s:g}"
    yield "confirmed_at", _instant(event.confirmed_at)
    yield "ended_at", None if event.ended_at is None else _instant(event.ended_at)
    yield "late", "true" if logged.late else None
    yield "said", correction or ("withdrawn" if logged.is_withdrawn else None)
    yield "supersedes", ",".join(logged.supersedes) or None
    yield "superseded_by", None if logged.superseded_by is None else logged.superseded_by.burst_id
    yield "event", event.id


def _votes(event: Event) -> str | None:
    """Models that voted for the target, of those that voted."""
    cast = [vote for vote in event.votes.values() if vote in ("for", "against")]
    return f"{cast.count('for')}/{len(cast)}" if event.votes else None


def _instant(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
