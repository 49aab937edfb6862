"""Dead letters: announcements that a channel could not deliver, and those that a person wants to be sent again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, func, insert, select, update

from server.domain.announcements import LONGEST_ERROR, Announcement, DeadLetter, Notice, NoticeGiven, Outgoing
from server.domain.errors import Unknown
from server.domain.records import What
from server.domain.times.clock import SECOND_US
from server.store.engine import writing
from server.store.events.event_rows import EVENT_COLUMNS, logged, read_rows
from server.store.events.outbox import number_committed, numbered
from server.store.people.audit import add_line
from server.store.rows import Part, noticed
from server.store.schema import channels, counters, dead_letters, events, notices

_NOTICE = "notice"
_COUNTER = "dead_letters"
_LOCK = "dead letters"
_AT_ONCE = 500


class DeadLetters(Part):
    """The dead letters in one database. No number is used twice."""

    def add(self, channel: str, outgoing: Outgoing, error: str) -> None:
        """Keep an announcement that could not be delivered, with the reason; not of an event that was erased while it
        was being sent.
        """
        event_id, what = None, _NOTICE
        if isinstance(outgoing, Announcement):
            event_id, what = outgoing.logged.event.id, str(outgoing.what)
        row = {"channel": channel, "seq": outgoing.seq, "event_id": event_id, "what": what}
        with writing(self._engine, lock=_LOCK) as connection:
            if event_id is None or _is_kept(connection, event_id):
                _insert(connection, [row | {"at_us": self._clock(), "error": error[:LONGEST_ERROR]}])

    def page(
        self, channel: str | None = None, *, before: int | None = None, limit: int = 100, is_asked: bool | None = None
    ) -> list[DeadLetter]:
        """The newest letters (of a channel), newest first; `before` a number: those before it. `is_asked`: only those
        that a person asks for, or only the others.
        """
        query = select(dead_letters).order_by(dead_letters.c.number.desc()).limit(limit)
        if channel is not None:
            query = query.where(dead_letters.c.channel == channel)
        if before is not None:
            query = query.where(dead_letters.c.number < before)
        if is_asked is not None:
            asked_at_us = dead_letters.c.asked_at_us
            query = query.where(asked_at_us.is_not(None) if is_asked else asked_at_us.is_(None))
        return [DeadLetter(*row) for row in self._rows(query)]

    def ask(self, channel: str, numbers: Sequence[int] | None = None, *, by: str | None = None) -> int:
        """Have letters of a channel (None: all of them) sent again; how many. `by`: who does it, for a line of the
        audit (None: no line).
        """
        with writing(self._engine, lock=_LOCK) as connection:
            count = sum(
                connection.execute(update(dead_letters).where(*these).values(asked_at_us=self._clock())).rowcount
                for these in _chosen(channel, numbers)
            )
            self._note(connection, by, "channel_resent", channel, count, _which(count, numbers))
        return count

    def ask_events(self, channel: str, ids: Sequence[str], *, by: str | None = None, which: str = "") -> int:
        """Have a channel send events of the log once more, as they are now, each once however often it is asked for;
        how many are in the log. `by` as for `ask`; `which` says more of them there. Raises Unknown for a channel that
        never was in service.
        """
        count = 0
        number_committed(self._engine)
        with writing(self._engine, lock=_LOCK) as connection:
            if connection.execute(select(channels.c.name).where(channels.c.name == channel)).first() is None:
                raise Unknown(f"no channel `{channel}` has ever sent here")
            for start in range(0, len(ids), _AT_ONCE):
                count += self._ask_some(connection, channel, ids[start : start + _AT_ONCE])
            detail = f"{count} events" + (f", {which}" if which else "")
            self._note(connection, by, "channel_resent", channel, count, detail)
        return count

    def _ask_some(self, connection: Connection, channel: str, ids: Sequence[str]) -> int:
        c = dead_letters.c
        waiting = select(c.event_id).where(c.event_id.in_(ids), c.channel == channel, c.asked_at_us.is_not(None))
        asked = set(connection.execute(waiting).scalars())
        query = select(events.c.seq, events.c.id, events.c.withdrawn_at_us).where(events.c.id.in_(ids))
        found = connection.execute(query.order_by(events.c.seq)).all()
        now_us = self._clock()
        rows = [
            {
                "channel": channel,
                "seq": row.seq,
                "event_id": row.id,
                "what": "event" if row.withdrawn_at_us is None else "withdrawn",
                "at_us": now_us,
                "asked_at_us": now_us,
            }
            for row in found
            if row.id not in asked and row.seq > 0  # without a number it is yet to be sent anyway
        ]
        _insert(connection, rows)
        return len(found)

    def forget(self, channel: str, numbers: Sequence[int] | None = None, *, by: str | None = None) -> int:
        """Delete letters of a channel (None: all of them); how many there were. `by` as for `ask`."""
        with writing(self._engine, lock=_LOCK) as connection:
            count = sum(
                connection.execute(delete(dead_letters).where(*these)).rowcount for these in _chosen(channel, numbers)
            )
            self._note(connection, by, "letters_dropped", channel, count, _which(count, numbers))
        return count

    def _note(self, connection: Connection, by: str | None, what: str, channel: str, count: int, detail: str) -> None:
        """Add a line to the audit, where something was done and somebody did it."""
        if by is not None and count:
            add_line(connection, self._clock(), by, what, subject=channel, detail=detail)

    def asked(self, channel: str, limit: int) -> list[tuple[DeadLetter, Outgoing | None]]:
        """The letters of a channel that are to be sent again, oldest first, each with its announcement as it is now;
        None where it is no longer kept. That of an event that was just announced again comes once this has a number.
        """
        query = select(dead_letters).where(dead_letters.c.channel == channel, dead_letters.c.asked_at_us.is_not(None))
        with numbered(self._engine) as connection:
            letters = [
                DeadLetter(*row) for row in connection.execute(query.order_by(dead_letters.c.number).limit(limit))
            ]
            found = [(letter, _outgoing(connection, letter)) for letter in letters]
        return [
            (letter, outgoing)
            for letter, outgoing in found
            if not isinstance(outgoing, Announcement) or outgoing.logged.has_number
        ]

    def refused_again(self, number: int, error: str) -> None:
        """A letter that was asked for could not be delivered again; it waits for the next request."""
        with writing(self._engine, lock=_LOCK) as connection:
            mine = update(dead_letters).where(dead_letters.c.number == number)
            connection.execute(mine.values(asked_at_us=None, error=error[:LONGEST_ERROR]))

    def sweep(self, keep_days: float) -> int:
        """Delete letters of notices that are older than so many days (0: none); how many went. Those of events go with
        their event.
        """
        if not keep_days:
            return 0
        before_us = self._clock() - round(keep_days * 86_400 * SECOND_US)
        with writing(self._engine, lock=_LOCK) as connection:
            old = delete(dead_letters).where(dead_letters.c.event_id.is_(None), dead_letters.c.at_us < before_us)
            return connection.execute(old).rowcount


def _is_kept(connection: Connection, event_id: str) -> bool:
    """Whether an event is in the log. Its row stays until the transaction ends."""
    query = select(events.c.seq).where(events.c.id == event_id)
    return connection.execute(query.with_for_update(read=True)).first() is not None


def _which(count: int, numbers: Sequence[int] | None) -> str:
    return f"all {count} letters" if numbers is None else f"letters {', '.join(map(str, numbers))}"


def _insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Add letters under new numbers. The caller has the lock."""
    if not rows:
        return
    here = counters.c.name == _COUNTER
    last = connection.execute(select(counters.c.value).where(here)).scalar_one_or_none()
    if last is None:
        last = connection.execute(select(func.max(dead_letters.c.number))).scalar_one() or 0
        connection.execute(insert(counters), {"name": _COUNTER, "value": last})
    connection.execute(update(counters).where(here).values(value=last + len(rows)))
    connection.execute(insert(dead_letters), [{"number": number, **row} for number, row in enumerate(rows, last + 1)])


def _chosen(channel: str, numbers: Sequence[int] | None) -> Iterator[list[ColumnElement[bool]]]:
    """The letters of a channel with these numbers (None: all), some at once."""
    mine = dead_letters.c.channel == channel
    if numbers is None:
        yield [mine]
        return
    for start in range(0, len(numbers), _AT_ONCE):
        yield [mine, dead_letters.c.number.in_(numbers[start : start + _AT_ONCE])]


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
    return Announcement(letter.seq, _now(letter.what, is_withdrawn=found.is_withdrawn), found)


def _now(what: str, *, is_withdrawn: bool) -> What:
    """What is to be announced of an event that meanwhile may have been withdrawn, or put back."""
    if is_withdrawn:
        return "withdrawn"
    return "corrected" if what == "withdrawn" else cast(What, what)
