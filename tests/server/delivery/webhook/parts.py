"""Channels of webhooks to a receiver on loopback, and a store with many events for them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import insert, select

from policies.events import Event, Kind, event_id, instant
from server.delivery.dispatcher import Dispatcher
from server.delivery.surroundings import Surroundings
from server.delivery.webhook.channel import WebhookChannel
from server.delivery.webhook.samples import samples
from server.domain.announcements import Announcement
from server.domain.keeping import Gone
from server.domain.records import LoggedEvent, Settled
from server.domain.times.local_time import LocalTime
from server.settings.channels import WebhookSettings
from server.store import Store
from server.store.engine import writing
from server.store.events.rewriting import rewrite_log
from server.store.schema import cameras
from tests.server.scenes import START_US
from tests.stand_ins import ManualClock


def settings(url: str, **more: Any) -> WebhookSettings:
    """The settings of a channel, converted as those of a file are; to private addresses, unless told otherwise."""
    table = {"url": url, "allow_private": True, **more}
    return msgspec.convert({"kind": "webhook", **table}, WebhookSettings, dec_hook=lambda kind, value: kind(value))


def channel(url: str, clock: ManualClock | None = None, *, console_url: str = "", **more: Any) -> WebhookChannel:
    return WebhookChannel("hook", settings(url, **more), surroundings(clock or ManualClock(START_US), console_url))


def surroundings(clock: ManualClock, console_url: str = "") -> Surroundings:
    """A server without cameras."""
    return Surroundings(
        version="0",
        clock=clock,
        reports=lambda _site: (),
        policy=lambda _site: None,
        newest_frames=lambda _site: {},
        picture=lambda _sha256: None,
        local_time=lambda _site: LocalTime(),
        waiting=lambda: 0,
        erasures=lambda: (),
        kept_events=frozenset,
        console_url=console_url,
    )


def announced(kind: Kind = "entered", seq: int = 1, **changes: Any) -> Announcement:
    """An announcement of a new event at the yard, with some of its fields changed."""
    (sample, _) = samples([kind], notices=False, at=instant(START_US))
    assert isinstance(sample, Announcement)
    event = msgspec.structs.replace(sample.logged.event, **changes)
    return Announcement(seq, "event", LoggedEvent(seq, event, late=False, withdrawn_at_us=None, burst_id="b"))


def fill(store: Store, count: int) -> None:
    """Make so many events those of one camera, as one turn of it does."""
    first = announced().logged.event
    with writing(store._engine, lock="turn") as connection:
        if not connection.execute(select(cameras)).first():
            connection.execute(insert(cameras), {"site": "yard", "camera": "gate", "longest_us": 0})
        settled = [Settled(_moved(first, number), "burst", 0) for number in range(count)]
        rewrite_log(connection, "yard", "gate", None, settled, None, START_US, lambda: Gone("yard", "gate"))


def _moved(event: Event, number: int) -> Event:
    at = event.started_at + timedelta(seconds=number)
    return msgspec.structs.replace(
        event, id=event_id(number), started_at=at, confirmed_at=at + timedelta(milliseconds=500)
    )


def drained(dispatcher: Dispatcher) -> None:
    while dispatcher.drain_once():
        pass


def ids(store: Store) -> list[str]:
    """The ids of the messages about the store's events, in the order of their announcement."""
    return [f"{each.event.id}-{each.seq}" for each in store.events(after_seq=0)]
