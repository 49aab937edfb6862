"""The numbers of announcements, and the outbox's rows.

Events and notices share the numbers, so a channel needs one cursor and sends both in order of commit.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select, update

from server.domain.records import What
from server.store.schema import counters, outbox


def announce(connection: Connection, changes: Sequence[tuple[str, What]], now_us: int) -> range:
    """Write announcements (event id, what) and give their numbers."""
    numbers = take_numbers(connection, len(changes))
    connection.execute(
        insert(outbox),
        [
            {"seq": seq, "event_id": event_id, "what": what, "at_us": now_us}
            for seq, (event_id, what) in zip(numbers, changes, strict=True)
        ],
    )
    return numbers


def take_numbers(connection: Connection, count: int) -> range:
    """The next numbers of announcements.

    The counter's row stays locked until the transaction ends, so numbers become visible in order.
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
    """The newest number; 0 before the first announcement."""
    last: int = connection.execute(select(counters.c.value).where(counters.c.name == "outbox")).scalar_one()
    return last
