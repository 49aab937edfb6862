"""Small forms of what the event log repeats: types of columns, and the body of an event."""

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

__all__ = [
    "BurstId",
    "Columns",
    "EventId",
    "decode_origin",
    "encode_origin",
    "is_intact",
    "pack_event",
    "unpack_event",
]
