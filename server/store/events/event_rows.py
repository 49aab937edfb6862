"""Rows of `events` to values and back. A row of this version names its camera and its bursts by numbers.

The hashes of an event's frames, and the ids of its bursts, are in the records of these bursts. Before a record is
deleted, `spell_out` writes what events need of it into them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, null, or_, select, tuple_, update

from policies.events import Event, microseconds
from server.domain.errors import DatabaseDamaged, Unknown
from server.domain.records import BurstFacts, LateBurst, LoggedEvent
from server.domain.times.clock import SECOND_US
from server.store.bursts import Doomed, names_in, read_camera, read_record
from server.store.compact import (
    LOST,
    Columns,
    OldColumns,
    Source,
    decode_origin,
    encode_origin,
    is_intact,
    old_seal,
    pack_event,
    seal_in,
    seal_of,
    unpack_event,
    unpack_old_event,
)
from server.store.engine import despite_damage
from server.store.rows import encoded, insert_once
from server.store.schema import burst_records, cameras, events, origins

log = logging.getLogger(__name__)

BEFORE_WITHIN_US = 600 * SECOND_US
"""An event refers to the record of an earlier burst that began at most so long before the one that settled it."""

_NO_NUMBER = 0
"""No record has it: it stands for one that is lost."""

_PAGE = 500
"""Rows that are fetched at once."""

_ids = msgspec.json.Decoder(tuple[str, ...])


def _of(column: ColumnElement[Any], key: ColumnElement[Any], number: ColumnElement[Any], name: str) -> Any:
    """A column of the row that an event refers to by number: no join, so that a query goes by an index of events."""
    return select(column).where(key == number).correlate(events).scalar_subquery().label(name)


_SITE = _of(cameras.c.site, cameras.c.number, events.c.camera, "site")
_CAMERA = _of(cameras.c.camera, cameras.c.number, events.c.camera, "camera")
_OWN_COLUMNS = (
    events.c.seq,
    events.c.id,
    _SITE,
    _CAMERA,
    events.c.kind,
    events.c.sector,
    events.c.label,
    events.c.started_at_us,
    events.c.confirmed_at_us,
    events.c.burst,
    events.c.before,
    events.c.burst_id,
    events.c.place,
    events.c.body,
    events.c.late,
    events.c.withdrawn_at_us,
    events.c.supersedes,
    events.c.superseded_by,
    events.c.superseded_by_us,
    _of(origins.c.body, origins.c.number, events.c.origin, "origin_body"),
)
_RECORD_COLUMNS = (
    _of(burst_records.c.id_key, burst_records.c.number, events.c.burst, "burst_key"),
    _of(burst_records.c.record, burst_records.c.number, events.c.burst, "burst_record"),
    _of(burst_records.c.id_key, burst_records.c.number, events.c.before, "before_key"),
    _of(burst_records.c.record, burst_records.c.number, events.c.before, "before_record"),
)
_RECORD_NAMES = ("burst_key", "burst_record", "before_key", "before_record")
_NO_RECORD = tuple(null().label(name) for name in _RECORD_NAMES)
_OWN_RECORD = (*_RECORD_COLUMNS[:2], *_NO_RECORD[2:])
_RECORD_BEFORE = (*_NO_RECORD[:2], *_RECORD_COLUMNS[2:])
EVENT_COLUMNS = (*_OWN_COLUMNS, *_RECORD_COLUMNS)
BARE_COLUMNS = (*_OWN_COLUMNS, *_NO_RECORD)
"""As EVENT_COLUMNS, of events without their bursts and frames: no record is read."""
IN_ORDER = (events.c.confirmed_at_us, _SITE, _CAMERA, events.c.burst, events.c.place)
"""By instant. `in_order` does the rest: the order of bursts with one instant is that of their ids."""


def read_rows(connection: Connection, query: Select[Any]) -> Iterator[Row[*tuple[Any, ...]]]:
    """The rows of a query of EVENT_COLUMNS, as many at a time as its `yield_per`. Where a record is on a damaged page,
    its events come without their bursts and frames: one bad page does not hide the log. `logged` does the same for a
    record that cannot be read.
    """
    place = 0
    try:
        for page in _pages(connection, query):
            yield from page
            place += len(page)
        return
    except DatabaseDamaged as error:
        log.warning("events are read without the damaged bursts that prove them", extra={"cause": error.detail})
    own = [column for column in query.selected_columns if column.key not in _RECORD_NAMES]
    wholes = [query.with_only_columns(*own, *records) for records in (_RECORD_COLUMNS, _OWN_RECORD, _RECORD_BEFORE)]
    for row in connection.execute(query.with_only_columns(*own, *_NO_RECORD)).all()[place:]:
        yield _with_records(connection, wholes, row)


def _pages(connection: Connection, query: Select[Any]) -> Iterator[Sequence[Row[*tuple[Any, ...]]]]:
    with despite_damage(connection):
        found = connection.execute(query)
    with closing(found):
        while True:
            with despite_damage(connection):
                page = found.fetchmany(_PAGE)
            if not page:
                return
            yield page


def _with_records(
    connection: Connection, wholes: Sequence[Select[Any]], bare: Row[*tuple[Any, ...]]
) -> Row[*tuple[Any, ...]]:
    """A row with its records, which are its last columns, as far as they are not on a damaged page."""
    own = len(bare) - len(_NO_RECORD)
    for whole in wholes:
        with suppress(DatabaseDamaged), despite_damage(connection):
            rows = connection.execute(whole.where(events.c.seq == bare.seq)).all()
            return next((row for row in rows if row[:own] == bare[:own]), bare)
    return bare


def of_camera(site: str, camera: str) -> ColumnElement[bool]:
    """Whether an event is of this camera, by the index of cameras."""
    number = select(cameras.c.number).where(cameras.c.site == site, cameras.c.camera == camera).scalar_subquery()
    return events.c.camera == number


def of_names(site: str | None, camera: str | None, kind: str | None) -> Iterator[ColumnElement[bool]]:
    """The conditions on place and kind, without an index of events: the database goes by time, and sorts nothing."""
    if site is not None or camera is not None:
        names = [column == name for column, name in ((cameras.c.site, site), (cameras.c.camera, camera)) if name]
        yield (events.c.camera + 0).in_(select(cameras.c.number).where(*names))
    if kind is not None:
        yield is_of_kind(kind)


def is_of_cameras(names: Collection[tuple[str, str]]) -> ColumnElement[bool]:
    """Whether an event is of one of these cameras (site, camera), without an index of events."""
    mine = tuple_(cameras.c.site, cameras.c.camera).in_(sorted(names))
    return (events.c.camera + 0).in_(select(cameras.c.number).where(mine))


def is_of_kind(kind: str) -> ColumnElement[bool]:
    return or_(events.c.kind == kind, (events.c.origin + 0).in_(select(origins.c.number).where(origins.c.kind == kind)))


def logged(row: Row[*tuple[Any, ...]]) -> LoggedEvent:
    """The event of a row that holds EVENT_COLUMNS. Raises DatabaseDamaged."""
    try:
        event, burst_id = _event(row)
        return LoggedEvent(
            seq=row.seq,
            event=event,
            late=bool(row.late),
            withdrawn_at_us=row.withdrawn_at_us,
            burst_id=burst_id,
            supersedes=() if row.supersedes is None else _ids.decode(row.supersedes),
            superseded_by=None if row.superseded_by is None else LateBurst(row.superseded_by, row.superseded_by_us),
        )
    except (msgspec.MsgspecError, ValueError, LookupError, TypeError, OverflowError) as error:
        raise DatabaseDamaged(
            f"the database is damaged: the event of announcement {row.seq} cannot be read ({error}): "
            "`sectorwatch doctor` names the way back"
        ) from None


def burst_of(row: Row[*tuple[Any, ...]]) -> str:
    """The burst that settled the event of a row that holds EVENT_COLUMNS."""
    if row.burst_id is not None:
        return str(row.burst_id)
    return (_source(row.burst, row.burst_key, row.burst_record) or LOST).burst_id


def in_order(rows: Iterable[Row[*tuple[Any, ...]]]) -> list[LoggedEvent]:
    """The events of rows that came by IN_ORDER, those of one instant by place, burst and place in the frame."""

    def key(row: Row[*tuple[Any, ...]]) -> tuple[object, ...]:
        return row.confirmed_at_us, row.site, row.camera, burst_of(row), row.place

    return [logged(row) for row in sorted(rows, key=key)]


def settled_by(connection: Connection, burst: BurstFacts) -> list[LoggedEvent]:
    """The events that a burst's frames settled, withdrawn ones included, in order."""
    inside = events.c.confirmed_at_us.between(burst.first_at_us, burst.last_at_us)
    query = select(*EVENT_COLUMNS).where(of_camera(burst.site, burst.camera), inside)
    return [each for each in in_order(read_rows(connection, query)) if each.burst_id == burst.burst_id]


def is_row_intact(row: Row[*tuple[Any, ...]], event: Event) -> bool:
    """Whether an event that `logged` gave of a row is the one that was stored; of JSON nothing is known, so yes."""
    if row.kind is None:
        return is_intact(row.body, event)
    return old_seal(row.body) in (None, seal_of(event))


def _event(row: Row[*tuple[Any, ...]]) -> tuple[Event, str]:
    """The event, and the burst that settled it."""
    origin = None if row.origin_body is None else decode_origin(row.origin_body)
    if row.kind is not None or origin is None:
        return unpack_old_event(row.body, cast(OldColumns, row), origin), row.burst_id
    own = _source(row.burst, row.burst_key, row.burst_record) or LOST
    own = own if row.burst_id is None else Source(row.burst_id)
    before = _source(row.before, row.before_key, row.before_record)
    return unpack_event(row.body, cast(Columns, row), origin, own, before), own.burst_id


def _source(number: int | None, key: int | None, record: bytes | None) -> Source | None:
    if number is None:
        return None
    if key is None or record is None:
        return LOST
    try:
        return _known_source(number, key, record)
    except DatabaseDamaged as error:
        log.warning("an event is read without the damaged burst that proves it", extra={"cause": error.detail})
        return LOST


@lru_cache(maxsize=64)
def _known_source(number: int, key: int, record: bytes) -> Source:
    """Events of one burst follow each other."""
    return Source(*names_in(number, key, record))


@dataclass(frozen=True, slots=True)
class _Record:
    """The record of a burst that an event may refer to."""

    number: int
    first_at_us: int
    source: Source


class EventWriter:
    """Events to rows, within one transaction: what events share is read once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._records: dict[str, _Record | None] = {}
        self._cameras: dict[tuple[str, str], int] = {}

    def columns(self, event: Event, burst_id: str, *, seal: int | None = None) -> dict[str, Any]:
        """The columns of an event's row that the event gives; `burst_id`: the burst that settled it. With `seal`, that
        of the event when it was stored first, the row refers to no record.
        """
        known = Columns(
            event.id, event.site, event.camera, microseconds(event.started_at), microseconds(event.confirmed_at)
        )
        own, before = self._sources(event, burst_id) if seal is None else (None, None)
        body = pack_event(
            event,
            known,
            Source(burst_id) if own is None else own.source,
            None if before is None else before.source,
            seal,
        )
        place = {
            "id": event.id,
            "camera": self._camera(event.site, event.camera),
            "started_at_us": known.started_at_us,
            "confirmed_at_us": known.confirmed_at_us,
        }
        if body is None:
            return place | _as_json(event, burst_id)
        origin = insert_once(self._connection, origins.c.body, encode_origin(event), lambda: {"kind": event.kind})
        return place | {
            "kind": None,
            "sector": None,
            "label": None,
            "burst": None if own is None else own.number,
            "before": None if before is None else before.number,
            "burst_id": burst_id if own is None else None,
            "origin": origin,
            "body": body,
        }

    def _sources(self, event: Event, burst_id: str) -> tuple[_Record | None, _Record | None]:
        """The records of an event's bursts: of the one that settled it, and of one before it."""
        own = self._record(burst_id)
        others = [each for each in event.provenance.burst_ids if each != burst_id]
        if own is None or len(others) != 1:
            return own, None
        before = self._record(others[0])
        is_near = before is not None and 0 <= own.first_at_us - before.first_at_us <= BEFORE_WITHIN_US
        return own, before if is_near else None

    def _record(self, burst_id: str) -> _Record | None:
        if burst_id not in self._records:
            self._records[burst_id] = self._readable(burst_id)
        return self._records[burst_id]

    def _readable(self, burst_id: str) -> _Record | None:
        """None for a burst without a record, and for one whose record is damaged: the event needs it not."""
        try:
            row = read_record(self._connection, burst_id)
        except DatabaseDamaged as error:
            log.warning("an event is stored without referring to a damaged burst", extra={"cause": error.detail})
            return None
        return row and _Record(row.number, row.first_at_us, _known_source(row.number, row.id_key, row.record))

    def _camera(self, site: str, camera: str) -> int:
        if (site, camera) not in self._cameras:
            known = read_camera(self._connection, site, camera)
            if known is None:
                raise Unknown(f"no camera {site}/{camera}")
            self._cameras[site, camera] = known.number
        return self._cameras[site, camera]


def _as_json(event: Event, burst_id: str) -> dict[str, Any]:
    return {
        "kind": event.kind,
        "sector": event.sector or event.to_sector,
        "label": event.label,
        "burst": None,
        "before": None,
        "burst_id": burst_id,
        "origin": None,
        "body": encoded(event).encode(),
    }


def spell_out(connection: Connection, doomed: Doomed) -> None:
    """Write into events what they need of records that are about to be deleted, so that they refer to none of them.

    An event that refers to one of them as the burst before is confirmed by a frame of its own burst, which may begin
    BEFORE_WITHIN_US later and be as long as any of the camera.
    """
    if not doomed.numbers:
        return
    until_us = doomed.until_us + BEFORE_WITHIN_US + doomed.longest_us
    near = (events.c.camera == doomed.camera, events.c.confirmed_at_us.between(doomed.since_us, until_us))
    refers = events.c.burst.is_not(None)
    numbers = set(doomed.numbers)
    writer = EventWriter(connection)
    for row in list(read_rows(connection, select(*EVENT_COLUMNS).where(*near, refers))):
        if row.burst in numbers or row.before in numbers:
            connection.execute(update(events).where(events.c.id == row.id).values(_spelled_out(writer, row)))


def _spelled_out(writer: EventWriter, row: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    """The columns that change. The seal stays: `verify` finds an event of which something is lost."""
    found = logged(row)
    if set(found.event.provenance.burst_ids) == {LOST.burst_id}:
        return {"burst": _NO_NUMBER, "before": None if row.before is None else _NO_NUMBER}
    return writer.columns(found.event, found.burst_id, seal=seal_in(row.body))
