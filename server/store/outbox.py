"""The outbox as SQL: numbers, announcements, and how far each channel has got with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import Connection, Select, func, insert, or_, select, update

from server.records import Announcement, What
from server.store.rows import EVENT_COLUMNS, logged
from server.store.schema import channels, counters, events, outbox


def announce(connection: Connection, said: Sequence[tuple[str, What]], now_us: int) -> range:
    """Write announcements (event id, what) and give their numbers.

    The counter's row stays locked to the end of the transaction, so numbers become visible in their order.
    """
    statement = (
        update(counters)
        .where(counters.c.name == "outbox")
        .values(value=counters.c.value + len(said))
        .returning(counters.c.value)
    )
    last: int = connection.execute(statement).scalar_one()
    numbers = range(last - len(said) + 1, last + 1)
    connection.execute(
        insert(outbox),
        [
            {"seq": seq, "event_id": event_id, "what": what, "at_us": now_us}
            for seq, (event_id, what) in zip(numbers, said, strict=True)
        ],
    )
    return numbers


def last_seq(connection: Connection) -> int:
    """The newest number; 0 when nothing was ever announced."""
    return connection.execute(select(func.max(outbox.c.seq))).scalar_one() or 0


def add_channel(connection: Connection, name: str, delivered_seq: int) -> None:
    """Make a channel known that has got as far as `delivered_seq`; one that is known stays where it is."""
    if connection.execute(select(channels.c.name).where(channels.c.name == name)).first() is None:
        row = {"name": name, "delivered_seq": delivered_seq, "claimed_until_us": 0, "attempts": 0}
        connection.execute(insert(channels), row)


def is_pending(connection: Connection, channel: str) -> bool:
    return connection.execute(_pending(channel).limit(1)).first() is not None


def claim(
    connection: Connection, channel: str, claimant: str, limit: int, now_us: int, until_us: int
) -> list[Announcement]:
    """The next announcements, if the lease is free or the claimant's own; taken only if there are any."""
    free = or_(channels.c.claimed_until_us <= now_us, channels.c.claimed_by == claimant)
    took = connection.execute(
        update(channels).where(channels.c.name == channel, free).values(claimed_by=claimant, claimed_until_us=until_us)
    )
    if took.rowcount != 1:
        return []
    rows = connection.execute(_pending(channel).limit(limit)).all()
    if not rows:  # another process has just sent them
        release(connection, channel, claimant, claimed_until_us=0)
    return [Announcement(row.announced, cast(What, row.what), logged(row)) for row in rows]


def release(connection: Connection, channel: str, claimant: str, **values: Any) -> None:
    """End the claimant's lease, or leave all as it is when another has taken it over."""
    mine = (channels.c.name == channel, channels.c.claimed_by == claimant)
    connection.execute(update(channels).where(*mine).values(claimed_by=None, **values))


def failures(connection: Connection, channel: str) -> int:
    """How often in a row sending has failed."""
    query = select(channels.c.attempts).where(channels.c.name == channel)
    return connection.execute(query).scalar_one_or_none() or 0


def _pending(channel: str) -> Select[Any]:
    return (
        select(outbox.c.seq.label("announced"), outbox.c.what, *EVENT_COLUMNS)
        .join(events, events.c.id == outbox.c.event_id)
        .join(channels, outbox.c.seq > channels.c.delivered_seq)
        .where(channels.c.name == channel)
        .order_by(outbox.c.seq)
    )
