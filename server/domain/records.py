"""The values that go into the store and come out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from policies.events import Event, instant
from policies.fusion.judgement import Judgement
from policies.observation import EnsembleInfo, Observation
from policies.site.site_policy import SitePolicy
from server.domain.burst import Burst

Status = Literal["folded", "held", "set_aside"]
"""Of a burst: the log includes it; it waits; or it came too late (or a person set it aside) and changes no event."""
What = Literal["event", "corrected", "withdrawn"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A burst to be stored, with the ensemble's observations and the policy in force.

    `policy_text` is the TOML that `policy` was read from. `decisions` is the JSON of the frames' judgements.
    """

    burst: Burst
    ensemble_info: EnsembleInfo
    observations: tuple[Observation, ...]
    policy: SitePolicy
    policy_text: str
    decisions: bytes
    received_at_us: int


@dataclass(frozen=True, slots=True)
class Known:
    """A stored burst's digest, by which a repeated upload differs from a reused id."""

    digest: str
    status: Status


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """A stored observation and the digest of the policy that was in force when its burst was accepted.

    `resumes`: the state (JSON) from which a fold by those policies goes on here, because frames before this one are no
    longer kept.
    """

    policy: str
    observation: Observation
    resumes: str | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """An event, the burst whose frame settled it, and its index among the events of that frame."""

    event: Event
    burst_id: str
    place: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a turn has to fold: the oldest new instant, and the camera's newest one (us).

    `late`: the camera had advanced past some of it.
    """

    oldest_us: int
    newest_us: int
    late: bool = False


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A camera's state (JSON) after all frames up to `at_us`; both None before the first frame."""

    at_us: int | None
    state: bytes | None


@dataclass(frozen=True, slots=True)
class Folded:
    """The result of folding a camera's frames after a checkpoint: the new head, its events, states on the way.

    `policy` is the digest of the rules that judged the last frame. `checkpoints` maps instants to states (JSON).
    `seen_at_us` is the instant of the last frame that told something, if any ever did. `frames` were folded; in the end
    `things` are followed or present.
    """

    frames: int
    things: int
    last_at_us: int
    seen_at_us: int | None
    state: bytes
    policy: str
    settled: tuple[Settled, ...]
    checkpoints: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class LateBurst:
    """The late burst that disproved an event, and the instant of its first frame (us)."""

    burst_id: str
    at_us: int


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event as the log has it now.

    `seq` grows with each announcement of an event (new, corrected, withdrawn), so a reader that remembers the largest
    `seq` misses nothing; see `has_number`. `late`: it lies before the camera's head at that time. `supersedes` holds
    the ids of events that this one replaces: the same fact at another instant, which is withdrawn, or its own id after
    a correction. `superseded_by` is the late burst by which it was withdrawn; None while it holds, and where a person
    set aside what told it.
    """

    seq: int
    event: Event
    late: bool
    withdrawn_at_us: int | None
    burst_id: str
    supersedes: tuple[str, ...] = ()
    superseded_by: LateBurst | None = None

    @property
    def is_withdrawn(self) -> bool:
        return self.withdrawn_at_us is not None

    @property
    def has_number(self) -> bool:
        """Whether `seq` is the number of its newest announcement; just after the commit it may be negative."""
        return self.seq > 0

    def as_wire(self) -> dict[str, Any]:
        """The schema of events on every channel and in every answer; instants as RFC 3339 in UTC. `superseded_by` is
        there where a late burst disproved the event.
        """
        wire = {
            **msgspec.to_builtins(self.event),
            "late": self.late,
            "withdrawn": self.is_withdrawn,
            "supersedes": list(self.supersedes),
        }
        late = self.superseded_by
        if late is not None:
            wire["superseded_by"] = {"burst_id": late.burst_id, "at": msgspec.to_builtins(instant(late.at_us))}
        return wire


@dataclass(frozen=True, slots=True)
class CameraHead:
    """A camera's newest folded instant, its state then (JSON), the digest of the policy that judged it, and when that
    turn ended (us).
    """

    site: str
    camera: str
    last_at_us: int
    state: str
    policy: str
    changed_at_us: int


@dataclass(frozen=True, slots=True)
class StoredHeartbeat:
    """The newest heartbeat of a camera. `received_at_us` is by our clock, the others by the agent's; `body` is JSON."""

    site: str
    camera: str
    started_at_us: int
    sent_at_us: int
    received_at_us: int
    body: str


@dataclass(frozen=True, slots=True)
class BurstSpan:
    """When a burst began and ended, and when it was received (us)."""

    burst_id: str
    first_at_us: int
    last_at_us: int
    received_at_us: int


@dataclass(frozen=True, slots=True)
class CameraActivity:
    """What shows whether a camera is watched. `recent`: its newest bursts, newest first; `is_ahead`: some are held.

    `set_aside_us`: when the last burst that came too late was received; None: none ever did.
    """

    site: str
    camera: str
    heartbeat: StoredHeartbeat | None
    recent: tuple[BurstSpan, ...]
    seen: CameraHead | None
    is_ahead: bool
    set_aside_us: int | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token as stored: its public id and the hash of its secret, never the secret."""

    id: str
    name: str
    site: str
    camera: str | None
    hash: str
    created_at_us: int
    revoked_at_us: int | None

    @property
    def is_valid(self) -> bool:
        return self.revoked_at_us is None


@dataclass(frozen=True, slots=True)
class BurstFacts:
    """A stored burst without its frames; columns of `server.store.schema.bursts`."""

    burst_id: str
    site: str
    camera: str
    digest: str
    status: Status
    cause: str | None
    late: bool
    reason: str
    captured_at_us: int
    first_at_us: int
    last_at_us: int
    frames: int
    boot_id: str | None
    mask_digest: str | None
    received_at_us: int
    ensemble: str
    policy: str


@dataclass(frozen=True, slots=True)
class Marked:
    """A camera's bursts outside of the fold with the same mark: how many, and the instants that they span (us).

    `late`: 0: ahead of the clock; 1: waiting for a refold; 2: set aside.
    """

    site: str
    camera: str
    late: int
    bursts: int
    first_at_us: int
    last_at_us: int


@dataclass(frozen=True, slots=True)
class KeptBurst(BurstFacts):
    """A stored burst, with everything that its answer contains."""

    ensemble_info: EnsembleInfo
    observations: tuple[Observation, ...]
    judgements: tuple[Judgement, ...]
    events: tuple[LoggedEvent, ...]


@dataclass(frozen=True, slots=True)
class EventRecord:
    """An event's row: the event, columns that hold parts of it, and its newest announcement; whether its seal fits."""

    logged: LoggedEvent
    id: str
    site: str
    camera: str
    kind: str
    sector: str | None
    label: str
    started_at_us: int
    confirmed_at_us: int
    announced: str | None
    is_intact: bool


@dataclass(frozen=True, slots=True)
class PolicyRecord:
    """A stored policy: its text, the policy read from it, and that as JSON."""

    site: str
    text: str
    policy: SitePolicy
    body: str


Truth = Literal["true", "false", "missed", "unsure"]


@dataclass(frozen=True, slots=True)
class Annotation:
    """A person's verdict on a fact. Annotations are only added; the newest of a `subject` counts.

    `subject` is the event's id, or the id of a fact without an event (`missed`). The fact is repeated here, so that an
    annotation outlives the event. `within_s` bounds the error of its instant.
    """

    number: int
    subject: str
    truth: Truth
    site: str
    camera: str
    kind: str
    label: str
    sector: str | None
    from_sector: str | None
    to_sector: str | None
    line: str | None
    at_us: int
    within_s: float
    is_told: bool
    author: str
    note: str | None
    made_at_us: int

    def as_wire(self) -> dict[str, Any]:
        """For export and the API; instants as RFC 3339 in UTC."""
        wire: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        at, made_at = instant(wire.pop("at_us")), instant(wire.pop("made_at_us"))
        plain: dict[str, Any] = msgspec.to_builtins(wire | {"at": at, "made_at": made_at})
        return plain
