"""The bodies of events that versions before schema 0013 stored: read, and not written any more.

Such a body is MessagePack, an array with the fields of `_Body`, without the last ones that are None; before 0.3 it was
the event's JSON.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from policies.events import Event
from server.store.compact.event_body import Body, Columns, Origin, Source, event_of, packed_votes

_HASH_BYTES = 32
_VOTE_OF = {"+": "for", "-": "against", "0": "abstain", "?": "missing"}
_JSON = b"{"


@dataclass(frozen=True, slots=True)
class OldColumns:
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
_body = msgspec.msgpack.Decoder(_Body)


def unpack_old_event(body: bytes, columns: OldColumns, origin: Origin | None) -> Event:
    """The event that was packed; another one if a column or the origin were changed since."""
    if origin is None or body.startswith(_JSON):
        return _event.decode(body)
    packed = _body.decode(body)
    sector, to_sector = packed.places or _places(columns)
    shared = msgspec.structs.replace(
        origin,
        kind=columns.kind,
        label=columns.label,
        sector=sector,
        from_sector=packed.from_sector,
        to_sector=to_sector,
        line=packed.line,
        direction=packed.direction,
    )
    return event_of(
        Body(
            seal=packed.seal,
            uncertainty=packed.uncertainty,
            score=packed.score,
            votes=packed_votes(_VOTE_OF[letter] for letter in packed.votes),
            frames=[packed.hashes[i : i + _HASH_BYTES] for i in range(0, len(packed.hashes), _HASH_BYTES)],
            margin=packed.margin,
            track=packed.track,
            ended=packed.ended,
            before=packed.before,
        ),
        Columns(columns.id, columns.site, columns.camera, columns.started_at_us, columns.confirmed_at_us),
        shared,
        Source(columns.burst_id),
        None,
    )


def old_seal(body: bytes) -> int | None:
    """The CRC-32 of the JSON of the event that was packed; None for one that is JSON."""
    return None if body.startswith(_JSON) else _body.decode(body).seal


def _places(columns: OldColumns) -> tuple[str | None, str | None]:
    """Sector and to_sector, as most events of a kind have them."""
    return (None, columns.sector) if columns.kind == "moved" else (columns.sector, None)
