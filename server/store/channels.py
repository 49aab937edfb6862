"""How far each channel has got with the outbox, and who may send on it."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, cast

from sqlalchemy import Connection, Select, exists, insert, literal, or_, select, update

from server.domain.clock import SECOND_US
from server.domain.records import Announcement, Notice, NoticeGiven, Outgoing, What
from server.store.engine import reading, writing
from server.store.event_rows import EVENT_COLUMNS, logged, read_rows
from server.store.outbox import last_seq
from server.store.rows import Part, noticed
from server.store.schema import channels, events, notices, outbox

LONGEST_CLAIM_US = 3600 * SECOND_US
"""No lease and no pause is longer. One that ends later was written by a clock that was set back since, and is
ignored.
"""


class Channels(Part):
    """The channels' half of `Store`."""

    def add_channel(self, name: str, from_start: bool = True) -> None:
        """Register a channel, if it is not. It gets the whole outbox or, without `from_start`, what comes from now
        on.
        """
        with writing(self._engine, lock="channels") as connection:
            if connection.execute(select(channels.c.name).where(channels.c.name == name)).first() is None:
                delivered_seq = 0 if from_start else last_seq(connection)
                connection.execute(
                    insert(channels),
                    {"name": name, "delivered_seq": delivered_seq, "claimed_until_us": 0, "attempts": 0},
                )

    def claim(self, channel: str, claimant: str, lease_us: int, limit: int) -> list[Outgoing]:
        """The next announcements for a channel in order of `seq`, and the sole right to send them during the lease.

        Empty when there is nothing to send, or another claimant holds the lease. The claimant may claim again.
        """
        pending = (_pending_new(channel), _pending_again(channel), _pending_notices(channel))
        with reading(self._engine) as connection:
            if not any(_is_any(connection, query) for query in pending):
                return []
        now = self._clock()
        with writing(self._engine, lock="channels") as connection:
            if not _take(connection, channel, claimant, now, now + lease_us):
                return []
        found: list[Outgoing] = []
        try:
            with reading(self._engine) as connection:  # SQLite commits nothing after it has read a damaged page
                found = _read_pending(connection, channel, limit)
        finally:
            if not found:  # another process has just sent them
                with writing(self._engine, lock="channels") as connection:
                    _release(connection, channel, claimant, claimed_until_us=0)
        return found

    def delivered(self, channel: str, claimant: str, seq: int) -> None:
        """Everything up to `seq` is sent on this channel. The lease ends."""
        with writing(self._engine, lock="channels") as connection:
            _release(connection, channel, claimant, delivered_seq=seq, attempts=0, claimed_until_us=0)

    def undelivered(self, channel: str, claimant: str, seq: int | None, failures: int, wait_us: int) -> None:
        """Sending failed after `seq` (None: at once), `failures` times in a row. Nobody sends for `wait_us`."""
        progress = {} if seq is None else {"delivered_seq": seq}
        until_us = self._clock() + wait_us
        with writing(self._engine, lock="channels") as connection:
            _release(connection, channel, claimant, attempts=failures, claimed_until_us=until_us, **progress)

    def failures(self, channel: str) -> int:
        """How many times in a row sending on this channel has failed."""
        row = self._row(select(channels.c.attempts).where(channels.c.name == channel))
        return row.attempts if row else 0


def _take(connection: Connection, channel: str, claimant: str, now_us: int, until_us: int) -> bool:
    """Take the lease if it is free or the claimant's own."""
    until = channels.c.claimed_until_us
    free = or_(until <= now_us, until > now_us + LONGEST_CLAIM_US, channels.c.claimed_by == claimant)
    mine = update(channels).where(channels.c.name == channel, free)
    return connection.execute(mine.values(claimed_by=claimant, claimed_until_us=until_us)).rowcount == 1


def _read_pending(connection: Connection, channel: str, limit: int) -> list[Outgoing]:
    """The next announcements for a channel in order. The connection sees one instant: numbers are committed in order,
    and a notice that was committed between two queries would pass an event that came before it.
    """
    pending: list[Outgoing] = [
        Announcement(row.announced, cast(What, row.what), logged(row))
        for query in (_pending_new(channel), _pending_again(channel))
        for row in read_rows(connection, query.limit(limit))
    ]
    pending += [
        NoticeGiven(row.seq, noticed(row)) for row in connection.execute(_pending_notices(channel).limit(limit))
    ]
    return sorted(pending, key=attrgetter("seq"))[:limit]


def _is_any(connection: Connection, query: Select[Any]) -> bool:
    """Whether a query has a row; no record is read for it."""
    number = next(iter(query.selected_columns))
    found = query.with_only_columns(number, maintain_column_froms=True).limit(1)
    return connection.execute(found).first() is not None


def _release(connection: Connection, channel: str, claimant: str, **values: Any) -> None:
    """End the claimant's lease. Nothing changes when another has taken it over."""
    mine = update(channels).where(channels.c.name == channel, channels.c.claimed_by == claimant)
    connection.execute(mine.values(claimed_by=None, **values))


def _pending_notices(channel: str) -> Select[Any]:
    return (
        select(*(notices.c[name] for name in Notice.__slots__))
        .join(channels, notices.c.seq > channels.c.delivered_seq)
        .where(channels.c.name == channel)
        .order_by(notices.c.seq)
    )


def _pending_new(channel: str) -> Select[Any]:
    """Events that were announced once, as new."""
    is_again = exists().where(outbox.c.seq == events.c.seq)
    return (
        select(events.c.seq.label("announced"), literal("event").label("what"), *EVENT_COLUMNS)
        .join(channels, events.c.seq > channels.c.delivered_seq)
        .where(channels.c.name == channel, ~is_again)
        .order_by(events.c.seq)
    )


def _pending_again(channel: str) -> Select[Any]:
    """Announcements of events that were announced more than once, or first as a correction."""
    return (
        select(outbox.c.seq.label("announced"), outbox.c.what, *EVENT_COLUMNS)
        .join(events, events.c.id == outbox.c.event_id)
        .join(channels, outbox.c.seq > channels.c.delivered_seq)
        .where(channels.c.name == channel)
        .order_by(outbox.c.seq)
    )
