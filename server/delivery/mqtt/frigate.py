"""Frigate's messages `events` and `reviews`, for consumers that are written for them.

A stay of a track in a sector is one of Frigate's objects: `entered` begins it (`new`), `lingered`, `moved` and
`crossed` update it, `left` ends it. A presence of a target in a sector is one of Frigate's reviews. A late burst may
correct or withdraw each: a stay that never was ends as `false_positive`. Keys are those of Frigate 0.16; what we do not
know is null. The format of ids is Frigate's as well: when it began, and six characters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from policies.events import Event
from server.domain.announcements import Announcement
from server.domain.keeping import Erasure
from server.domain.times.clock import SECOND_US

Topic = Literal["events", "reviews"]
REMEMBERED = 300
"""Stays and presences that are remembered at most; the oldest go first. Of one that is not, `before` is null."""
_STAYS = ("entered", "left", "lingered")
_UNKNOWN = (
    "snapshot",
    "sub_label",
    "box",
    "area",
    "ratio",
    "region",
    "thumbnail",
    "active",
    "stationary",
    "motionless_count",
    "position_changes",
    "attributes",
    "current_attributes",
    "current_estimated_speed",
    "average_estimated_speed",
    "velocity_angle",
    "recognized_license_plate",
    "recognized_license_plate_score",
    "path_data",
    "pending_loitering",
    "max_severity",
)
"""Keys of Frigate's objects that have no counterpart here."""


class Happening(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stay of a track, or a presence; instants in seconds of Unix time, as Frigate has them. `stays`: the ids of the
    stays during a presence.
    """

    id: str
    camera: str
    label: str
    sector: str
    start: float | None
    at: float
    end: float | None = None
    score: float | None = None
    top_score: float | None = None
    is_withdrawn: bool = False
    stays: tuple[str, ...] = ()

    def as_object(self) -> dict[str, Any]:
        """As Frigate's `events` have it."""
        is_over = self.end is not None or self.is_withdrawn
        return {
            "id": self.id,
            "camera": self.camera,
            "frame_time": self.at,
            "label": self.label,
            "top_score": self.top_score,
            "false_positive": self.is_withdrawn,
            "start_time": self.start,
            "end_time": self.end,
            "score": self.score,
            "current_zones": [] if is_over else [self.sector],
            "entered_zones": [self.sector],
            "has_snapshot": False,
            "has_clip": False,
            **dict.fromkeys(_UNKNOWN),
        }

    def as_review(self) -> dict[str, Any]:
        """As Frigate's `reviews` have it. Every target is one that the site's owner asked for, so each is an alert."""
        return {
            "id": self.id,
            "camera": self.camera,
            "start_time": self.start,
            "end_time": self.end,
            "severity": "alert",
            "thumb_path": None,
            "data": {
                "detections": list(self.stays),
                "objects": [self.label],
                "sub_labels": [],
                "zones": [self.sector],
                "audio": [],
            },
        }


Happenings = Mapping[str, Happening]
"""What is remembered, by the names of what it belongs to; the oldest first."""


class Told(NamedTuple):
    """What an announcement comes to: messages, and what is to be remembered once they have left."""

    messages: tuple[tuple[Topic, dict[str, Any]], ...]
    happenings: Happenings


def tell(announcement: Announcement, known: Happenings) -> Told:
    """The messages of an announcement of an event."""
    event = announcement.logged.event
    if event.kind in _STAYS:
        return _stay(announcement, known)
    if event.kind in ("presence_started", "presence_ended"):
        return _presence(announcement, known)
    touched = [key for key in _of_track(event, known) if event.to_sector in (None, known[key].sector)]
    messages = [_message("events", "update", known[key], known[key], announcement) for key in touched]
    return Told(tuple(messages), known)


def without_erased(known: Happenings, erasures: Sequence[Erasure]) -> Happenings:
    """What is remembered, without what began, ended or was last seen in a stretch that was erased."""
    gone = {key for key, each in known.items() if any(_is_erased(key, each, erasure) for erasure in erasures)}
    if not gone:
        return known
    ids = {known[key].id for key in gone}
    return {
        key: replace(each, stays=tuple(stay for stay in each.stays if stay not in ids))
        for key, each in known.items()
        if key not in gone
    }


def _is_erased(key: str, happening: Happening, erasure: Erasure) -> bool:
    if not key.removeprefix(_REVIEW).startswith(f"{erasure.site}/{erasure.camera}/"):
        return False
    instants_s = (at for at in (happening.start, happening.at, happening.end) if at is not None)
    return any(erasure.since_us <= round(at * SECOND_US) < erasure.until_us for at in instants_s)


def _stay(announcement: Announcement, known: Happenings) -> Told:
    event, withdrawn = announcement.logged.event, announcement.what == "withdrawn"
    key = f"{event.site}/{event.camera}/{event.track}/{event.sector}"
    before = known.get(key)
    if before is not None and event.kind == "entered" and before.id != _id(event, key):
        before = None if not withdrawn else before
        if withdrawn:  # another stay has taken its place
            ended = replace(_begun(event, key), is_withdrawn=True)
            return Told((_message("events", "end", None, ended, announcement),), known)
    after = _after(event, before or _begun(event, key, is_known=event.kind != "left"), withdrawn=withdrawn)
    kind = "end" if after.end is not None or after.is_withdrawn else "update"
    if before is None and kind == "update" and event.kind == "entered":
        kind = "new"
    messages = [_message("events", kind, after if kind == "new" else before, after, announcement)]
    happenings = _with(known, key, after)
    review = _review_key(event)
    present = known.get(review)
    if kind == "new" and present is not None and present.end is None:
        joined = replace(present, stays=(*present.stays[-50:], after.id), at=after.at)
        messages.append(_message("reviews", "update", present, joined, announcement))
        happenings = _with(happenings, review, joined)
    return Told(tuple(messages), happenings)


def _after(event: Event, stay: Happening, *, withdrawn: bool) -> Happening:
    """A stay after an event of it."""
    scores = [score for score in (stay.top_score, event.score) if score is not None]
    changes: dict[str, Any] = {
        "at": event.confirmed_at.timestamp(),
        "score": event.score,
        "top_score": max(scores, default=None),
    }
    if event.kind == "left":
        changes["end"] = None if withdrawn else event.at.timestamp()
    elif event.kind == "entered":
        changes |= {"start": event.started_at.timestamp(), "is_withdrawn": withdrawn}
    return replace(stay, **changes)


def _presence(announcement: Announcement, known: Happenings) -> Told:
    event, withdrawn = announcement.logged.event, announcement.what == "withdrawn"
    key = _review_key(event)
    before = known.get(key)
    if before is not None and before.id != _id(event, key):
        before = None
    stays = tuple(
        each.id
        for name, each in known.items()
        if name.startswith(f"{event.site}/{event.camera}/")
        and (each.sector, each.label) == (event.sector, event.label)
        and each.end is None
        and not each.is_withdrawn
        and not name.startswith(_REVIEW)
    )
    after = before or replace(_begun(event, key), stays=stays)
    after = replace(after, at=event.confirmed_at.timestamp())
    if event.kind == "presence_ended":
        ended = event.ended_at if event.ended_at is not None and not withdrawn else None
        after = replace(after, end=None if ended is None else ended.timestamp())
    else:
        after = replace(after, is_withdrawn=withdrawn)
    kind = "end" if after.end is not None or after.is_withdrawn else "update"
    if before is None and kind == "update" and event.kind == "presence_started":
        kind = "new"
    message = _message("reviews", kind, after if kind == "new" else before, after, announcement)
    return Told((message,), _with(known, key, after))


_REVIEW = "review:"


def _review_key(event: Event) -> str:
    return f"{_REVIEW}{event.site}/{event.camera}/{event.sector}/{event.label}"


def _of_track(event: Event, known: Happenings) -> Iterator[str]:
    """The stays of an event's track that go on."""
    root = f"{event.site}/{event.camera}/{event.track}/"
    goes_on = (key for key, each in known.items() if each.end is None and not each.is_withdrawn)
    return (key for key in goes_on if key.startswith(root))


def _begun(event: Event, key: str, *, is_known: bool = True) -> Happening:
    """What begins with an event. Of a `left` alone it is not known when that was."""
    return Happening(
        id=_id(event, key),
        camera=event.camera,
        label=event.label,
        sector=event.sector or "",
        start=event.started_at.timestamp() if is_known else None,
        at=event.confirmed_at.timestamp(),
    )


def _id(event: Event, key: str) -> str:
    return f"{event.started_at.timestamp():.6f}-{hashlib.sha256(key.encode()).hexdigest()[:6]}"


def _with(known: Happenings, key: str, happening: Happening) -> Happenings:
    others = {name: each for name, each in known.items() if name != key}
    for name in list(others)[: max(0, len(others) + 1 - REMEMBERED)]:
        del others[name]
    return {**others, key: happening}


def _message(
    topic: Topic, kind: str, before: Happening | None, after: Happening, announcement: Announcement
) -> tuple[Topic, dict[str, Any]]:
    shown = Happening.as_object if topic == "events" else Happening.as_review
    return topic, {
        "type": kind,
        "before": None if before is None else shown(before),
        "after": shown(after),
        "burst": _burst(announcement),
    }


def _burst(announcement: Announcement) -> dict[str, Any]:
    """What we know beyond Frigate's keys: how the event came about."""
    logged = announcement.logged
    event = logged.event
    return {
        "event_id": event.id,
        "kind": event.kind,
        "announced_as": announcement.what,
        "site": event.site,
        "track": event.track,
        "line": event.line,
        "from_sector": event.from_sector,
        "to_sector": event.to_sector,
        "direction": event.direction,
        "burst_ids": list(event.provenance.burst_ids),
        "frame_sha256": list(event.provenance.frame_sha256),
        "votes": event.votes,
        "margin": event.margin,
        "time_uncertainty_s": event.time_uncertainty_s,
        "policy": event.provenance.policy,
        "ensemble": event.provenance.ensemble,
        "mask_digest": event.provenance.mask_digest,
        "late": logged.late,
    }
