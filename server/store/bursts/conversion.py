"""Conversion of the bursts that versions before 0.3 stored (`bursts`, `observations`, `decisions`) into records.

The server does it in a thread, a few bursts at a time, in transactions of some milliseconds. Each leaves every burst in
exactly one form, so it may be stopped, or killed, at any time. What a record would not give back to the last bit stays
as it is. The space of the old rows becomes free pages of the file, which new rows fill: the file does not shrink, and
does not grow until they are full. A backup (`VACUUM INTO`) has no free pages.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Row, delete, select, tuple_

from policies.fusion.judgement import Judgement
from policies.observation import Observation
from server.domain.errors import SectorwatchError
from server.store.bursts.burst_log import read_burst_frames, read_facts
from server.store.bursts.judged import judged_again
from server.store.bursts.keeping import Shared, keep_burst
from server.store.bursts.packing import Loose
from server.store.bursts.records import read_camera
from server.store.engine import busy_s, leave_to_others, reading, writing
from server.store.rows import Versions
from server.store.schema import bursts, decisions, observations

log = logging.getLogger(__name__)

_AT_ONCE = 10

_judgements = msgspec.json.Decoder(list[Judgement])
_json = msgspec.json.Encoder(order="deterministic")
_PLACE = (bursts.c.site, bursts.c.camera, bursts.c.first_at_us, bursts.c.burst_id)
_OLDEST = select(bursts, decisions.c.body.label("decisions")).join(
    decisions, decisions.c.burst_id == bursts.c.burst_id, isouter=True
)

_Converted = tuple[Row[Any], Loose, Sequence[Observation]]


def convert(
    engine: Engine,
    versions: Versions,
    is_stopped: Callable[[], bool],
    wait: Callable[[float], object],
) -> int:
    """Convert all bursts, camera by camera, the oldest first, until `is_stopped`; how many were converted."""
    count, place = 0, ("", "", -(2**62), "")
    while not is_stopped():
        begun_s = busy_s()
        rows = _next(engine, place)
        if not rows:
            break
        place = tuple(getattr(rows[-1], column.name) for column in _PLACE)
        site, camera = rows[0].site, rows[0].camera
        ready = [each for row in rows if (each := _ready(engine, versions, row)) is not None]
        with writing(engine, lock=f"{site}/{camera}") as connection:
            count += sum(_replace_or_leave(connection, versions, each) for each in ready)
        leave_to_others(wait, begun_s)
    if count:
        log.info("bursts of an earlier version converted", extra={"bursts": count})
    return count


def convert_held(connection: Connection, versions: Versions) -> None:
    """Convert the bursts that wait, so that what admits them looks for records alone."""
    for row in connection.execute(_OLDEST.where(bursts.c.status == "held")).all():
        _replace(connection, versions, _loosened(connection, versions, row))


def _next(engine: Engine, place: tuple[str, str, int, str]) -> Sequence[Row[Any]]:
    """The next bursts of one camera."""
    query = _OLDEST.where(tuple_(*_PLACE) > tuple_(*place)).order_by(*_PLACE).limit(_AT_ONCE)
    with reading(engine) as connection:
        rows = connection.execute(query).all()
    return [row for row in rows if (row.site, row.camera) == (rows[0].site, rows[0].camera)]


def _ready(engine: Engine, versions: Versions, row: Row[Any]) -> _Converted | None:
    """What a burst's record is made of; None, with a warning, for one that cannot be converted."""
    try:
        with reading(engine) as connection:
            return _loosened(connection, versions, row)
    except (SectorwatchError, msgspec.MsgspecError, ValueError, LookupError, TypeError) as error:
        _warn(row, error)
        return None


def _warn(row: Row[Any], error: Exception) -> None:
    log.warning("burst not converted; it stays as it is", extra={"burst": row.burst_id, "cause": str(error)})


def _loosened(connection: Connection, versions: Versions, row: Row[Any]) -> _Converted:
    frames = read_burst_frames(connection, versions, row.burst_id)
    seen = [each.observation for each in frames]
    instants = [frame.at_us for frame in seen]
    if [frame.index for frame in seen] != list(range(row.frames)) or instants != sorted(instants):
        raise ValueError(f"it has {len(seen)} frames of {row.frames}, or they are out of order")
    if (instants[0], instants[-1]) != (row.first_at_us, row.last_at_us) or row.decisions is None:
        raise ValueError("its frames or its decision record do not fit it")
    recorded = _json.encode(_judgements.decode(row.decisions))
    loose = Loose(
        captured_at_us=row.captured_at_us,
        received_at_us=row.received_at_us,
        sent_at_us=row.sent_at_us,
        monotonic_ms=row.monotonic_ms,
        image_bytes=row.image_bytes,
        digest=row.digest,
        decisions=recorded,
        is_derived=_json.encode(judged_again(connection, versions, frames)) == recorded,
    )
    return row, loose, seen


def _replace_or_leave(connection: Connection, versions: Versions, converted: _Converted) -> int:
    try:
        with connection.begin_nested():
            return _replace(connection, versions, converted)
    except ValueError as error:
        _warn(converted[0], error)
        return 0


def _replace(connection: Connection, versions: Versions, converted: _Converted) -> int:
    """Put a record in the place of the old rows; 0 if another process has done so. Raises ValueError for a record that
    would not give everything back.
    """
    row, loose, seen = converted
    before = read_facts(connection, versions, row.burst_id)
    for table in (observations, decisions, bursts):
        gone = connection.execute(delete(table).where(table.c.burst_id == row.burst_id)).rowcount
    if gone != 1:
        return 0
    shared = Shared(**{name: getattr(row, name) for name in Shared.__slots__})
    known = read_camera(connection, row.site, row.camera)
    keep_burst(connection, known, shared, loose, seen, is_held=row.status == "held", late=bool(row.late))
    after = [each.observation for each in read_burst_frames(connection, versions, row.burst_id)]
    if read_facts(connection, versions, row.burst_id) != before or after != list(seen):
        raise ValueError(f"the record of {row.burst_id} does not give back what was stored")
    return 1
