"""Announcements that never happened: what templates are tried with, and the test message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import cast, get_args

from policies.events import Event, Kind, Provenance, event_id, microseconds
from server.domain.announcements import Announcement, Notice, NoticeGiven, Outgoing
from server.domain.records import LoggedEvent

TEST = "test"
"""The kind of the test message, which is no kind of event."""
_DIGEST = "0" * 64


def samples(kinds: Sequence[Kind], *, notices: bool, at: datetime) -> Iterator[Outgoing]:
    """One announcement of each of these kinds (of none: of all), the test message, and a notice, if there are any."""
    yield from (_announced(kind, "yard", at) for kind in kinds or get_args(Kind))
    yield test_message("yard", at)
    if notices:
        yield NoticeGiven(1, Notice(1, 1, microseconds(at), "serves", _DIGEST, ("yolov3-tiny",), "loaded at start"))


def test_message(site: str, at: datetime) -> Outgoing:
    """An announcement with all keys of an event, of the kind `test`."""
    return _announced(cast(Kind, TEST), site, at)


def _announced(kind: Kind, site: str, at: datetime) -> Announcement:
    is_presence = kind in ("presence_started", "presence_ended")
    is_in_sector = kind not in ("moved", "crossed")
    event = Event(
        id=event_id(TEST, kind, site, microseconds(at)),
        kind=kind,
        site=site,
        camera="gate",
        label="person",
        sector="view" if is_in_sector else None,
        from_sector="west" if kind == "moved" else None,
        to_sector="east" if kind == "moved" else None,
        line="middle" if kind == "crossed" else None,
        direction=None if is_presence else "unknown",
        started_at=at - timedelta(seconds=9),
        ended_at=at if kind == "presence_ended" else None,
        confirmed_at=at,
        time_uncertainty_s=0.25,
        track=None if is_presence else "c72e4dc906a1",
        score=0.9,
        votes={"yolov3-tiny": "for"},
        margin=1.0,
        provenance=Provenance((TEST,), (_DIGEST,), _DIGEST, _DIGEST, None),
    )
    return Announcement(0, "event", LoggedEvent(0, event, late=False, withdrawn_at_us=None, burst_id=TEST))
