"""The server's half of the wire: decodes a burst and checks it.

The envelope is JSON. Unknown keys are ignored, so that a newer agent can talk to an older server. Known keys are
checked strictly, and an error names the frame at fault.
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
from policies.site.toml_errors import NAME
from server.domain.errors import Malformed, TooLarge, Unprocessable

_OLDEST = datetime(2000, 1, 1, tzinfo=UTC)
NEWEST = datetime(2200, 1, 1, tzinfo=UTC)
"""No clock that is set lies beyond, and times computed from a later instant may not fit a datetime."""
_BURST_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{7,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

UNSYNCED_UNCERTAINTY_S = 3600.0
"""The assumed error of a clock that is not synchronised and gives no bound."""

Aware = Annotated[datetime, msgspec.Meta(tz=True)]
_Word = Annotated[str, msgspec.Meta(max_length=128)]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one burst. `max_span_s` is the longest time from its first frame to its last."""

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
    """The agent's clock at the time of the burst.

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
    """The sender and the time of sending. They differ between uploads of one burst, so its digest leaves them out."""

    version: _Word | None = None
    sent_at: Aware | None = None


@dataclass(frozen=True, slots=True)
class Burst:
    """Frames of one camera in order. `digest` covers what was seen and when, and is the same for every upload of it."""

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
    captured_at: Aware
    offsets_ms: list[int]
    frame_sha256: list[str]
    reason: Annotated[str, msgspec.Meta(max_length=64)] = "schedule"
    clock: CameraClock = CameraClock()
    mask_digest: _Word | None = None
    agent: Agent = Agent()


_envelope = msgspec.json.Decoder(Envelope)


def decode_burst(envelope: bytes, files: Sequence[bytes], limits: Limits) -> Burst:
    """The burst of `envelope` (the part `burst`) and `files` (the parts `file`, in order).

    Raises Malformed for an envelope of another form and TooLarge beyond `limits`. Raises Unprocessable where the parts
    do not fit: different counts, no frame, times out of order, bytes that do not match their SHA-256. The error's
    `frame` is the index of the frame at fault.
    """
    parsed = _decode(envelope)
    _check_names(parsed)
    _check_counts(parsed, files, limits)
    _check_times(parsed, limits)
    captured_at_us = microseconds(parsed.captured_at)
    frames = tuple(
        Frame(image, _checked(index, image, sha256, limits), captured_at_us + offset * 1000)
        for index, (image, sha256, offset) in enumerate(zip(files, parsed.frame_sha256, parsed.offsets_ms, strict=True))
    )
    return Burst(
        burst_id=parsed.burst_id,
        site=parsed.site,
        camera=parsed.camera,
        reason=parsed.reason,
        captured_at_us=captured_at_us,
        frames=frames,
        clock=parsed.clock,
        mask_digest=parsed.mask_digest,
        agent=parsed.agent,
        digest=burst_digest(
            parsed.burst_id,
            parsed.site,
            parsed.camera,
            captured_at_us,
            parsed.offsets_ms,
            parsed.frame_sha256,
            parsed.mask_digest,
        ),
    )


def _decode(envelope: bytes) -> Envelope:
    try:
        return _envelope.decode(envelope)
    except msgspec.ValidationError as error:
        raise Malformed(f"the part `burst` is not a burst's envelope: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the part `burst` is not JSON: {error}") from None


def _check_names(parsed: Envelope) -> None:
    if not _BURST_ID.fullmatch(parsed.burst_id):
        raise Malformed("`burst_id` must be 8 to 64 letters, digits, - or _, beginning with a letter or digit")
    for key, name in (("site", parsed.site), ("camera", parsed.camera)):
        if not NAME.fullmatch(name):
            raise Malformed(f"`{key}` must be 1 to 63 lower-case letters, digits, - or _, not {name[:80]!r}")


def _check_counts(parsed: Envelope, files: Sequence[bytes], limits: Limits) -> None:
    if not files:
        raise Unprocessable("the burst is empty: send at least one part `file`")
    if len(files) > limits.max_frames:
        raise TooLarge(
            f"the burst holds {len(files)} frames, this server takes at most {limits.max_frames}",
            frame=limits.max_frames,
        )
    for key, count in (("offsets_ms", len(parsed.offsets_ms)), ("frame_sha256", len(parsed.frame_sha256))):
        if count != len(files):
            raise Unprocessable(
                f"`{key}` names {count} frames but {len(files)} parts `file` came", frame=min(count, len(files))
            )


def _check_times(parsed: Envelope, limits: Limits) -> None:
    if not _OLDEST <= parsed.captured_at < NEWEST:
        raise Unprocessable(f"`captured_at` {parsed.captured_at.isoformat()} is of a clock that was never set", frame=0)
    last = -1
    for index, offset in enumerate(parsed.offsets_ms):
        if offset < 0:
            raise Unprocessable(f"`offsets_ms` {offset} lies before the burst began", frame=index)
        if offset <= last:
            raise Unprocessable(f"`offsets_ms` {offset} does not come after {last}", frame=index)
        if offset > limits.max_span_s * 1000:
            raise Unprocessable(
                f"`offsets_ms` {offset} lies more than {limits.max_span_s:g} s after the start", frame=index
            )
        last = offset


def _checked(index: int, image: bytes, claimed: str, limits: Limits) -> str:
    if not image:
        raise Unprocessable("the part `file` is empty", frame=index)
    if len(image) > limits.max_frame_bytes:
        raise TooLarge(f"{len(image)} bytes in one frame, at most {limits.max_frame_bytes} are taken", frame=index)
    if not _SHA256.fullmatch(claimed):
        raise Malformed("`frame_sha256` must be 64 hexadecimal digits in lower case", frame=index)
    true = hashlib.sha256(image).hexdigest()
    if true != claimed:
        raise Unprocessable(f"the bytes have SHA-256 {true}, the envelope says {claimed}", frame=index)
    return true


def burst_digest(
    burst_id: str,
    site: str,
    camera: str,
    captured_at_us: int,
    offsets_ms: Sequence[int],
    frame_sha256: Sequence[str],
    mask_digest: str | None,
) -> str:
    """Covers what was seen, where and when; not clock, reason and agent, which may differ when a burst is sent
    again.
    """
    facts = (burst_id, site, camera, captured_at_us, list(offsets_ms), list(frame_sha256), mask_digest)
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()
