"""Events: what happened in sectors and to tracks, in the past tense, immutable, with an id derived from the facts."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

Kind = Literal["presence_started", "presence_ended", "entered", "left", "moved", "crossed", "lingered"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(at_us: int) -> datetime:
    """Microseconds of Unix time as an aware UTC datetime, exactly."""
    return _EPOCH + timedelta(microseconds=at_us)


def microseconds(at: datetime) -> int:
    """An aware datetime as microseconds of Unix time, exactly."""
    return (at - _EPOCH) // timedelta(microseconds=1)


class Evidence(msgspec.Struct, frozen=True):
    """The frame that shows something, and how the models voted on it."""

    burst_id: str
    frame_sha256: str
    score: float
    votes: dict[str, str]
    margin: float | None

    @property
    def decides(self) -> bool:
        """Whether the votes in this frame are enough. A track goes on through frames in which they are not."""
        return self.margin is not None and self.margin >= 0


class Fact(msgspec.Struct, frozen=True):
    """What a stage found to have happened: all of an event that does not depend on the frame that settled it.

    It happened at `started_us`, give or take `slack_us`, to a `target`, and `evidence` shows it. `ended_us` is set
    where it covers an interval that is over.
    """

    kind: Kind
    target: str
    started_us: int
    slack_us: int
    evidence: Evidence
    track: str | None = None
    sector: str | None = None
    from_sector: str | None = None
    to_sector: str | None = None
    line: str | None = None
    direction: str | None = None
    ended_us: int | None = None


class Provenance(msgspec.Struct, frozen=True):
    """Which bytes, which weights and which policy made an event."""

    burst_ids: tuple[str, ...]
    frame_sha256: tuple[str, ...]
    ensemble: str
    policy: str
    mask_digest: str | None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One fact. `id` is derived from the fact itself, so the same facts give the same id.

    `started_at` is when it happened, within `time_uncertainty_s` either way (blind time counted);
    `ended_at` is set where the fact covers an interval that is over; `confirmed_at` is the instant of the
    frame that settled it. `direction` is `unknown` when the frames do not show it, None where a kind has
    none. `votes` maps each model to for, against, abstain or missing at the frame of the best evidence, and
    `margin` says how far the rule was from deciding otherwise, in the rule's own unit (models, or weight).
    """

    id: str
    kind: Kind
    site: str
    camera: str
    label: str
    sector: str | None = None
    from_sector: str | None = None
    to_sector: str | None = None
    line: str | None = None
    direction: str | None = None
    started_at: datetime
    ended_at: datetime | None = None
    confirmed_at: datetime
    time_uncertainty_s: float
    track: str | None = None
    score: float | None = None
    votes: dict[str, str]
    margin: float | None = None
    provenance: Provenance

    @property
    def at(self) -> datetime:
        """The instant of the fact: the end of an interval that is over, else the start."""
        return self.ended_at or self.started_at


ORDER: tuple[Kind, ...] = (
    "crossed",
    "left",
    "entered",
    "moved",
    "lingered",
    "presence_started",
    "presence_ended",
)
"""The order of events of one instant."""


def event_id(*facts: object) -> str:
    """A short permanent name for these facts (first 128 bits of their SHA-256, in hex)."""
    return hashlib.sha256("\x1f".join(map(str, facts)).encode()).hexdigest()[:32]
