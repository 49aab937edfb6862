"""The newest bursts of every camera, in a few queries for all of them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Select, and_, func, select

from server.domain.records import BurstSpan
from server.store.bursts.old_form import find_old_bursts
from server.store.bursts.packing import joined_id, unpack
from server.store.bursts.records import AT_ONCE, IS_HELD, SET_ASIDE, Which, is_of, named_damage
from server.store.schema import burst_records, bursts, cameras

_Name = tuple[str, str]
_SPAN_COLUMNS = ("number", "id_key", "first_at_us", "lasts_us", "record")
_MOST_REMEMBERED = 2048
"""Records whose spans are remembered: a few MB."""


def newest_spans(
    connection: Connection, names: Iterable[_Name], which: Which, until_us: int, most: int
) -> dict[_Name, tuple[BurstSpan, ...]]:
    """The spans of the newest bursts of cameras (site, camera), at most `most` of each, that are in the fold and begin
    before `until_us`, newest first. `which`: all cameras that need be looked at for that. Raises DatabaseDamaged.
    """
    found: dict[_Name, list[BurstSpan]] = {name: [] for name in names}
    named: dict[int, _Name] = {}
    for site, camera, *numbers in connection.execute(_newest_numbers(until_us, most, which)):
        if (site, camera) in found:
            named |= {number: (site, camera) for number in numbers if number is not None}
    wanted = sorted(named)
    for begin in range(0, len(wanted), AT_ONCE):
        mine = burst_records.c.number.in_(wanted[begin : begin + AT_ONCE])
        for row in connection.execute(select(*(burst_records.c[name] for name in _SPAN_COLUMNS)).where(mine)):
            found[named[row.number]].append(_span(*row))
    if connection.execute(select(func.max(bursts.c.burst_id))).scalar_one() is not None:
        for name, spans in found.items():
            spans += _old_spans(connection, name, until_us, most)
    return {name: _newest(spans, most) for name, spans in found.items()}


def _newest_numbers(until_us: int, most: int, which: Which) -> Select[Any]:
    """Cameras (site, camera) with the numbers of their newest bursts, one by one.

    A join with the bursts from the oldest of these on is a join with all bursts there are, for PostgreSQL.
    """
    inside = and_(
        burst_records.c.camera == cameras.c.number,
        burst_records.c.is_held == 0,
        burst_records.c.first_at_us < until_us,
    )
    newest = select(burst_records.c.number).where(inside).correlate(cameras)
    newest = newest.order_by(burst_records.c.first_at_us.desc(), burst_records.c.number.desc()).limit(1)
    query = select(cameras.c.site, cameras.c.camera, *(newest.offset(nth).scalar_subquery() for nth in range(most)))
    return query.where(is_of(which, cameras.c.site, cameras.c.camera))


def last_set_aside(connection: Connection, which: Which) -> dict[_Name, int]:
    """When the last burst of each camera (site, camera) that was set aside was received (us). Cameras of which none
    ever was are left out. Raises DatabaseDamaged.
    """
    mine = burst_records.alias()
    last = (
        select(func.max(burst_records.c.number))
        .where(IS_HELD, burst_records.c.late == SET_ASIDE, burst_records.c.camera == cameras.c.number)
        .correlate(cameras)
        .scalar_subquery()
    )
    query = select(cameras.c.site, cameras.c.camera, *(mine.c[name] for name in _SPAN_COLUMNS))
    query = query.join_from(cameras, mine, mine.c.number == last).where(is_of(which, cameras.c.site, cameras.c.camera))
    rows = connection.execute(query).all()
    return {(site, camera): _span(*row).received_at_us for site, camera, *row in rows}


@lru_cache(maxsize=_MOST_REMEMBERED)
def _span(number: int, id_key: int, first_at_us: int, lasts_us: int, record: bytes) -> BurstSpan:
    """The newest bursts are asked for again and again. A record never changes; its number may come again."""
    last_at_us = first_at_us + lasts_us
    with named_damage(number):
        packed = unpack(record)
        return BurstSpan(joined_id(id_key, packed.id_rest), first_at_us, last_at_us, last_at_us + packed.received_us)


def _old_spans(connection: Connection, name: _Name, until_us: int, most: int) -> list[BurstSpan]:
    found = find_old_bursts(
        connection, *name, lambda times: (times.first_at_us < until_us,), is_newest_first=True, limit=most
    )
    return [BurstSpan(each.burst_id, each.first_at_us, each.last_at_us, each.received_at_us) for each in found]


def _newest(spans: list[BurstSpan], most: int) -> tuple[BurstSpan, ...]:
    return tuple(sorted(spans, key=lambda span: (span.first_at_us, span.burst_id), reverse=True)[:most])
