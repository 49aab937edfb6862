"""Small forms of what the event log repeats: types of columns, the body of an event. And a state."""

from __future__ import annotations

from server.store.compact.column_types import BurstId, EventId
from server.store.compact.event_body import (
    LOST,
    Columns,
    Origin,
    Source,
    decode_origin,
    encode_origin,
    is_intact,
    lasts_in,
    pack_event,
    seal_in,
    seal_of,
    track_in,
    unpack_event,
)
from server.store.compact.old_event_body import OldColumns, old_seal, unpack_old_event
from server.store.compact.state import pack_state, unpack_state

__all__ = [
    "LOST",
    "BurstId",
    "Columns",
    "EventId",
    "OldColumns",
    "Origin",
    "Source",
    "decode_origin",
    "encode_origin",
    "is_intact",
    "lasts_in",
    "old_seal",
    "pack_event",
    "pack_state",
    "seal_in",
    "seal_of",
    "track_in",
    "unpack_event",
    "unpack_old_event",
    "unpack_state",
]
