"""The outbox: the numbers of announcements, its rows, and the notices about the server.

Events and notices share the numbers, so a channel needs one cursor and sends both in order of commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from server.domain.announcements import Notice, Noticed
from server.domain.records import What
from server.store.engine import writing
from server.store.rows import MODELS_SEPARATOR, Part, noticed
from server.store.schema import counters, notices, outbox

_AT_ONCE = 500


def announce(
    connection: Connection, changes: Sequence[tuple[str, What]], now_us: int, newest: Mapping[str, int]
) -> range:
    """Number announcements (event id, what), and write those that the events' rows do not say; the numbers.

    `newest` holds, for each event that was announced before, the newest number. A new event is its own announcement,
    until it is announced again.
    """
    numbers = take_numbers(connection, len(changes))
    again = {event_id: newest[event_id] for event_id, _ in changes if event_id in newest}
    written = _written(connection, [*again.values()])
    rows: list[tuple[int, str, What, int | None]]
    rows = [(seq, event_id, "event", None) for event_id, seq in again.items() if seq not in written]
    rows += [
        (seq, event_id, what, newest.get(event_id))
        for seq, (event_id, what) in zip(numbers, changes, strict=True)
        if event_id in newest or what != "event"
    ]
    if rows:
        names = ("seq", "event_id", "what", "before_seq")
        connection.execute(insert(outbox), [dict(zip(names, row, strict=True)) | {"at_us": now_us} for row in rows])
    return numbers


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
        update(counters)
        .where(counters.c.name == "outbox")
        .values(value=counters.c.value + count)
        .returning(counters.c.value)
    ).scalar_one()
    return range(last - count + 1, last + 1)


def last_seq(connection: Connection) -> int:
    """The newest number; 0 before the first announcement."""
    return int(connection.execute(select(counters.c.value).where(counters.c.name == "outbox")).scalar_one())


class Notices(Part):
    """The notices in one database."""

    def add(
        self, what: Noticed, ensemble: str, models: Sequence[str], detail: str, instance: str | None = None
    ) -> Notice:
        """Store a notice of a replica with the present time, and announce it on every channel, in one transaction."""
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
