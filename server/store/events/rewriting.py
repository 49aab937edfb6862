"""Rewriting the event log after a fold: it says what the fold says, and each change is announced.

An event's id names a fact. The first frame that settles it makes the event; later frames with the same id add
nothing. A refold inserts new events, corrects those that differ, and withdraws those that no longer hold. A new event
for the same fact as a withdrawn one, at another instant, supersedes it and is announced as its correction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from sqlalchemy import Connection, Engine, Row, bindparam, insert, select, update

from server.domain.errors import DatabaseDamaged
from server.domain.keeping import Gone
from server.domain.matching import fact_of, matched
from server.domain.records import LateBurst, Settled, What
from server.store.engine import also_lock, busy_s, leave_to_others, reading, writing
from server.store.events.event_rows import EVENT_COLUMNS, EventWriter, burst_of, logged, of_camera, read_rows
from server.store.events.outbox import announce, number_committed
from server.store.rows import encoded
from server.store.schema import cameras, events

log = logging.getLogger(__name__)

_AT_ONCE = 500
_PACKED_AT_ONCE = 50
_STORED = select(*EVENT_COLUMNS)


@dataclass(frozen=True, slots=True)
class _Change:
    """An announcement about one event, and the columns of its row that change with it."""

    what: What
    event_id: str
    columns: dict[str, Any]


def pack_events(engine: Engine, is_stopped: Callable[[], bool], wait: Callable[[float], object]) -> int:
    """Give events that an earlier version stored the form of this one, a few at a time; how many.

    An event that cannot be packed stays as it is. The locks of the cameras keep the records that events come to refer
    to from being deleted meanwhile.
    """
    count, last = 0, 0
    number_committed(engine)
    while not is_stopped():
        begun_s = busy_s()
        older = (
            select(events.c.seq, cameras.c.site, cameras.c.camera)
            .join(cameras, cameras.c.number == events.c.camera)
            .where(events.c.kind.is_not(None), events.c.seq > last)
        )
        with reading(engine) as connection:
            found = connection.execute(older.order_by(events.c.seq).limit(_PACKED_AT_ONCE)).all()
        if not found:
            break
        seqs, last = [row.seq for row in found], found[-1].seq
        with writing(engine, lock="events") as connection:
            for site, camera in sorted({(row.site, row.camera) for row in found}):
                also_lock(connection, f"{site}/{camera}")
            rows = connection.execute(_STORED.where(events.c.kind.is_not(None), events.c.seq.in_(seqs))).all()
            count += sum(_pack(connection, cast(Row[Any], row)) for row in rows)
        leave_to_others(wait, begun_s)
    return count


def _pack(connection: Connection, row: Row[Any]) -> int:
    try:
        found = logged(row)
    except DatabaseDamaged as error:
        log.warning("event not converted; it stays as it is", extra={"event": row.id, "cause": str(error)})
        return 0
    values = EventWriter(connection).columns(found.event, found.burst_id)
    if values["kind"] is not None:
        return 0
    mine = (events.c.seq == row.seq, events.c.body == row.body)  # a turn may have corrected it since
    return connection.execute(update(events).where(*mine).values(values)).rowcount


def rewrite_log(
    connection: Connection,
    site: str,
    camera: str,
    after_us: int | None,
    settled: Sequence[Settled],
    passed_us: int | None,
    now_us: int,
    gone_of: Callable[[], Gone],
    late: Sequence[LateBurst] = (),
) -> None:
    """Replace a camera's events confirmed after `after_us` (None: all) by those that were `settled`.

    Events at or before `passed_us`, the camera's head before the fold, are `late`. Events of a time that is no longer
    kept neither come back nor are withdrawn; `gone_of` gives what that is. `late` are the late bursts by which events
    are withdrawn.
    """
    window = read_log(connection, site, camera, after_us)
    correct_log(connection, first_of_each(settled), window, passed_us, now_us, gone_of, late)


def correct_log(
    connection: Connection,
    fresh: dict[str, Settled],
    window: dict[str, Row[Any]],
    passed_us: int | None,
    now_us: int,
    gone_of: Callable[[], Gone],
    late: Sequence[LateBurst] = (),
) -> None:
    """Replace the events of `window` by the `fresh` ones, as `rewrite_log`. Events that are equal may be left out."""
    if not fresh and not window:
        return
    gone_events = gone_of()
    if gone_events.events_from_us is not None or gone_events.erasures:
        fresh = {i: each for i, each in fresh.items() if not gone_events.is_event_gone(each.event)}
        window = {i: row for i, row in window.items() if not gone_events.is_event_gone(logged(row).event)}
    stored = window | read_by_id(connection, [i for i in fresh if i not in window])
    changes: list[_Change] = []
    writer = EventWriter(connection)
    for event_id, each in fresh.items():
        row = stored.get(event_id)
        what = _change_of(row, each, is_older=event_id not in window)
        if what is None:
            continue
        columns = writer.columns(each.event, each.burst_id) | {"place": each.place}
        is_late = row is not None or (passed_us is not None and columns["confirmed_at_us"] <= passed_us)
        more = {
            "late": int(is_late),
            "withdrawn_at_us": None,
            "supersedes": encoded([event_id]) if what == "corrected" else None,
            "superseded_by": None,
            "superseded_by_us": None,
        }
        changes.append(_Change(what, event_id, columns | more))
    gone = [row for event_id, row in window.items() if event_id not in fresh and row.withdrawn_at_us is None]
    changes = _superseding(changes, fresh, gone)
    changes += [_Change("withdrawn", row.id, _withdrawal(row, late, now_us)) for row in gone]
    _write(connection, changes, stored, now_us)
    _put_in_place(connection, fresh, window)


def first_of_each(settled: Iterable[Settled]) -> dict[str, Settled]:
    """The events by id; of equal ids the first, which made the event."""
    fresh: dict[str, Settled] = {}
    for each in settled:
        fresh.setdefault(each.event.id, each)
    return fresh


def is_logged(row: Row[Any], settled: Settled) -> bool:
    """Whether the log holds an event as it was settled."""
    return (
        row.withdrawn_at_us is None
        and row.place == settled.place
        and (found := logged(row)).burst_id == settled.burst_id
        and encoded(found.event) == encoded(settled.event)
    )


def _withdrawal(row: Row[Any], late: Sequence[LateBurst], now_us: int) -> dict[str, Any]:
    """The columns of an event that no longer holds. The last late burst before its confirmation disproves it."""
    before = [each for each in late if each.at_us <= row.confirmed_at_us] or late[:1]
    by = max(before, key=lambda each: (each.at_us, each.burst_id), default=None)
    return {
        "withdrawn_at_us": now_us,
        "superseded_by": None if by is None else by.burst_id,
        "superseded_by_us": None if by is None else by.at_us,
    }


def _superseding(changes: list[_Change], fresh: dict[str, Settled], gone: Sequence[Row[Any]]) -> list[_Change]:
    """The changes, with each new event that tells the same fact as a withdrawn one made its correction."""
    new = [i for i, change in enumerate(changes) if change.what == "event"]
    before = [fact_of(logged(row).event) for row in gone]
    after = [fact_of(fresh[changes[i].event_id].event) for i in new]
    for old, i in matched(before, after):
        change = changes[new[i]]
        changes[new[i]] = replace(
            change, what="corrected", columns=change.columns | {"supersedes": encoded([gone[old].id])}
        )
    return changes


def _change_of(row: Row[Any] | None, settled: Settled, *, is_older: bool) -> What | None:
    """The announcement for a settled event whose row is `row`; None when there is nothing to announce."""
    if row is None or row.withdrawn_at_us is not None:
        return "event"
    return None if is_older or encoded(logged(row).event) == encoded(settled.event) else "corrected"


def _put_in_place(connection: Connection, fresh: dict[str, Settled], window: dict[str, Row[Any]]) -> None:
    """Update the order of events of one frame. It may change while the event does not, and is not announced."""
    for event_id, row in window.items():
        if (settled := fresh.get(event_id)) is not None and settled.place != row.place:
            connection.execute(update(events).where(events.c.id == event_id).values(place=settled.place))


def read_log(
    connection: Connection, site: str, camera: str, after_us: int | None, until_us: int | None = None
) -> dict[str, Row[Any]]:
    """A camera's events confirmed after `after_us`, at `until_us` at the latest (None: no limit), by id, in order."""
    query = _STORED.where(of_camera(site, camera))
    if after_us is not None:
        query = query.where(events.c.confirmed_at_us > after_us)
    if until_us is not None:
        query = query.where(events.c.confirmed_at_us <= until_us)
    return {row.id: row for row in ordered_rows(read_rows(connection, query))}


def ordered_rows(rows: Iterable[Row[Any]]) -> list[Row[Any]]:
    """Rows of a camera in order: by instant, burst and place in the frame."""
    return sorted(rows, key=lambda row: (row.confirmed_at_us, burst_of(row), row.place))


def read_by_id(connection: Connection, ids: Sequence[str]) -> dict[str, Row[Any]]:
    """The events of these ids, those that are stored."""
    return {
        row.id: row
        for start in range(0, len(ids), _AT_ONCE)
        for row in read_rows(connection, _STORED.where(events.c.id.in_(ids[start : start + _AT_ONCE])))
    }


def _write(connection: Connection, changes: Sequence[_Change], stored: Container[str], now_us: int) -> None:
    if not changes:
        return
    again = [change.event_id for change in changes if change.event_id in stored]
    numbers = announce(connection, [(change.event_id, change.what) for change in changes], now_us, again)
    new: list[dict[str, Any]] = []
    changed: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for seq, change in zip(numbers, changes, strict=True):
        columns = change.columns | {"seq": seq}
        if change.event_id in stored:
            changed.setdefault(tuple(columns), []).append(columns | {"event_id": change.event_id})
        else:
            new.append(columns)
    if new:
        connection.execute(insert(events), new)
    for rows in changed.values():
        connection.execute(update(events).where(events.c.id == bindparam("event_id")), rows)
