"""The server's half of the wire: bytes in, a `Burst` that is known to be sound out.

The envelope is JSON and may grow: keys this version does not know are ignored, so that a newer agent can talk
to an older server. What is known is checked to the letter, and an error says which frame is at fault.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from policies.events import microseconds
from server.domain.errors import Malformed, TooLarge, Unprocessable

_OLDEST = datetime(2000, 1, 1, tzinfo=UTC)
NEWEST = datetime(2200, 1, 1, tzinfo=UTC)
"""No clock that anybody set is there yet, and not all that is reckoned from a later instant can be told as one."""
_BURST_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{7,63}")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

UNSYNCED_UNCERTAINTY_S = 3600.0
"""Taken as the error of a clock that was not synchronised and does not say how wrong it may be."""

_Aware = Annotated[datetime, msgspec.Meta(tz=True)]
_Word = Annotated[str, msgspec.Meta(max_length=128)]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one burst may hold. `max_span_s` is the longest time from its first frame to its last."""

    max_frames: int = 64
    max_frame_bytes: int = 16 * 1024 * 1024
    max_span_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Frame:
    """One JPEG as received, its SHA-256 in hex, and its instant in microseconds of Unix time."""

    image: bytes
    sha256: str
    at_us: int


class CameraClock(msgspec.Struct, frozen=True):
    """What the agent knows of its own clock when it took the burst.

    `monotonic_ms` counts since the boot named `boot_id`. `uncertainty_s` bounds the error of `captured_at`.
    """

    synced: bool = True
    boot_id: _Word | None = None
    monotonic_ms: Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)] | None = None
    uncertainty_s: Annotated[float, msgspec.Meta(ge=0)] | None = None

    @property
    def error_s(self) -> float:
        """The bound that observations of this burst carry, in seconds."""
        if self.uncertainty_s is not None:
            return self.uncertainty_s
        return 0.0 if self.synced else UNSYNCED_UNCERTAINTY_S


class Agent(msgspec.Struct, frozen=True):
    """Who sent the burst, and when it was sent: differs from one sending to the next, so it identifies nothing."""

    version: _Word | None = None
    sent_at: _Aware | None = None


@dataclass(frozen=True, slots=True)
class Burst:
    """Frames of one camera in order. `digest` names what was seen and when: the same for every sending of it."""

    burst_id: str
    site: str
    camera: str
    reason: str
    captured_at_us: int
    frames: tuple[Frame, ...]
    clock: CameraClock
    mask_digest: str | None
    agent: Agent
    digest: str


class Envelope(msgspec.Struct, frozen=True):
    burst_id: str
    site: str
    camera: str
    captured_at: _Aware
    offsets_ms: list[int]
    frame_sha256: list[str]
    reason: Annotated[str, msgspec.Meta(max_length=64)] = "schedule"
    clock: CameraClock = CameraClock()
    mask_digest: _Word | None = None
    agent: Agent = Agent()


def decode_burst(envelope: bytes, files: Sequence[bytes], limits: Limits) -> Burst:
    """The burst that `envelope` (the part `burst`) and `files` (the parts `file`, in order) describe.

    Raises Malformed for an envelope that is not of the form, TooLarge beyond `limits`, Unprocessable for one whose
    parts do not fit together: counts that differ, no frame at all, times out of order, bytes other than their
    SHA-256 says. `frame` of the error is the index of the frame at fault.
    """
    told = _decode(envelope)
    _check_names(told)
    _check_counts(told, files, limits)
    _check_times(told, limits)
    captured_at_us = microseconds(told.captured_at)
    frames = tuple(
        Frame(image, _checked(index, image, said, limits), captured_at_us + offset * 1000)
        for index, (image, said, offset) in enumerate(zip(files, told.frame_sha256, told.offsets_ms, strict=True))
    )
    return Burst(
        burst_id=told.burst_id,
        site=told.site,
        camera=told.camera,
        reason=told.reason,
        captured_at_us=captured_at_us,
        frames=frames,
        clock=told.clock,
        mask_digest=told.mask_digest,
        agent=told.agent,
        digest=_digest(told, captured_at_us),
    )


def _decode(envelope: bytes) -> Envelope:
    try:
        return msgspec.json.decode(envelope, type=Envelope)
    except msgspec.ValidationError as error:
        raise Malformed(f"the part `burst` is not a burst's envelope: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the part `burst` is not JSON: {error}") from None


def _check_names(told: Envelope) -> None:
    if not _BURST_ID.fullmatch(told.burst_id):
        raise Malformed("`burst_id` must be 8 to 64 letters, digits, - or _, beginning with a letter or digit")
    for key, name in (("site", told.site), ("camera", told.camera)):
        if not NAME.fullmatch(name):
            raise Malformed(f"`{key}` must be 1 to 63 lower-case letters, digits, - or _, not {name[:80]!r}")


def _check_counts(told: Envelope, files: Sequence[bytes], limits: Limits) -> None:
    if not files:
        raise Unprocessable("the burst is empty: send at least one part `file`")
    if len(files) > limits.max_frames:
        raise TooLarge(
            f"the burst holds {len(files)} frames, this server takes at most {limits.max_frames}",
            frame=limits.max_frames,
        )
    for key, count in (("offsets_ms", len(told.offsets_ms)), ("frame_sha256", len(told.frame_sha256))):
        if count != len(files):
            raise Unprocessable(
                f"`{key}` names {count} frames but {len(files)} parts `file` came", frame=min(count, len(files))
            )


def _check_times(told: Envelope, limits: Limits) -> None:
    if not _OLDEST <= told.captured_at < NEWEST:
        raise Unprocessable(f"`captured_at` {told.captured_at.isoformat()} is of a clock that was never set", frame=0)
    last = -1
    for index, offset in enumerate(told.offsets_ms):
        if offset < 0:
            raise Unprocessable(f"`offsets_ms` {offset} lies before the burst began", frame=index)
        if offset <= last:
            raise Unprocessable(f"`offsets_ms` {offset} does not come after {last}", frame=index)
        if offset > limits.max_span_s * 1000:
            raise Unprocessable(
                f"`offsets_ms` {offset} lies more than {limits.max_span_s:g} s after the start", frame=index
            )
        last = offset


def _checked(index: int, image: bytes, said: str, limits: Limits) -> str:
    if not image:
        raise Unprocessable("the part `file` is empty", frame=index)
    if len(image) > limits.max_frame_bytes:
        raise TooLarge(f"{len(image)} bytes in one frame, at most {limits.max_frame_bytes} are taken", frame=index)
    if not _SHA256.fullmatch(said):
        raise Malformed("`frame_sha256` must be 64 hexadecimal digits in lower case", frame=index)
    true = hashlib.sha256(image).hexdigest()
    if true != said:
        raise Unprocessable(f"the bytes have SHA-256 {true}, the envelope says {said}", frame=index)
    return true


def _digest(told: Envelope, captured_at_us: int) -> str:
    return burst_digest(
        told.burst_id,
        told.site,
        told.camera,
        captured_at_us,
        told.offsets_ms,
        told.frame_sha256,
        told.mask_digest,
    )


def burst_digest(
    burst_id: str,
    site: str,
    camera: str,
    captured_at_us: int,
    offsets_ms: Sequence[int],
    frame_sha256: Sequence[str],
    mask_digest: str | None,
) -> str:
    """Over what was seen, where and when; not over what a second sending may tell anew (clock, reason, agent)."""
    facts = (burst_id, site, camera, captured_at_us, list(offsets_ms), list(frame_sha256), mask_digest)
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()
