"""How far each channel has got with the outbox, and who may send on it."""

from __future__ import annotations

from itertools import takewhile
from operator import attrgetter
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    ScalarSelect,
    Select,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from policies.events import microseconds
from server.domain.announcements import LONGEST_ERROR, Announcement, ChannelState, Notice, NoticeGiven, Outgoing
from server.domain.errors import Conflict, Unknown
from server.domain.records import What
from server.domain.times.clock import SECOND_US
from server.store.bursts import read_facts
from server.store.engine import reading, writing
from server.store.events.event_rows import EVENT_COLUMNS, logged, read_rows
from server.store.events.outbox import last_seq, number_committed, numbered
from server.store.people.audit import add_line
from server.store.rows import Part, Versions, noticed
from server.store.schema import channels, dead_letters, events, notices, outbox

LONGEST_LEASE_US = 60 * SECOND_US
LONGEST_PAUSE_US = 3600 * SECOND_US
"""No lease of a process, and no pause after a failure, is longer. One that ends later was written by a clock that was
set back since, and is ignored.
"""

_WELL = {"attempts": 0, "failed_at_us": None, "turned_away_at_us": None, "error": None}


class Channels(Part):
    """The channels' half of `Store`."""

    def add_channel(self, name: str, from_start: bool = True) -> None:
        """Register a channel, if it is not. It gets the whole outbox or, without `from_start`, what comes from now
        on.
        """
        if not from_start:
            number_committed(self._engine)
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
        with numbered(self._engine) as connection:
            if not any(_is_any(connection, query) for query in pending):
                return []
        now = self._clock()
        with writing(self._engine, lock="channels") as connection:
            if not _take(connection, channel, claimant, now, now + lease_us):
                return []
        found: list[Outgoing] = []
        try:
            with reading(self._engine) as connection:  # SQLite commits nothing after it has read a damaged page
                found = list(takewhile(_has_number, _read_pending(connection, channel, limit)))
        finally:
            if not found:  # another process has just sent them
                with writing(self._engine, lock="channels") as connection:
                    _release(connection, channel, claimant, claimed_until_us=0)
        return found

    def hold(self, channel: str, claimant: str, lease_us: int) -> bool:
        """Take the sole right to send on a channel, or prolong it. False where another has it, and during a pause.

        Nothing is written where another has it, nor while most of the claimant's own lease is left.
        """
        now, until = self._clock(), channels.c.claimed_until_us
        asked = select(
            case((channels.c.claimed_by == claimant, until - now), else_=0).label("left_us"),
        ).where(channels.c.name == channel, channels.c.paused_at_us.is_(None), _is_free(claimant, now))
        with reading(self._engine) as connection:
            row = connection.execute(asked).first()
        if row is None or lease_us * 2 // 3 < row.left_us <= lease_us:
            return row is not None
        with writing(self._engine, lock="channels") as connection:
            return _take(connection, channel, claimant, now, now + lease_us)

    def let_go(self, channel: str, claimant: str) -> None:
        """End the claimant's lease, if it has one."""
        with writing(self._engine, lock="channels") as connection:
            _release(connection, channel, claimant, claimed_until_us=0)

    def delivered(
        self,
        channel: str,
        claimant: str,
        seq: int,
        *,
        lease_us: int = 0,
        memory: str | None = None,
        is_well: bool = True,
    ) -> bool:
        """Everything up to `seq` is sent on this channel. The lease ends, or lasts `lease_us` from now.

        `memory` is what the channel remembers from now on (None: as before). Unless it `is_well`, what `troubled` says
        stays. False, and nothing changes, where the lease was lost.
        """
        now = self._clock()
        values = _progress(seq, now, memory) | (_WELL if is_well else {"attempts": 0})
        with writing(self._engine, lock="channels") as connection:
            if lease_us:
                return _keep(connection, channel, claimant, claimed_until_us=now + lease_us, **values)
            return _release(connection, channel, claimant, claimed_until_us=0, **values)

    def undelivered(
        self,
        channel: str,
        claimant: str,
        seq: int | None,
        failures: int,
        wait_us: int,
        error: str = "",
        memory: str | None = None,
        is_turned_away: bool = False,
    ) -> float:
        """Sending failed after `seq` (None: at once), `failures` times in a row. Nobody sends for `wait_us`. `memory`
        as for `delivered`. How long the receiver has turned the channel away (s), also before a restart.
        """
        now = self._clock()
        is_first = seq is not None
        values = {} if seq is None else _progress(seq, now, memory)
        values["failed_at_us"] = now if is_first else func.coalesce(channels.c.failed_at_us, now)
        values |= {"attempts": failures, "claimed_until_us": now + wait_us, "error": error}
        here = channels.c.name == channel
        with writing(self._engine, lock="channels") as connection:
            before_us = connection.execute(select(channels.c.turned_away_at_us).where(here)).scalar_one_or_none()
            since_us: int = now if is_first or before_us is None else min(before_us, now)  # the clock may be set back
            values["turned_away_at_us"] = since_us if is_turned_away else None
            _release(connection, channel, claimant, **values)
        return (now - since_us) / SECOND_US if is_turned_away else 0.0

    def troubled(self, channel: str, claimant: str, error: str | None) -> None:
        """Some of the channel's receivers fail, while it goes on; None: no more. The claimant has the lease."""
        since_us = None if error is None else func.coalesce(channels.c.failed_at_us, self._clock())
        with writing(self._engine, lock="channels") as connection:
            _keep(connection, channel, claimant, failed_at_us=since_us, error=error and error[:LONGEST_ERROR])

    def recovered(self, channel: str, claimant: str) -> None:
        """The claimant, who has the lease, knows of no failure any more."""
        with writing(self._engine, lock="channels") as connection:
            _keep(connection, channel, claimant, **_WELL)

    def remember(self, channel: str, claimant: str, memory: str) -> bool:
        """Keep what the channel remembers. False, and nothing changes, where the lease was lost."""
        with writing(self._engine, lock="channels") as connection:
            return _keep(connection, channel, claimant, memory=memory)

    def amend_memory(self, channel: str, before: str, memory: str) -> bool:
        """Replace what the channel remembers while nobody sends on it. False, and nothing changes, where somebody does,
        or it has changed since it was `before`.
        """
        is_idle = or_(channels.c.claimed_by.is_(None), _is_free("", self._clock()))
        mine = update(channels).where(channels.c.name == channel, channels.c.memory == before, is_idle)
        with writing(self._engine, lock="channels") as connection:
            return connection.execute(mine.values(memory=memory)).rowcount == 1

    def memory(self, channel: str) -> str | None:
        """What the channel remembers; None: nothing yet."""
        row = self._row(select(channels.c.memory).where(channels.c.name == channel))
        return None if row is None else cast("str | None", row.memory)

    def pause(self, channel: str, *, by: str | None = None, error: str | None = None) -> None:
        """Nobody sends on the channel until `resume`. `by`: who does it, for a line of the audit (None: no line).
        `error`: why the server does it.

        Raises Unknown.
        """
        values: dict[str, Any] = {"paused_at_us": func.coalesce(channels.c.paused_at_us, self._clock())}
        if error is not None:
            values["error"] = error
        with writing(self._engine, lock="channels") as connection:
            _change(connection, channel, **values)
            if by is not None:
                add_line(connection, self._clock(), by, "channel_paused", subject=channel)

    def resume(self, channel: str, *, from_now: bool = False, by: str | None = None) -> None:
        """Send again, at once also after failures. `from_now`: without what has waited. `by` as for `pause`. Raises
        Unknown.
        """
        values: dict[str, Any] = {"paused_at_us": None, **_WELL}
        values["claimed_until_us"] = case((channels.c.claimed_by.is_(None), 0), else_=channels.c.claimed_until_us)
        if from_now:
            number_committed(self._engine)
        with writing(self._engine, lock="channels") as connection:
            if from_now:
                values["delivered_seq"] = last_seq(connection)
            _change(connection, channel, **values)
            if by is not None:
                detail = "from now, without what waited" if from_now else None
                add_line(connection, self._clock(), by, "channel_resumed", subject=channel, detail=detail)

    def forget_channel(self, channel: str, *, by: str) -> None:
        """Delete a channel: its position, its letters and what it remembers. `by`: who does it, for the audit.

        Raises Unknown, and Conflict while a process sends on it.
        """
        here = channels.c.name == channel
        with writing(self._engine, lock="channels") as connection:
            if connection.execute(select(channels.c.name).where(here)).first() is None:
                raise Unknown(f"no channel `{channel}` has ever sent here")
            is_free = or_(channels.c.claimed_by.is_(None), _is_free("", self._clock()))
            if not connection.execute(delete(channels).where(here, is_free)).rowcount:
                raise Conflict(f"a server still sends on channel `{channel}`: try again in a minute")
            connection.execute(delete(dead_letters).where(dead_letters.c.channel == channel))
            add_line(connection, self._clock(), by, "channel_forgotten", subject=channel)

    def channel_states(self) -> list[ChannelState]:
        """How far each channel is that ever was in service, by name."""
        mine = select(func.count()).where(dead_letters.c.channel == channels.c.name)
        dead = mine.where(dead_letters.c.error.is_not(None)).scalar_subquery().label("dead")
        asked = mine.where(dead_letters.c.asked_at_us.is_not(None)).scalar_subquery().label("asked")
        query = select(channels, dead, asked).order_by(channels.c.name)
        with numbered(self._engine) as connection:
            newest, now = last_seq(connection), self._clock()
            return [
                _state(row, newest, _oldest_us(connection, self._versions, row.name), now)
                for row in connection.execute(query).all()
            ]

    def failures(self, channel: str) -> int:
        """How many times in a row sending on this channel has failed."""
        row = self._row(select(channels.c.attempts).where(channels.c.name == channel))
        return row.attempts if row else 0


def _change(connection: Connection, channel: str, **values: Any) -> None:
    if not connection.execute(update(channels).where(channels.c.name == channel).values(values)).rowcount:
        raise Unknown(f"no channel `{channel}` has ever sent here")


def _take(connection: Connection, channel: str, claimant: str, now_us: int, until_us: int) -> bool:
    """Take the lease if it is free or the claimant's own."""
    free = _is_free(claimant, now_us)
    mine = update(channels).where(channels.c.name == channel, channels.c.paused_at_us.is_(None), free)
    return connection.execute(mine.values(claimed_by=claimant, claimed_until_us=until_us)).rowcount == 1


def _is_free(claimant: str, now_us: int) -> ColumnElement[bool]:
    until = channels.c.claimed_until_us
    longest_us = case((channels.c.claimed_by.is_(None), LONGEST_PAUSE_US), else_=LONGEST_LEASE_US)
    return or_(until <= now_us, until > now_us + longest_us, channels.c.claimed_by == claimant)


def _progress(seq: int, now_us: int, memory: str | None) -> dict[str, Any]:
    """The position never moves back: meanwhile a person may have had the channel go on from now."""
    position = channels.c.delivered_seq
    values: dict[str, Any] = {"delivered_seq": case((position > seq, position), else_=seq), "sent_at_us": now_us}
    return values if memory is None else values | {"memory": memory}


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


def _has_number(outgoing: Outgoing) -> bool:
    """Not so of an earlier announcement of an event that was just announced again: its content would be sent twice."""
    return isinstance(outgoing, NoticeGiven) or outgoing.logged.has_number


def _state(row: Row[Any], newest: int, oldest_us: int | None, now_us: int) -> ChannelState:
    is_claimed = now_us < row.claimed_until_us <= now_us + LONGEST_LEASE_US
    return ChannelState(
        name=row.name,
        backlog=0 if oldest_us is None else newest - row.delivered_seq,  # what was erased waits no more
        oldest_us=oldest_us,
        sent_at_us=row.sent_at_us,
        paused_at_us=row.paused_at_us,
        failed_at_us=row.failed_at_us,
        error=row.error or None,
        failures=row.attempts,
        dead_letters=row.dead,
        asked=row.asked,
        claimed_by=row.claimed_by if is_claimed else None,
    )


def _is_any(connection: Connection, query: Select[Any]) -> bool:
    """Whether a query has a row; no record is read for it."""
    number = next(iter(query.selected_columns))
    found = query.with_only_columns(number, maintain_column_froms=True).limit(1)
    return connection.execute(found).first() is not None


def _release(connection: Connection, channel: str, claimant: str, **values: Any) -> bool:
    """End the claimant's lease. False, and nothing changes, when another has taken it over."""
    return _keep(connection, channel, claimant, claimed_by=None, **values)


def _keep(connection: Connection, channel: str, claimant: str, **values: Any) -> bool:
    """Change the row of a channel whose lease the claimant has. False, and nothing changes, when another has it."""
    mine = update(channels).where(channels.c.name == channel, channels.c.claimed_by == claimant)
    return connection.execute(mine.values(**values)).rowcount == 1


def _oldest_us(connection: Connection, versions: Versions, channel: str) -> int | None:
    """When the oldest announcement that waits was made: its burst was received, or its notice stored. Where the burst
    is no longer kept, the instant of the event.
    """
    oldest = next(iter(_read_pending(connection, channel, 1)), None)
    if oldest is None or isinstance(oldest, NoticeGiven):
        return None if oldest is None else oldest.notice.at_us
    facts = read_facts(connection, versions, oldest.logged.burst_id)
    return microseconds(oldest.logged.event.confirmed_at) if facts is None else facts.received_at_us


def _pending_notices(channel: str) -> Select[Any]:
    return (
        select(*(notices.c[name] for name in Notice.__slots__))
        .where(notices.c.seq > _position(channel))
        .order_by(notices.c.seq)
    )


def _pending_new(channel: str) -> Select[Any]:
    """Events that were announced once, as new."""
    position = _position(channel)
    is_again = exists().where(outbox.c.seq == events.c.seq, outbox.c.seq > position)
    return (
        select(events.c.seq.label("announced"), literal("event").label("what"), *EVENT_COLUMNS)
        .where(events.c.seq > position, ~is_again)
        .order_by(events.c.seq)
    )


def _pending_again(channel: str) -> Select[Any]:
    """Announcements of events that were announced more than once, or first as a correction."""
    return (
        select(outbox.c.seq.label("announced"), outbox.c.what, *EVENT_COLUMNS)
        .join(events, events.c.id == outbox.c.event_id)
        .where(outbox.c.seq > _position(channel))
        .order_by(outbox.c.seq)
    )


def _position(channel: str) -> ScalarSelect[int]:
    """How far a channel is, as a value: the databases then begin there in the indices. PostgreSQL takes a join with the
    channel's row for one that a third of all numbers pass, and reads them from the first on.
    """
    return select(channels.c.delivered_seq).where(channels.c.name == channel).scalar_subquery()
