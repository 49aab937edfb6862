"""The outbox: the numbers of announcements, its rows, and the notices about the server.

Events and notices share the numbers, so a channel needs one cursor and sends both in the order of their numbers.

Numbers become visible in order, because whoever takes some locks the counter until its commit. On SQLite a turn takes
them itself. On PostgreSQL turns of different cameras would wait for each other there, so a turn writes tickets:
negative numbers, which no cursor sees. `number_committed` replaces the tickets that are committed by numbers. Whoever
reads by number does this first (`numbered`), so a server that is killed after a commit leaves nothing unannounced.

Locks on PostgreSQL. A turn has its camera's lock, and locks the rows of the events that it announces again or deletes.
The numbering and a notice lock the counter first. The numbering then locks rows of events, and passes over those that a
turn has: it never waits for a turn. A turn never locks the counter, and waits for the numbering at most at rows of its
own events. So no two wait for each other.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

from sqlalchemy import BigInteger, Connection, Engine, bindparam, delete, func, insert, select, union, update

from server.domain.announcements import Notice, Noticed
from server.domain.errors import SectorwatchError
from server.domain.records import What
from server.store.engine import reading, writing
from server.store.rows import MODELS_SEPARATOR, Part, noticed
from server.store.schema import counters, events, notices, outbox, tickets

log = logging.getLogger(__name__)

_AT_ONCE = 500
_COUNTER = counters.c.name == "outbox"
_LAST = select(counters.c.value).where(_COUNTER)


def announce(
    connection: Connection, changes: Sequence[tuple[str, What]], now_us: int, again: Collection[str]
) -> Sequence[int]:
    """Number announcements (event id, what), and write those that the events' rows do not say; the numbers, on
    PostgreSQL tickets.

    `again` are the events that were announced before. Their rows stay locked, as they are about to get these numbers. A
    new event is its own announcement, until it is announced again.
    """
    numbers = _tickets(connection, len(changes)) if _has_tickets(connection) else take_numbers(connection, len(changes))
    newest = _newest(connection, sorted(again))
    written = _written(connection, [*newest.values()])
    rows: list[tuple[int, str, What, int | None]]
    rows = [(seq, event_id, "event", None) for event_id, seq in newest.items() if seq not in written]
    rows += [
        (seq, event_id, what, newest.get(event_id))
        for seq, (event_id, what) in zip(numbers, changes, strict=True)
        if event_id in newest or what != "event"
    ]
    if rows:
        names = ("seq", "event_id", "what", "before_seq")
        connection.execute(insert(outbox), [dict(zip(names, row, strict=True)) | {"at_us": now_us} for row in rows])
    return numbers


def _newest(connection: Connection, ids: Sequence[str]) -> dict[str, int]:
    """The numbers of these events, whose rows stay as they are until the commit, by id."""
    return {
        row.id: row.seq
        for start in range(0, len(ids), _AT_ONCE)
        for row in connection.execute(
            select(events.c.id, events.c.seq).where(events.c.id.in_(ids[start : start + _AT_ONCE])).with_for_update()
        )
    }


def _written(connection: Connection, numbers: Sequence[int]) -> set[int]:
    """Those of these numbers that have a row."""
    return {
        seq
        for start in range(0, len(numbers), _AT_ONCE)
        for seq in connection.execute(
            select(outbox.c.seq).where(outbox.c.seq.in_(numbers[start : start + _AT_ONCE]))
        ).scalars()
    }


def delete_announcements(connection: Connection, newest: Sequence[int]) -> None:
    """Delete the announcements with these numbers, and all before them of the same events."""
    numbers = list(newest)
    while numbers:
        these = outbox.c.seq.in_(numbers)
        earlier = select(outbox.c.before_seq).where(these, outbox.c.before_seq.is_not(None))
        numbers = list(connection.execute(earlier).scalars())
        connection.execute(delete(outbox).where(these))


def link_announcements(connection: Connection) -> None:
    """Fill in each `before_seq` that a server of schema 0010 left out: it may have run on beside the upgrade.

    Of the announcements of one event only the first has none.
    """
    several = select(outbox.c.event_id).where(outbox.c.before_seq.is_(None))
    broken = several.group_by(outbox.c.event_id).having(func.count() > 1)
    columns = outbox.c.seq, outbox.c.event_id, outbox.c.before_seq
    rows = connection.execute(
        select(*columns).where(outbox.c.event_id.in_(broken)).order_by(outbox.c.event_id, outbox.c.seq)
    ).all()
    missing = [
        {"after": later.seq, "before": earlier.seq}
        for earlier, later in pairwise(rows)
        if earlier.event_id == later.event_id and later.before_seq is None
    ]
    if missing:
        here = outbox.c.seq == bindparam("after")
        connection.execute(update(outbox).where(here).values(before_seq=bindparam("before")), missing)


def take_numbers(connection: Connection, count: int) -> range:
    """The next numbers of announcements.

    The counter's row stays locked until the transaction ends, so numbers become visible in order.
    """
    last: int = connection.execute(
        update(counters).where(_COUNTER).values(value=counters.c.value + count).returning(counters.c.value)
    ).scalar_one()
    return range(last - count + 1, last + 1)


def last_seq(connection: Connection) -> int:
    """The newest number; 0 before the first announcement."""
    return int(connection.execute(_LAST).scalar_one())


def _has_tickets(of: Connection | Engine) -> bool:
    return of.dialect.name == "postgresql"


def _tickets(connection: Connection, count: int) -> list[int]:
    """Tickets, each less than those before it. They leave gaps, and are committed in any order; those of one camera in
    order.
    """
    given = select(tickets.next_value()).select_from(func.generate_series(1, count))
    return sorted((-ticket for ticket in connection.execute(given).scalars()), reverse=True)


@contextmanager
def numbered(engine: Engine) -> Iterator[Connection]:
    """As `reading`; the announcements that were committed before have their numbers."""
    number_committed(engine)
    with reading(engine) as connection:
        yield connection


def number_committed(engine: Engine) -> None:
    """Replace the tickets that are committed by numbers, in a transaction of its own; those of a camera in order.

    Where a turn is about to announce an event again, this event and what came after it of its camera wait for the next
    call; so does all where the database cannot be written, or the user may only read it. When no ticket is there, this
    costs one query of two indices.
    """
    try:
        while _has_tickets(engine) and _number_oldest(engine):
            pass
    except SectorwatchError as error:
        log.info("announcements wait for their numbers", extra={"cause": error.detail})


class _Ticket(NamedTuple):
    """A ticket of an announcement, its event, and the number of the event's camera."""

    ticket: int
    event_id: str
    camera: int


def _number_oldest(engine: Engine) -> bool:
    """Number the oldest tickets, _AT_ONCE at most; whether there may be more that can be numbered."""
    with reading(engine) as connection:
        waiting = _unnumbered(connection)
    if not waiting:
        return False
    with writing(engine, lock="numbers") as connection:
        connection.execute(_LAST.with_for_update())
        these = events.c.id.in_({each.event_id for each in waiting})
        free = set(connection.execute(select(events.c.id).where(these).with_for_update(skip_locked=True)).scalars())
        oldest_first = _unnumbered(connection)  # a turn may have ended since
        chosen = list(_in_order(oldest_first, free))
        if chosen:
            _replace(connection, chosen, take_numbers(connection, len(chosen)))
    return len(chosen) > 0 and len(waiting) == _AT_ONCE


def _unnumbered(connection: Connection) -> list[_Ticket]:
    """The oldest tickets, _AT_ONCE at most, oldest first. That of an event that was announced again since is in the
    outbox alone.
    """
    of_events = select(events.c.seq.label("ticket"), events.c.id, events.c.camera).where(events.c.seq < 0)
    of_outbox = select(outbox.c.seq.label("ticket"), events.c.id, events.c.camera).where(outbox.c.seq < 0)
    of_outbox = of_outbox.join_from(outbox, events, events.c.id == outbox.c.event_id)
    oldest = (query.order_by(query.selected_columns.ticket.desc()).limit(_AT_ONCE) for query in (of_events, of_outbox))
    both = union(*(query.subquery().select() for query in oldest))
    query = both.order_by(both.selected_columns.ticket.desc()).limit(_AT_ONCE)
    return [_Ticket(*row) for row in connection.execute(query)]


def _in_order(oldest_first: Sequence[_Ticket], free: Collection[str]) -> Iterator[int]:
    """The tickets of events that are free, of each camera up to its first event that is not."""
    waiting: set[int] = set()
    for each in oldest_first:
        if each.event_id not in free:
            waiting.add(each.camera)
        elif each.camera not in waiting:
            yield each.ticket


def _replace(connection: Connection, chosen: Sequence[int], numbers: Sequence[int]) -> None:
    """Write numbers instead of tickets. The events' rows are locked."""
    pairs = [{"ticket": ticket, "number": number} for ticket, number in zip(chosen, numbers, strict=True)]
    ticket, number = bindparam("ticket", type_=BigInteger), bindparam("number", type_=BigInteger)
    later = (outbox.c.seq < 0, outbox.c.before_seq == ticket)
    connection.execute(update(outbox).where(*later).values(before_seq=number), pairs)
    connection.execute(update(outbox).where(outbox.c.seq == ticket).values(seq=number), pairs)
    connection.execute(update(events).where(events.c.seq == ticket).values(seq=number), pairs)


class Notices(Part):
    """The notices in one database."""

    def add(
        self, what: Noticed, ensemble: str, models: Sequence[str], detail: str, instance: str | None = None
    ) -> Notice:
        """Store a notice of a replica with the present time, and announce it on every channel, in one transaction."""
        number_committed(self._engine)  # so that it comes after them
        with writing(self._engine, lock="notices") as connection:
            last = connection.execute(select(func.max(notices.c.number))).scalar_one() or 0
            seq = take_numbers(connection, 1)[0]
            notice = Notice(last + 1, seq, self._clock(), what, ensemble, tuple(models), detail, instance)
            row = {name: getattr(notice, name) for name in Notice.__slots__}
            connection.execute(insert(notices), row | {"models": MODELS_SEPARATOR.join(models)})
        return notice

    def all(self, limit: int | None = None) -> list[Notice]:
        """The newest notices, at most `limit`, oldest first."""
        query = select(*(notices.c[name] for name in Notice.__slots__)).order_by(notices.c.number.desc())
        rows = self._rows(query if limit is None else query.limit(limit))
        return [noticed(row) for row in reversed(rows)]
