"""What goes into the store and what comes out of it, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from policies.events import Event
from policies.observation import Observation, Panel
from policies.site_policy import SitePolicy
from server.burst import Burst

Status = Literal["folded", "held"]
What = Literal["event", "corrected", "withdrawn"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One burst on its way into the store: what came, what the models said, and by which rules it is judged.

    `policy_text` is the TOML that `policy` was read from. `decisions` is the JSON of the frames' judgements.
    """

    burst: Burst
    panel: Panel
    observations: tuple[Observation, ...]
    policy: SitePolicy
    policy_text: str
    decisions: bytes
    received_at_us: int


@dataclass(frozen=True, slots=True)
class Known:
    """That a burst is in the store, and the digest by which a resend is told from a mix-up."""

    burst_id: str
    digest: str
    status: Status


@dataclass(frozen=True, slots=True)
class Recorded:
    """A stored observation and the digest of the policy that was in force when its burst was accepted."""

    policy: str
    observation: Observation


@dataclass(frozen=True, slots=True)
class Settled:
    """An event, the burst whose frame settled it, and its place among the events of that frame, from 0."""

    event: Event
    burst_id: str
    place: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a turn has to fold: the oldest instant that is new to it, and the newest its camera now has (us)."""

    oldest_us: int
    newest_us: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A camera's state (JSON) with all its frames up to `at_us` in, none after; at the very start both None."""

    at_us: int | None
    state: bytes | None


@dataclass(frozen=True, slots=True)
class Folded:
    """The result of folding a camera's frames after a checkpoint: the new head, its events, states on the way.

    `policy` is the digest of the rules that judged the last frame. `trail` maps instants to states (JSON).
    """

    last_at_us: int
    state: bytes
    policy: str
    settled: tuple[Settled, ...]
    trail: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event as the log has it now.

    `seq` grows whenever something is said about an event (first said, corrected, withdrawn), so a reader that
    remembers the largest one it saw misses nothing. `late`: found when the log had already passed its instant.
    """

    seq: int
    event: Event
    late: bool
    withdrawn_at_us: int | None
    burst_id: str

    @property
    def is_withdrawn(self) -> bool:
        return self.withdrawn_at_us is not None

    def as_wire(self) -> dict[str, Any]:
        """The one schema of events on every channel and in every answer; instants as RFC 3339 in UTC."""
        wire: dict[str, Any] = msgspec.to_builtins(self.event)
        return wire | {"late": self.late, "withdrawn": self.is_withdrawn}


@dataclass(frozen=True, slots=True)
class Announcement:
    """One row of the outbox: that an event was said, corrected or withdrawn, with the event as it is now."""

    seq: int
    what: What
    logged: LoggedEvent


@dataclass(frozen=True, slots=True)
class KeptBurst:
    """A burst as the store has it, with everything its answer is made of."""

    burst_id: str
    site: str
    camera: str
    status: Status
    late: bool
    panel: Panel
    policy: str
    observations: tuple[Observation, ...]
    events: tuple[LoggedEvent, ...]


@dataclass(frozen=True, slots=True)
class CameraHead:
    """Where a camera stands: the newest instant advanced past, and when that turn ended (us)."""

    site: str
    camera: str
    last_at_us: int
    changed_at_us: int


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
