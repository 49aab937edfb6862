"""Dead letters: announcements that a channel could not deliver, and those that a person wants to be sent again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import Connection, Row, Select, delete, insert, select, update

from server.domain.errors import Unknown
from server.domain.records import Announcement, DeadLetter, Notice, NoticeGiven, Outgoing, What
from server.store.engine import reading, writing
from server.store.event_rows import EVENT_COLUMNS, logged, read_rows
from server.store.rows import Part, noticed
from server.store.schema import channels, dead_letters, events, notices

LONGEST_ERROR = 1000
"""Characters of an error that are kept."""
_NOTICE = "notice"
_AT_ONCE = 500


class DeadLetters(Part):
    """The dead letters in one database."""

    def add(self, channel: str, outgoing: Outgoing, error: str) -> None:
        """Keep an announcement that could not be delivered, with the reason."""
        event_id, what = None, _NOTICE
        if isinstance(outgoing, Announcement):
            event_id, what = outgoing.logged.event.id, str(outgoing.what)
        row = {
            "channel": channel,
            "seq": outgoing.seq,
            "event_id": event_id,
            "what": what,
            "at_us": self._clock(),
            "error": error[:LONGEST_ERROR],
        }
        with writing(self._engine, lock="dead letters") as connection:
            connection.execute(insert(dead_letters), row)

    def page(self, channel: str | None = None, *, before: int | None = None, limit: int = 100) -> list[DeadLetter]:
        """The newest letters (of a channel), newest first; `before` a number: those before it."""
        query = select(dead_letters).order_by(dead_letters.c.number.desc()).limit(limit)
        if channel is not None:
            query = query.where(dead_letters.c.channel == channel)
        if before is not None:
            query = query.where(dead_letters.c.number < before)
        return [DeadLetter(*row) for row in self._rows(query)]

    def ask(self, channel: str, numbers: Sequence[int] | None = None) -> int:
        """Have letters of a channel (None: all of them) sent again; how many."""
        mine = [dead_letters.c.channel == channel]
        if numbers is not None:
            mine.append(dead_letters.c.number.in_(numbers))
        with writing(self._engine, lock="dead letters") as connection:
            return connection.execute(update(dead_letters).where(*mine).values(asked_at_us=self._clock())).rowcount

    def ask_events(self, channel: str, ids: Sequence[str]) -> int:
        """Have a channel send events of the log once more, as they are now; how many. Raises Unknown for a channel
        that never was in service.
        """
        count = 0
        with writing(self._engine, lock="dead letters") as connection:
            if connection.execute(select(channels.c.name).where(channels.c.name == channel)).first() is None:
                raise Unknown(f"no channel `{channel}` has ever sent here")
            for start in range(0, len(ids), _AT_ONCE):
                query = select(events.c.seq, events.c.id, events.c.withdrawn_at_us).where(
                    events.c.id.in_(list(ids[start : start + _AT_ONCE]))
                )
                rows = [
                    {
                        "channel": channel,
                        "seq": row.seq,
                        "event_id": row.id,
                        "what": "event" if row.withdrawn_at_us is None else "withdrawn",
                        "at_us": self._clock(),
                        "asked_at_us": self._clock(),
                    }
                    for row in connection.execute(query.order_by(events.c.seq))
                ]
                count += len(rows)
                if rows:
                    connection.execute(insert(dead_letters), rows)
        return count

    def forget(self, channel: str, numbers: Sequence[int]) -> int:
        """Delete letters of a channel; how many there were."""
        with writing(self._engine, lock="dead letters") as connection:
            mine = dead_letters.c.channel == channel, dead_letters.c.number.in_(numbers)
            return connection.execute(delete(dead_letters).where(*mine)).rowcount

    def asked(self, channel: str, limit: int) -> list[tuple[DeadLetter, Outgoing | None]]:
        """The letters of a channel that are to be sent again, oldest first, each with its announcement as it is now;
        None where it is no longer kept.
        """
        query = select(dead_letters).where(dead_letters.c.channel == channel, dead_letters.c.asked_at_us.is_not(None))
        with reading(self._engine) as connection:
            letters = [
                DeadLetter(*row) for row in connection.execute(query.order_by(dead_letters.c.number).limit(limit))
            ]
            if not letters:
                return []
            return [(letter, _outgoing(connection, letter)) for letter in letters]

    def refused_again(self, number: int, error: str) -> None:
        """A letter that was asked for could not be delivered again; it waits for the next request."""
        with writing(self._engine, lock="dead letters") as connection:
            mine = update(dead_letters).where(dead_letters.c.number == number)
            connection.execute(mine.values(asked_at_us=None, error=error[:LONGEST_ERROR]))


def _outgoing(connection: Connection, letter: DeadLetter) -> Outgoing | None:
    if letter.event_id is None:
        columns = (notices.c[name] for name in Notice.__slots__)
        row = connection.execute(select(*columns).where(notices.c.seq == letter.seq)).first()
        return None if row is None else NoticeGiven(letter.seq, noticed(row))
    query: Select[Any] = select(*EVENT_COLUMNS).where(events.c.id == letter.event_id)
    rows: list[Row[Any]] = list(read_rows(connection, query))
    if not rows:
        return None
    found = logged(rows[0])
    what = "withdrawn" if found.is_withdrawn else letter.what
    return Announcement(letter.seq, cast(What, what), found)
