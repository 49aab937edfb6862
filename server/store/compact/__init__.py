"""Small forms of what the event log repeats: types of columns, the body of an event. And a state."""

from __future__ import annotations

from server.store.compact.column_types import BurstId, EventId
from server.store.compact.event_body import (
    Columns,
    decode_origin,
    encode_origin,
    is_intact,
    pack_event,
    unpack_event,
)
from server.store.compact.state import pack_state, unpack_state

__all__ = [
    "BurstId",
    "Columns",
    "EventId",
    "decode_origin",
    "encode_origin",
    "is_intact",
    "pack_event",
    "pack_state",
    "unpack_event",
    "unpack_state",
]
