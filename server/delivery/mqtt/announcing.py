"""What an announcement of the outbox becomes: messages that are never retained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from policies.events import Event, microseconds
from server.delivery.lines import json_line
from server.delivery.mqtt.discovery import MOVEMENTS, SECTOR_MOVEMENTS
from server.delivery.mqtt.session import Message
from server.delivery.mqtt.topics import Topics
from server.domain.announcements import Announcement, NoticeGiven
from server.domain.records import LoggedEvent
from server.domain.times.clock import SECOND_US


def event_messages(topics: Topics, announcement: Announcement, now_us: int, fresh_s: float) -> Iterator[Message]:
    """An event in the schema of all channels and, while it is fresh, as movement of Home Assistant's entities.

    Automations act on movement, so what is older than `fresh_s`, a correction or a withdrawal is none.
    """
    event = announcement.logged.event
    yield Message(topics.event, json_line(announcement.logged).encode())
    is_fresh = now_us - microseconds(event.at) <= fresh_s * SECOND_US
    if announcement.what != "event" or not is_fresh or event.kind not in MOVEMENTS:
        return
    place = topics.place(event.site, event.camera)
    payload = msgspec.json.encode(_movement(announcement.logged))
    yield Message(place.movement, payload)
    if event.kind in SECTOR_MOVEMENTS:
        yield from (Message(place.sector_movement(sector), payload) for sector in _sectors(event))


def notice_messages(topics: Topics, given: NoticeGiven, now_us: int, fresh_s: float) -> Iterator[Message]:
    """A notice of the server in the schema of all channels and, while it is fresh, for Home Assistant's entity."""
    notice = given.notice
    yield Message(topics.notice, json_line(notice).encode())
    if now_us - notice.at_us <= fresh_s * SECOND_US:
        told = notice.as_wire()
        yield Message(topics.server_notice, msgspec.json.encode({"event_type": told.pop("kind"), **told}))


def _sectors(event: Event) -> Iterator[str]:
    yield from dict.fromkeys(name for name in (event.sector, event.from_sector, event.to_sector) if name)


def _movement(logged: LoggedEvent) -> dict[str, Any]:
    event = logged.event
    return {
        "event_type": event.kind,
        "event_id": event.id,
        "site": event.site,
        "camera": event.camera,
        "label": event.label,
        "sector": event.sector,
        "from_sector": event.from_sector,
        "to_sector": event.to_sector,
        "line": event.line,
        "direction": event.direction,
        "started_at": event.started_at,
        "confirmed_at": event.confirmed_at,
        "track": event.track,
        "score": event.score,
        "late": logged.late,
    }
