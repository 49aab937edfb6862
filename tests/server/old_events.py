"""Events in the form that versions before 0.3 stored."""

from __future__ import annotations

import msgspec
from sqlalchemy import update

from server.store import Store
from server.store.schema import events


def unpack_bodies(store: Store) -> None:
    """Give all events the body of before, and columns beside it that repeat it."""
    with store._engine.begin() as connection:
        for logged in store.events(withdrawn=True):
            event = logged.event
            values = {
                "kind": event.kind,
                "sector": event.sector or event.to_sector,
                "label": event.label,
                "burst": None,
                "before": None,
                "burst_id": logged.burst_id,
                "origin": None,
                "body": msgspec.json.encode(event, order="deterministic"),
            }
            connection.execute(update(events).where(events.c.id == event.id).values(values))
