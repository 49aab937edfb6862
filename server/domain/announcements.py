"""What channels send, and how far each channel is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from policies.events import instant
from server.domain.records import LoggedEvent, What

LONGEST_ERROR = 1000
"""Characters that are kept of why a channel failed."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """An event that is new, corrected or withdrawn, as it is now: one row of the outbox."""

    seq: int
    what: What
    logged: LoggedEvent


Noticed = Literal["serves", "unapproved", "approved", "refused"]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened to the server: an ensemble came into service, or a check of it changed its result.

    `detail` says why, in words. `seq` is its number among the announcements; None for a notice from before notices
    were announced. `instance` names the replica; None for a notice from before replicas had names.
    """

    number: int
    seq: int | None
    at_us: int
    what: Noticed
    ensemble: str
    models: tuple[str, ...]
    detail: str
    instance: str | None = None

    @property
    def id(self) -> str:
        """The same each time it is sent."""
        return hashlib.sha256(f"{self.number} {self.at_us} {self.what} {self.ensemble}".encode()).hexdigest()[:32]

    def as_wire(self) -> dict[str, Any]:
        """The schema of notices on every channel. `kind` differs from all event kinds; the instant is RFC 3339 in
        UTC.
        """
        return {
            **msgspec.to_builtins({"id": self.id, "kind": self.what, "at": instant(self.at_us)}),
            "ensemble": self.ensemble,
            "models": list(self.models),
            "detail": self.detail,
            "instance": self.instance,
        }


@dataclass(frozen=True, slots=True)
class NoticeGiven:
    """A notice to be sent, in one sequence with the events."""

    seq: int
    notice: Notice


Outgoing = Announcement | NoticeGiven
"""What a channel sends."""


@dataclass(frozen=True, slots=True)
class ChannelState:
    """How far a channel is: what waits, since when (us), and whether it is paused or fails; instants by our clock.

    `backlog` counts announcements, also those that the channel passes over. `dead_letters` could not be delivered;
    `asked` letters are to be sent again. `claimed_by` is the process that sends on it now.
    """

    name: str
    backlog: int
    oldest_us: int | None
    sent_at_us: int | None
    paused_at_us: int | None
    failed_at_us: int | None
    error: str | None
    failures: int
    dead_letters: int
    asked: int
    claimed_by: str | None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An announcement that a channel could not deliver, or that a person wants to be sent again (`asked_at_us`).

    `event_id` None: it is a notice. `error` None: it was delivered once and is asked for again.
    """

    number: int
    channel: str
    seq: int
    event_id: str | None
    what: str
    at_us: int
    error: str | None
    asked_at_us: int | None
