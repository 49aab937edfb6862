"""A burst: frames of one camera taken together in order, and the envelope that describes them.

The envelope does not change after the burst is made, except for `agent.sent_at`, which is set at each sending. A burst
that is sent again has the same id.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Literal

import msgspec

from camera_agent import __version__
from camera_agent.clock import iso_ms

Reason = Literal["schedule", "gate", "heartbeat"]
"""Why a burst was taken: on schedule, because of motion, or to prove that the camera works."""


class Still(msgspec.Struct, frozen=True):
    """One JPEG and when it was taken, in milliseconds of a monotonic clock."""

    jpeg: bytes
    at_ms: int


class ClockReading(msgspec.Struct, frozen=True):
    """How sure the instants are. `monotonic_ms` is the first frame's, within the boot `boot_id`; `uncertainty_s` bounds
    the error of `captured_at` (null: unknown).
    """

    synced: bool
    boot_id: str
    monotonic_ms: int
    uncertainty_s: float | None = None


class Sender(msgspec.Struct, frozen=True):
    """The agent's version, and when this sending began (null while the burst waits)."""

    version: str = __version__
    sent_at: str | None = None


class Envelope(msgspec.Struct, frozen=True):
    """The `burst` part of the request."""

    burst_id: str
    site: str
    camera: str
    reason: Reason
    captured_at: str
    offsets_ms: tuple[int, ...]
    clock: ClockReading
    frame_sha256: tuple[str, ...]
    mask_digest: str | None = None
    agent: Sender = Sender()

    def sent(self, unix_ms: int) -> Envelope:
        """The same envelope, sent at `unix_ms`."""
        sender = msgspec.structs.replace(self.agent, sent_at=iso_ms(unix_ms))
        return msgspec.structs.replace(self, agent=sender)


class Burst(msgspec.Struct, frozen=True):
    """An envelope and the JPEGs it lists, in the same order."""

    envelope: Envelope
    frames: tuple[bytes, ...]


def make_burst(
    stills: Sequence[Still],
    *,
    burst_id: str,
    site: str,
    camera: str,
    captured_ms: int,
    clock: ClockReading,
    reason: Reason = "schedule",
    mask_digest: str | None = None,
) -> Burst:
    """A burst of stills, oldest first; the first one was taken at `captured_ms` of Unix time.

    Offsets strictly increase: frames within one millisecond are set 1 ms apart. Raises `ValueError` for no stills, or
    stills out of order.
    """
    if not stills:
        raise ValueError("a burst has at least one frame")
    envelope = Envelope(
        burst_id=burst_id,
        site=site,
        camera=camera,
        reason=reason,
        captured_at=iso_ms(captured_ms),
        offsets_ms=_offsets([still.at_ms for still in stills]),
        clock=clock,
        frame_sha256=tuple(hashlib.sha256(still.jpeg).hexdigest() for still in stills),
        mask_digest=mask_digest,
    )
    return Burst(envelope=envelope, frames=tuple(still.jpeg for still in stills))


def new_burst_id(unix_ms: int) -> str:
    """A new id that sorts by time: UUID version 7 (RFC 9562, section 5.7), 48 bits of time and 74 random."""
    value = (unix_ms & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76 | secrets.randbits(12) << 64
    value |= 0b10 << 62 | secrets.randbits(62)
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _offsets(instants_ms: Sequence[int]) -> tuple[int, ...]:
    if any(later < earlier for earlier, later in pairwise(instants_ms)):
        raise ValueError("the frames of a burst are in the order of their instants")
    increasing_ms = accumulate(instants_ms, lambda last_ms, at_ms: max(at_ms, last_ms + 1))
    return tuple(at_ms - instants_ms[0] for at_ms in increasing_ms)
