"""Leaps over the index of the bursts of cameras, each as far as frames of a camera may be apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Connection,
    ScalarSelect,
    Select,
    and_,
    bindparam,
    case,
    cast,
    func,
    null,
    or_,
    select,
)

from server.domain.times.clock import SECOND_US
from server.store.schema import burst_records, cameras

SAMPLE_US = 180 * SECOND_US
"""Frames that tell nothing for so long are found for certain."""

_AT_ONCE = 500
"""Cameras in one statement."""
_FIRST_US = burst_records.c.first_at_us


class Asked(NamedTuple):
    """A camera, by its number, that is to be looked through. `least_us`: so far apart its frames may be.

    It begins at `from_us`, or (None) at the last burst up to the stretch, or else the first. `has_held`: some bursts
    are not in the fold, and the index alone does not tell which.
    """

    number: int
    least_us: int
    from_us: int | None
    has_held: bool


class Leap(NamedTuple):
    """A burst that is read, or (`at_us` None) the end of what is stored. `left_us`: the first frame of the burst from
    which the leap came; `before_us`: the last frame before this burst, where the leap was far.
    """

    number: int
    at_us: int | None
    left_us: int | None
    before_us: int | None
    context: int | None
    lasts_us: int | None
    record: bytes | None


def read_leaps(connection: Connection, asked: Iterable[Asked], since_us: int, until_us: int) -> dict[int, list[Leap]]:
    """The leaps over each camera, by its number: a statement or two for all cameras together."""
    found: dict[int, list[Leap]] = {}
    by_held = attrgetter("has_held")
    for has_held, group in groupby(sorted(asked, key=by_held), by_held):
        some = list(group)
        for at in range(0, len(some), _AT_ONCE):
            query = _query(some[at : at + _AT_ONCE], has_held)
            for row in connection.execute(query, {"since_us": since_us, "until_us": until_us}).all():
                found.setdefault(row[0], []).append(Leap._make(row))
    return found


def _asked_for(some: Sequence[Asked]) -> CTE:
    """The cameras as rows: number, how far frames may be apart, the longest burst, and where it begins."""
    number = cameras.c.number
    columns = {
        "least_us": {each.number: each.least_us for each in some},
        "from_us": {each.number: each.from_us for each in some if each.from_us is not None},
    }
    return (
        select(number, cameras.c.longest_us, *(_each(number, values).label(name) for name, values in columns.items()))
        .where(number.in_([each.number for each in some]))
        .cte("asked")
    )


def _each(number: ColumnElement[int], values: Mapping[int, int]) -> ColumnElement[Any]:
    """The value of each number; null for others."""
    return cast(case(dict(values), value=number) if values else null(), BigInteger)


def _query(some: Sequence[Asked], has_held: bool) -> Select[Any]:
    since_us, until_us = (bindparam(name, type_=BigInteger) for name in ("since_us", "until_us"))
    in_fold = [burst_records.c.is_held == 0] if has_held else []

    def nearest(order: ColumnElement[Any], of: CTE, *where: ColumnElement[bool]) -> ScalarSelect[Any]:
        mine = select(_FIRST_US).where(burst_records.c.camera == of.c.number, *in_fold, *where)
        return mine.order_by(order).limit(1).correlate(of).scalar_subquery()  # quicker than max() and min()

    asked = _asked_for(some)
    start = func.coalesce(
        asked.c.from_us,
        nearest(_FIRST_US.desc(), asked, since_us >= _FIRST_US),
        nearest(_FIRST_US.asc(), asked, since_us < _FIRST_US, until_us > _FIRST_US),
    )
    own = ("number", "least_us", "longest_us")
    leaps = select(
        *(asked.c[name] for name in own), cast(null(), BigInteger).label("before_us"), start.label("at_us")
    ).cte("leaps", recursive=True)
    far_us = leaps.c.at_us + leaps.c.least_us
    following = func.coalesce(
        nearest(_FIRST_US.desc(), leaps, leaps.c.at_us < _FIRST_US, far_us >= _FIRST_US),
        nearest(_FIRST_US.asc(), leaps, far_us < _FIRST_US),
    )
    onwards = select(*(leaps.c[name] for name in own), leaps.c.at_us, following)
    leaps = leaps.union_all(onwards.where(leaps.c.at_us < until_us))
    before_us, at_us = leaps.c.before_us, leaps.c.at_us
    is_far = or_(at_us.is_(None), at_us - before_us > leaps.c.least_us)
    ends = select(func.max(_FIRST_US + burst_records.c.lasts_us)).where(
        burst_records.c.camera == leaps.c.number,
        *in_fold,
        _FIRST_US.between(before_us - leaps.c.longest_us, before_us),
    )
    end_us = case((and_(before_us.is_not(None), is_far), ends.correlate(leaps).scalar_subquery()))
    is_sample = or_(before_us.is_(None), is_far, at_us // SAMPLE_US != before_us // SAMPLE_US)
    read = burst_records.alias("read")
    on = and_(read.c.camera == leaps.c.number, read.c.first_at_us == at_us, read.c.is_held == 0)
    return (
        select(leaps.c.number, at_us, before_us, end_us, read.c.context, read.c.lasts_us, read.c.record)
        .select_from(leaps.outerjoin(read, on))
        .where(is_sample, or_(at_us.is_not(None), before_us.is_not(None)))
    )
