"""A heartbeat on the wire: what the agent knows of itself and of one camera.

Unknown keys are ignored, so that a newer agent can talk to an older server. Unknown words in `state` and `cause` are
kept. Heartbeats are never spooled, so `agent.sent_at` differs from the server's clock by little more than the
agent's clock error.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec

from policies.site.toml_errors import NAME
from server.domain.burst import NEWEST, Aware
from server.domain.errors import Malformed

_Name = Annotated[str, msgspec.Meta(pattern=f"^{NAME.pattern}$(?!\n)")]
_Word = Annotated[str, msgspec.Meta(pattern="^[a-z_]{1,64}$")]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
_Text = Annotated[str, msgspec.Meta(max_length=300)]

T = TypeVar("T")


class HeartbeatAgent(msgspec.Struct, frozen=True):
    """The sender. The next heartbeat is due `every_s` after `sent_at`."""

    sent_at: Aware
    started_at: Aware
    every_s: _Seconds
    version: _Text | None = None
    boot_id: _Text | None = None


class HeartbeatClock(msgspec.Struct, frozen=True):
    """The agent's clock. `uncertainty_s` is null when unknown."""

    synced: bool = True
    uncertainty_s: _Seconds | None = None


class Waiting(msgspec.Struct, frozen=True):
    """This camera's bursts that wait for upload."""

    bursts: _Count = 0
    bytes: _Count = 0
    oldest_at: Aware | None = None


class Counts(msgspec.Struct, frozen=True):
    """Counts since `started_at`. `uploaded_bytes` counts the whole agent's upload, `camera_bytes` this camera's. Of
    its pictures, `damaged` were passed over, and `mended` had a faulty start or end.
    """

    bursts: _Count = 0
    dropped: _Count = 0
    refused: _Count = 0
    uploaded_bytes: _Count = 0
    camera_bytes: _Count | None = None
    damaged: _Count = 0
    mended: _Count = 0


class HeartbeatSource(msgspec.Struct, frozen=True):
    """The camera of a heartbeat that may otherwise be malformed."""

    site: _Name
    camera: _Name


class Heartbeat(HeartbeatSource, frozen=True):
    """A heartbeat. `state` is starting, watching, blind, paused, finished or stopped, unchanged `since` then.

    `next_burst_by` is the latest instant at which the next burst is complete; null when none is expected.
    """

    agent: HeartbeatAgent
    state: _Word
    since: Aware
    clock: HeartbeatClock = HeartbeatClock()
    cause: _Word | None = None
    detail: _Text | None = None
    last_frame_at: Aware | None = None
    next_burst_by: Aware | None = None
    waiting: Waiting = Waiting()
    counts: Counts = Counts()


_decoder = msgspec.json.Decoder(Heartbeat)
_source_decoder = msgspec.json.Decoder(HeartbeatSource)


def heartbeat_source(body: bytes) -> HeartbeatSource:
    """The camera of a heartbeat, so that its sender is authorised before the rest is decoded. Raises Malformed."""
    return _decoded(_source_decoder, body)


def decode_heartbeat(body: bytes | str) -> Heartbeat:
    """The heartbeat in `body`. Raises Malformed."""
    heartbeat = _decoded(_decoder, body)
    instants = (
        heartbeat.agent.sent_at,
        heartbeat.agent.started_at,
        heartbeat.since,
        heartbeat.last_frame_at,
        heartbeat.next_burst_by,
        heartbeat.waiting.oldest_at,
    )
    if any(at is not None and at >= NEWEST for at in instants):
        raise Malformed(f"an instant lies beyond {NEWEST:%Y}: set the agent's clock")
    return heartbeat


def _decoded(decoder: msgspec.json.Decoder[T], body: bytes | str) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"not a heartbeat: {error}") from None
