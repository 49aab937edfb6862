"""The outbox as SQL: numbers, announcements, and how far each channel has got with them.

Events and notices share one row of numbers, so a channel has one cursor, and sends both in the order of commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, cast

from sqlalchemy import Connection, Select, insert, or_, select, update

from server.domain.clock import SECOND_US
from server.domain.records import Announcement, Notice, NoticeGiven, Outgoing, What
from server.store.rows import EVENT_COLUMNS, logged, noticed
from server.store.schema import channels, counters, events, notices, outbox

LONGEST_CLAIM_US = 3600 * SECOND_US
"""No lease and no wait is as long. One that ends later was written by a clock that has been set back since: waiting for
it could take years.
"""


def announce(connection: Connection, said: Sequence[tuple[str, What]], now_us: int) -> range:
    """Write announcements (event id, what) and give their numbers."""
    numbers = take_numbers(connection, len(said))
    connection.execute(
        insert(outbox),
        [
            {"seq": seq, "event_id": event_id, "what": what, "at_us": now_us}
            for seq, (event_id, what) in zip(numbers, said, strict=True)
        ],
    )
    return numbers


def take_numbers(connection: Connection, count: int) -> range:
    """The next numbers of announcements.

    The counter's row stays locked to the end of the transaction, so numbers become visible in their order.
    """
    statement = (
        update(counters)
        .where(counters.c.name == "outbox")
        .values(value=counters.c.value + count)
        .returning(counters.c.value)
    )
    last: int = connection.execute(statement).scalar_one()
    return range(last - count + 1, last + 1)


def last_seq(connection: Connection) -> int:
    """The newest number; 0 when nothing was ever announced."""
    last: int = connection.execute(select(counters.c.value).where(counters.c.name == "outbox")).scalar_one()
    return last


def add_channel(connection: Connection, name: str, delivered_seq: int) -> None:
    """Make a channel known that has got as far as `delivered_seq`; one that is known stays where it is."""
    if connection.execute(select(channels.c.name).where(channels.c.name == name)).first() is None:
        row = {"name": name, "delivered_seq": delivered_seq, "claimed_until_us": 0, "attempts": 0}
        connection.execute(insert(channels), row)


def is_pending(connection: Connection, channel: str) -> bool:
    pending = (_pending_events(channel), _pending_notices(channel))
    return any(connection.execute(query.limit(1)).first() is not None for query in pending)


def claim(
    connection: Connection, channel: str, claimant: str, limit: int, now_us: int, until_us: int
) -> list[Outgoing]:
    """The next announcements, if the lease is free or the claimant's own; taken only if there are any."""
    until = channels.c.claimed_until_us
    free = or_(until <= now_us, until > now_us + LONGEST_CLAIM_US, channels.c.claimed_by == claimant)
    took = connection.execute(
        update(channels).where(channels.c.name == channel, free).values(claimed_by=claimant, claimed_until_us=until_us)
    )
    if took.rowcount != 1:
        return []
    # Numbers are committed in their order, so all up to this one are there for both queries: what is committed between
    # them waits, or an event would be passed over by a notice that came after it.
    upto = last_seq(connection)
    said = connection.execute(_pending_events(channel).where(outbox.c.seq <= upto).limit(limit))
    given = connection.execute(_pending_notices(channel).where(notices.c.seq <= upto).limit(limit))
    pending: list[Outgoing] = [Announcement(row.announced, cast(What, row.what), logged(row)) for row in said]
    pending += [NoticeGiven(row.seq, noticed(row)) for row in given]
    if not pending:  # another process has just sent them
        release(connection, channel, claimant, claimed_until_us=0)
    return sorted(pending, key=attrgetter("seq"))[:limit]


def release(connection: Connection, channel: str, claimant: str, **values: Any) -> None:
    """End the claimant's lease, or leave all as it is when another has taken it over."""
    mine = (channels.c.name == channel, channels.c.claimed_by == claimant)
    connection.execute(update(channels).where(*mine).values(claimed_by=None, **values))


def failures(connection: Connection, channel: str) -> int:
    """How often in a row sending has failed."""
    query = select(channels.c.attempts).where(channels.c.name == channel)
    return connection.execute(query).scalar_one_or_none() or 0


def _pending_notices(channel: str) -> Select[Any]:
    return (
        select(*(notices.c[name] for name in Notice.__slots__))
        .join(channels, notices.c.seq > channels.c.delivered_seq)
        .where(channels.c.name == channel)
        .order_by(notices.c.seq)
    )


def _pending_events(channel: str) -> Select[Any]:
    return (
        select(outbox.c.seq.label("announced"), outbox.c.what, *EVENT_COLUMNS)
        .join(events, events.c.id == outbox.c.event_id)
        .join(channels, outbox.c.seq > channels.c.delivered_seq)
        .where(channels.c.name == channel)
        .order_by(outbox.c.seq)
    )
