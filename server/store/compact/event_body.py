"""The body of an event: all of it that its row's columns, its origin and the records of its bursts do not hold.

The body is MessagePack, an array with the fields of `Body`, without the last ones that are None, in some 25 bytes.
`seal` is the CRC-32 of the event's JSON, so that a change of what gives the event is noticed. An event that would not
come back to the last bit is stored as its JSON.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from policies.events import Event, Provenance, instant, microseconds
from server.store.compact.column_types import uuid_of, uuid_to_bytes

_PARTS = 10_000
"""A score or a margin is mostly a whole number of these parts of 1."""
_MICRO = 1_000_000
_VOTES = ("for", "against", "abstain", "missing")
_LOST = ""
"""The id of a burst whose record is lost."""


class Origin(msgspec.Struct, frozen=True, omit_defaults=True):
    """What many events have in common. `voters`: names of models in the order of their votes.

    An event of a schema before 0012 has what follows `voters` in its row and its body.
    """

    ensemble: str
    policy: str
    mask_digest: str | None
    voters: str
    kind: str | None = None
    label: str | None = None
    sector: str | None = None
    from_sector: str | None = None
    to_sector: str | None = None
    line: str | None = None
    direction: str | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of an event's row that its body does not repeat."""

    id: str
    site: str
    camera: str
    started_at_us: int
    confirmed_at_us: int


@dataclass(frozen=True, slots=True)
class Source:
    """A burst of an event, and the hashes of its frames: of its record if that is stored, else of its body alone."""

    burst_id: str
    hashes: Sequence[str] = ()


LOST = Source(_LOST)
"""In place of a burst whose record is lost."""


class Body(msgspec.Struct, frozen=True, array_like=True):
    """`uncertainty`, `score` and `margin` are whole numbers of small parts where that is exact. `votes`: two bits for
    each voter. `frames`: of each hash its index in the burst that settled the event, -1 - its index in the one before,
    or its bytes where no record has it. `ended`: us from the start. `before`: the id of the burst before, where no
    record has it.
    """

    seal: int
    uncertainty: int | float
    score: int | float | None
    votes: int
    frames: list[int | bytes]
    margin: int | float | None = None
    track: bytes | None = None
    ended: int | None = None
    before: bytes | None = None


class _Glance(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A body of which only the track or the end is wanted."""

    seal: Any
    uncertainty: Any
    score: Any
    votes: Any
    frames: msgspec.Raw
    margin: Any = None
    track: bytes | None = None
    ended: int | None = None


_origin = msgspec.json.Decoder(Origin)
_body = msgspec.msgpack.Decoder(Body)
_glance = msgspec.msgpack.Decoder(_Glance)
_pack = msgspec.msgpack.Encoder()
_json = msgspec.json.Encoder(order="deterministic")


def encode_origin(event: Event) -> str:
    """The JSON of what an event has in common with others."""
    source = event.provenance
    shared = {name: getattr(event, name) for name in Origin.__struct_fields__[4:]}
    voters = ",".join(sorted(event.votes))
    return _json.encode(Origin(source.ensemble, source.policy, source.mask_digest, voters, **shared)).decode()


@lru_cache(maxsize=1024)
def decode_origin(text: str) -> Origin:
    return _origin.decode(text)


def seal_of(event: Event) -> int:
    return zlib.crc32(_json.encode(event))


def pack_event(
    event: Event, columns: Columns, own: Source, before: Source | None, seal: int | None = None
) -> bytes | None:
    """The body of an event; None if it and the rest would not give the event back to the last bit.

    `own` is the burst that settled it. `before`: the burst before it, if a record of that holds it. `seal`: that
    of the event as it was packed first, of which something may be lost since.
    """
    try:
        body = _packed(event, columns, own, before, seal_of(event) if seal is None else seal)
        if _json.encode(unpack_event(body, columns, decode_origin(encode_origin(event)), own, before)) == _json.encode(
            event
        ):
            return body
    except (ValueError, LookupError, OverflowError):
        pass
    return None


def unpack_event(body: bytes, columns: Columns, origin: Origin, own: Source, before: Source | None) -> Event:
    """The event that was packed; another one if something that gives it was changed or lost since (`is_intact`)."""
    return event_of(_body.decode(body), columns, origin, own, before)


def event_of(packed: Body, columns: Columns, origin: Origin, own: Source, before: Source | None) -> Event:
    """As `unpack_event`, of a body that is decoded."""
    if before is None and packed.before is not None:
        before = Source(uuid_of(packed.before))
    ended = packed.ended
    return Event(
        id=columns.id,
        kind=origin.kind,  # type: ignore[arg-type]  # an origin that somebody changed is noticed by the seal
        site=columns.site,
        camera=columns.camera,
        label=origin.label or "",
        sector=origin.sector,
        from_sector=origin.from_sector,
        to_sector=origin.to_sector,
        line=origin.line,
        direction=origin.direction,
        started_at=instant(columns.started_at_us),
        ended_at=None if ended is None else instant(columns.started_at_us + ended),
        confirmed_at=instant(columns.confirmed_at_us),
        time_uncertainty_s=_float(packed.uncertainty, _MICRO),
        track=None if packed.track is None else _track_of(packed.track),
        score=None if packed.score is None else _float(packed.score, _PARTS),
        votes=_votes(origin.voters, packed.votes),
        margin=None if packed.margin is None else _float(packed.margin, _PARTS),
        provenance=Provenance(
            burst_ids=(own.burst_id,) if before is None else (before.burst_id, own.burst_id),
            frame_sha256=tuple(_hashes(packed.frames, own.hashes, () if before is None else before.hashes)),
            ensemble=origin.ensemble,
            policy=origin.policy,
            mask_digest=origin.mask_digest,
        ),
    )


def is_intact(body: bytes, event: Event) -> bool:
    """Whether an event that `unpack_event` gave is the one that was packed."""
    return seal_in(body) == seal_of(event)


def seal_in(body: bytes) -> int:
    """The seal of the event that was packed."""
    return _body.decode(body).seal


def lasts_in(bodies: Iterable[bytes]) -> list[int | None]:
    """How long the events that were packed lasted (us); None for one without an end."""
    decode = _glance.decode
    return [decode(body).ended for body in bodies]


def track_in(body: bytes) -> str | None:
    """The track of the event that was packed."""
    track = _glance.decode(body).track
    return None if track is None else _track_of(track)


def _packed(event: Event, columns: Columns, own: Source, before: Source | None, seal: int) -> bytes:
    source = event.provenance
    others = [burst_id for burst_id in source.burst_ids if burst_id != own.burst_id]
    body = Body(
        seal=seal,
        uncertainty=_whole(event.time_uncertainty_s, _MICRO),
        score=None if event.score is None else _whole(event.score, _PARTS),
        votes=packed_votes(event.votes[voter] for voter in sorted(event.votes)),
        frames=[_place(sha256, own.hashes, () if before is None else before.hashes) for sha256 in source.frame_sha256],
        margin=None if event.margin is None else _whole(event.margin, _PARTS),
        track=None if event.track is None else _track(event.track),
        ended=None if event.ended_at is None else microseconds(event.ended_at) - columns.started_at_us,
        before=uuid_to_bytes(others[0]) if others and before is None else None,
    )
    fields: list[Any] = list(msgspec.structs.astuple(body))
    while fields[-1] is None:
        fields.pop()
    return _pack.encode(fields)


def _place(sha256: str, own: Sequence[str], before: Sequence[str]) -> int | bytes:
    if sha256 in own:
        return own.index(sha256)
    if sha256 in before:
        return -1 - before.index(sha256)
    return bytes.fromhex(sha256)


def _hashes(frames: Sequence[int | bytes], own: Sequence[str], before: Sequence[str]) -> Iterator[str]:
    for frame in frames:
        if isinstance(frame, bytes):
            yield frame.hex()
            continue
        known, index = (own, frame) if frame >= 0 else (before, -1 - frame)
        if index < len(known):  # else the record is lost
            yield known[index]


def packed_votes(votes: Iterable[str]) -> int:
    """Two bits for each vote, in the order of the voters."""
    return sum(_VOTES.index(vote) << 2 * i for i, vote in enumerate(votes))


@lru_cache(maxsize=1024)
def _votes(voters: str, packed: int) -> dict[str, str]:
    names = voters.split(",") if voters else []
    return {voter: _VOTES[packed >> 2 * i & 3] for i, voter in enumerate(names)}


def _whole(value: float, parts: int) -> int | float:
    whole = round(value * parts)
    return whole if repr(_float(whole, parts)) == repr(value) and abs(whole) < 2**53 else float(value)


def _float(value: float, parts: int) -> float:
    """The number that a whole number of parts of 1 stands for; a float as it is."""
    return value / parts if isinstance(value, int) else value


def _track(track: str) -> bytes:
    """The bytes of a track's hexadecimal digits; another name, after a NUL."""
    try:
        raw = bytes.fromhex(track)
    except ValueError:
        raw = b""
    return raw if raw.hex() == track and raw and raw[0] else b"\0" + track.encode()


def _track_of(raw: bytes) -> str:
    """The name of a track that a body holds as bytes."""
    return raw[1:].decode() if raw[:1] == b"\0" else raw.hex()
