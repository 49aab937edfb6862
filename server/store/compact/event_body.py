"""The body of an event: all of it that its row's columns and its origin do not hold, in a hundred bytes.

The body is MessagePack, an array with the fields of `_Body`, without the last ones that are None. `seal` is the CRC-32
of the event's JSON, so that a change of any column is noticed. An event that would not come back to the last bit is
stored as its JSON, as versions before 0.3 stored all of them.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from policies.events import Event, Provenance, instant, microseconds
from server.store.compact.column_types import uuid_of, uuid_to_bytes

_HASH_BYTES = 32
_PARTS = 10_000
"""A score or a margin is mostly a whole number of these parts of 1."""
_MICRO = 1_000_000
_VOTES = {"for": "+", "against": "-", "abstain": "0", "missing": "?"}
_VOTE_OF = {letter: vote for vote, letter in _VOTES.items()}
_JSON = b"{"


@dataclass(frozen=True, slots=True)
class Origin:
    """What many events have in common. `voters`: names of models in the order of their votes."""

    ensemble: str
    policy: str
    mask_digest: str | None
    voters: str


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of an event's row that its body does not repeat. `sector` is the destination of `moved`."""

    id: str
    site: str
    camera: str
    kind: str
    sector: str | None
    label: str
    started_at_us: int
    confirmed_at_us: int
    burst_id: str


class _Body(msgspec.Struct, frozen=True, array_like=True):
    """`uncertainty`, `score` and `margin` are whole numbers of small parts where that is exact. `votes`: a letter for
    each voter. `hashes`: of its frames, one after the other. `before`: the burst of the first frame, if it is another
    than that of the row. `places`: sector and to_sector, where they are not as `kind` has them. `ended`: us from the
    start.
    """

    seal: int
    uncertainty: int | float
    score: int | float | None
    votes: str
    hashes: bytes
    track: bytes | None = None
    margin: int | float | None = None
    direction: str | None = None
    ended: int | None = None
    before: bytes | None = None
    from_sector: str | None = None
    line: str | None = None
    places: tuple[str | None, str | None] | None = None


_event = msgspec.json.Decoder(Event)
_origin = msgspec.json.Decoder(Origin)
_body = msgspec.msgpack.Decoder(_Body)
_pack = msgspec.msgpack.Encoder()
_json = msgspec.json.Encoder(order="deterministic")


def origin_of(event: Event) -> Origin:
    source = event.provenance
    return Origin(source.ensemble, source.policy, source.mask_digest, ",".join(sorted(event.votes)))


def encode_origin(event: Event) -> str:
    """The JSON of what an event has in common with others."""
    return _json.encode(origin_of(event)).decode()


@lru_cache(maxsize=1024)
def decode_origin(text: str) -> Origin:
    return _origin.decode(text)


def pack_event(event: Event, columns: Columns) -> bytes:
    """The body of an event; its JSON if `columns` and `origin_of` would not give it back."""
    text = _json.encode(event)
    try:
        body = _packed(event, columns, zlib.crc32(text))
        if _json.encode(unpack_event(body, columns, origin_of(event))) == text:
            return body
    except (ValueError, KeyError, OverflowError):
        pass
    return text


def unpack_event(body: bytes, columns: Columns, origin: Origin | None) -> Event:
    """The event that was packed; another one if a column or the origin were changed since (`is_intact`)."""
    if origin is None or body.startswith(_JSON):
        return _event.decode(body)
    packed = _body.decode(body)
    hashes, ended = packed.hashes, packed.ended
    burst_ids = (columns.burst_id,) if packed.before is None else (uuid_of(packed.before), columns.burst_id)
    sector, to_sector = packed.places or _places(columns)
    return Event(
        id=columns.id,
        kind=columns.kind,  # type: ignore[arg-type]  # a column that somebody changed is noticed by the seal
        site=columns.site,
        camera=columns.camera,
        label=columns.label,
        sector=sector,
        from_sector=packed.from_sector,
        to_sector=to_sector,
        line=packed.line,
        direction=packed.direction,
        started_at=instant(columns.started_at_us),
        ended_at=None if ended is None else instant(columns.started_at_us + ended),
        confirmed_at=instant(columns.confirmed_at_us),
        time_uncertainty_s=_float(packed.uncertainty, _MICRO),
        track=None if packed.track is None else _track_of(packed.track),
        score=None if packed.score is None else _float(packed.score, _PARTS),
        votes=_votes(origin.voters, packed.votes),
        margin=None if packed.margin is None else _float(packed.margin, _PARTS),
        provenance=Provenance(
            burst_ids=burst_ids,
            frame_sha256=tuple(
                hashes[start : start + _HASH_BYTES].hex() for start in range(0, len(hashes), _HASH_BYTES)
            ),
            ensemble=origin.ensemble,
            policy=origin.policy,
            mask_digest=origin.mask_digest,
        ),
    )


@lru_cache(maxsize=1024)
def _votes(voters: str, letters: str) -> dict[str, str]:
    names = voters.split(",") if voters else []
    return {voter: _VOTE_OF[letter] for voter, letter in zip(names, letters, strict=True)}


def is_intact(body: bytes, event: Event) -> bool:
    """Whether an event that `unpack_event` gave is the one that was packed; of JSON nothing is known, so yes."""
    return body.startswith(_JSON) or _body.decode(body).seal == zlib.crc32(_json.encode(event))


def _packed(event: Event, columns: Columns, seal: int) -> bytes:
    source = event.provenance
    before = [burst_id for burst_id in source.burst_ids if burst_id != columns.burst_id]
    places = (event.sector, event.to_sector)
    body = _Body(
        seal=seal,
        uncertainty=_whole(event.time_uncertainty_s, _MICRO),
        score=None if event.score is None else _whole(event.score, _PARTS),
        votes="".join(_VOTES[event.votes[voter]] for voter in sorted(event.votes)),
        hashes=b"".join(map(bytes.fromhex, source.frame_sha256)),
        track=None if event.track is None else _track(event.track),
        margin=None if event.margin is None else _whole(event.margin, _PARTS),
        direction=event.direction,
        ended=None if event.ended_at is None else microseconds(event.ended_at) - columns.started_at_us,
        before=uuid_to_bytes(before[0]) if before else None,
        from_sector=event.from_sector,
        line=event.line,
        places=None if places == _places(columns) else places,
    )
    fields: list[Any] = list(msgspec.structs.astuple(body))
    while fields[-1] is None:
        fields.pop()
    return _pack.encode(fields)


def _places(columns: Columns) -> tuple[str | None, str | None]:
    """Sector and to_sector, as most events of a kind have them."""
    return (None, columns.sector) if columns.kind == "moved" else (columns.sector, None)


def _whole(value: float, parts: int) -> int | float:
    whole = round(value * parts)
    return whole if repr(_float(whole, parts)) == repr(value) and abs(whole) < 2**53 else float(value)


def _float(value: float, parts: int) -> float:
    return value / parts if isinstance(value, int) else value


def _track(track: str) -> bytes:
    """The bytes of a track's hexadecimal digits; another name, after a NUL."""
    try:
        raw = bytes.fromhex(track)
    except ValueError:
        raw = b""
    return raw if raw.hex() == track and raw and raw[0] else b"\0" + track.encode()


def _track_of(raw: bytes) -> str:
    return raw[1:].decode() if raw[:1] == b"\0" else raw.hex()
