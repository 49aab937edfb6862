"""Leaps over the index of a camera's bursts, each as far as frames may be apart."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
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
from server.store.schema import burst_records

SAMPLE_US = 180 * SECOND_US
"""Frames that tell nothing for so long are found for certain."""


class Leap(NamedTuple):
    """A burst that is read, or (`at_us` None) the end of what is stored. `left_us`: the first frame of the burst from
    which the leap came; `before_us`: the last frame before this burst, where the leap was far.
    """

    at_us: int | None
    left_us: int | None
    before_us: int | None
    context: int | None
    lasts_us: int | None
    record: bytes | None


@lru_cache(maxsize=2)
def leaps_query(has_held: bool) -> Select[Any]:
    """The query for `Leap`s. It begins at `from_us`, or (None) at the last burst up to the stretch, or else the first.

    `has_held`: some bursts are not in the fold, and the index alone does not tell which.
    """
    since_us, until_us, least_us, from_us, longest_us, number = (
        bindparam(name, type_=BigInteger)
        for name in ("since_us", "until_us", "least_us", "from_us", "longest", "number")
    )
    first_us = burst_records.c.first_at_us
    mine = [burst_records.c.camera == number, *([burst_records.c.is_held == 0] if has_held else [])]

    def nearest(way: Any, *where: ColumnElement[bool]) -> ScalarSelect[Any]:
        return select(way(first_us)).where(*mine, *where).scalar_subquery()

    start = func.coalesce(
        cast(from_us, BigInteger),
        nearest(func.max, first_us <= since_us),
        nearest(func.min, first_us > since_us, first_us < until_us),
    )
    leaps = select(cast(null(), BigInteger).label("before_us"), start.label("at_us")).cte("leaps", recursive=True)
    far_us = leaps.c.at_us + least_us
    following = func.coalesce(
        nearest(func.max, first_us > leaps.c.at_us, first_us <= far_us), nearest(func.min, first_us > far_us)
    )
    leaps = leaps.union_all(select(leaps.c.at_us, following).where(leaps.c.at_us < until_us))
    before_us, at_us = leaps.c.before_us, leaps.c.at_us
    is_far = or_(at_us.is_(None), at_us - before_us > least_us)
    ends = select(func.max(first_us + burst_records.c.lasts_us)).where(
        *mine, first_us.between(before_us - longest_us, before_us)
    )
    end_us = case((and_(before_us.is_not(None), is_far), ends.scalar_subquery()))
    is_sample = or_(before_us.is_(None), is_far, at_us // SAMPLE_US != before_us // SAMPLE_US)
    read = burst_records.alias("read")
    on = and_(read.c.camera == number, read.c.first_at_us == at_us, read.c.is_held == 0)
    return (
        select(at_us, before_us, end_us, read.c.context, read.c.lasts_us, read.c.record)
        .select_from(leaps.outerjoin(read, on))
        .where(is_sample, or_(at_us.is_not(None), before_us.is_not(None)))
    )
